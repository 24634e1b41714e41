"""The master: joins what is seen with what is decided, and carries out the plan.

::

    one turn: plan -> do each action -> wait -> note each thing seen as a fact

Nothing is decided here and nothing waits but `Loop.poll`.  What an action
brings about is a fact of the next turn.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from supervisor import __version__
from supervisor.announcer import Announcer
from supervisor.child.birth import Birth, foreign_modules
from supervisor.child.callable import live
from supervisor.control.requests import Requests
from supervisor.control.server import Server
from supervisor.decide import actions
from supervisor.decide.actions import Action, Note
from supervisor.decide.life import Life
from supervisor.decide.stopping import Firmness, Phase
from supervisor.exits import End, signal_name
from supervisor.hook_thread import HookThread, MasterContext
from supervisor.messages import hear
from supervisor.service import Service
from supervisor.settings import Settings
from supervisor.status import Beside, iso, snapshot
from supervisor.unix.children import Children
from supervisor.unix.doors import Doors
from supervisor.unix.loop import Loop, Seen
from supervisor.unix.notify import Systemd, watchdog_interval
from supervisor.unix.process import has_children
from supervisor.unix.usage import usage

FROZEN = 1.0  # a turn so many seconds late means that the master itself did not run
RANK = {"signal": 0, "notify": 1, "hook": 2, "control": 3, "client": 3, "output": 4, "exit": 5}


class Master:
    """One life of the master, from the first turn to its exit status."""

    def __init__(
        self,
        settings: Settings,
        doors: Doors,
        loop: Loop,
        environ: Mapping[str, str],
        nofile: tuple[int, int],
    ) -> None:
        self.settings, self.doors, self.loop = settings, doors, loop
        self.life = Life(settings, random.random)
        self.children = Children(loop)
        self.announcer = Announcer(settings.master, loop)
        self.hooks = HookThread(settings)
        self.ends: dict[tuple[str, int], dict[str, Any]] = {}  # the last exit of each slot
        self._beside = Beside(os.getpid(), loop.now(), self.ends, usage)
        requests = Requests(self.life, self._picture, loop.now)
        self.server = Server(loop, doors.control.socket, requests.answer, self._server_failed)
        self.announcer.publish = self.server.publish
        self.tell = self.announcer.tell
        self.systemd = Systemd(environ)
        self.service = Service(self.life, self._notify, watchdog_interval(environ), loop.now())
        self.sender = doors.notify.sender()
        self.nofile = nofile
        self.status: int | None = None
        self._facts: list[Callable[[], None]] = []  # what actions brought about, for the next turn
        self._foreign: frozenset[str] = frozenset()
        loop.watch(doors.notify.socket.fileno(), "notify")
        loop.watch(self.hooks.fd, "hook")

    # -- turns -------------------------------------------------------------------

    def run(self) -> int:
        """Live until the plan says `Finish`; return the exit status."""
        master = self.settings.master
        self.tell(
            "master.started", name=master.name, pid=os.getpid(), file=self.settings.file, version=__version__
        )
        while self.status is None:
            try:
                self._turn()
            except Exception:  # a bug here: say so, and leave in order
                self._broke(traceback.format_exc())
        self.tell("master.exiting", status=self.status)
        return self.status

    def close(self) -> None:
        """Get the last words out; leave no child, not even one that an ``on_exit`` hook began."""
        for pid in self.children.adopted() if has_children() else ():
            os.kill(pid, signal.SIGKILL)
        self.server.finish()
        self.announcer.finish()

    def _turn(self) -> None:
        now = self.loop.now()
        for action in self.life.plan(now):
            self._do(action)
        self.service.keep_told(now)
        if self.status is None:
            self._look(self._deadline(now))

    def _deadline(self, now: float) -> float | None:
        if self._facts:
            return now
        times = (self.life.deadline(), self.server.deadline(), self.service.deadline())
        return min((t for t in times if t is not None), default=None)

    def _look(self, deadline: float | None) -> None:
        """Wait, and turn everything that happened into facts."""
        seen = self.loop.poll(deadline)
        now = self.loop.now()
        facts, self._facts = self._facts, []
        for fact in facts:
            fact()
        for one in sorted(seen, key=lambda s: RANK[s.kind]):  # messages before exits: READY, then gone
            self._note(one, now)
        if deadline is not None and now - deadline > FROZEN:
            self.life.thawed(now)
        self.server.expire(now)
        if any(one.kind == "exit" or one.key == signal.SIGCHLD for one in seen):
            self._reap()

    def _note(self, seen: Seen, now: float) -> None:
        match seen.kind:
            case "signal":
                self._note_signal(seen.key, now)
            case "notify":
                for pid, message in self.doors.notify.messages():
                    self._hear(pid, message, now)
            case "hook":
                self._note_hooks()
            case "control" | "client":
                self.server.seen(seen, now)
            case "output":
                self.announcer.flush()
            case "exit":
                self._bury(seen.key, now)

    # -- what was seen -------------------------------------------------------------

    def _note_signal(self, number: int, now: float) -> None:
        name = signal_name(number)
        match number:
            case signal.SIGTERM:
                self.life.ask(Firmness.STOP, name, now)
            case signal.SIGINT:
                self.life.interrupt(name, now)
            case signal.SIGQUIT:
                self.life.ask(Firmness.FORCE, name, now)
            case signal.SIGUSR2:
                self.life.ask(Firmness.RESTART, name, now)
            case signal.SIGTSTP | signal.SIGCONT:
                self.life.hush(number == signal.SIGTSTP)
            case signal.SIGTTIN | signal.SIGTTOU:
                self._scale(1 if number == signal.SIGTTIN else -1, now)
            case signal.SIGUSR1:
                self._reopen()
            case signal.SIGCHLD:
                for child in self.children.blind():
                    self._bury(child, now)
            case _:
                why = (
                    "reload is not built yet: SIGUSR2 restarts"
                    if number == signal.SIGHUP
                    else "it has no meaning here"
                )
                self.tell("signal.ignored", "warning", signal=name, reason=why)

    def _scale(self, step: int, now: float) -> None:
        for pool in self.life.pools.values():
            self.life.resize(pool, max(1, pool.slots.size + step), now)

    def _reopen(self) -> None:
        try:
            self.announcer.reopen()
        except OSError as error:
            self.tell("master.error", text=f"cannot reopen the log file: {error}")

    def _hear(self, pid: int, message: dict[str, str], now: float) -> None:
        number = self.children.number(pid)
        pool = None if number is None else self.life.whose(number)
        if number is not None and pool is not None:
            hear(pool, number, message, now)

    def _note_hooks(self) -> None:
        for ended in self.hooks.results():
            if ended.error:
                self.tell("hook.failed", hook=ended.hook, traceback=ended.error)
            if ended.moment == "import":
                self._foreign = foreign_modules(self.hooks.brought)
                self.life.imported(self.hooks.counts())
            error = ended.error.strip().rpartition("\n")[2] if ended.error else None
            self.life.hook_ended(ended.moment, ended.index, error)

    def _bury(self, number: int, now: float) -> None:
        buried = self.children.bury(number)
        if buried is None:
            return
        end, group = buried
        self.life.exited(number, end, now)
        if group is not None:
            self.life.outlived(group, now)

    def _reap(self) -> None:
        for pid in self.children.reap_adopted():
            self.tell("orphan.reaped", "debug", pid=pid)
        self._look_whether_alone()

    def _look_whether_alone(self) -> None:
        stop = self.life.stop
        if stop and stop.phase is Phase.HELPERS and not has_children():
            self._facts.append(self.life.alone)

    # -- what was planned ------------------------------------------------------------

    def _do(self, action: Action) -> None:  # noqa: C901  # the one place where every action has its case
        match action:
            case Note():
                self._say(action)
            case actions.Start():
                self._start(action)
            case actions.Stop(worker, replace):
                number = signal.SIGUSR2 if replace else signal.SIGTERM
                self._signal(worker, number, signal.SIGCONT)  # a stopped (T) process must be able to leave
            case actions.Quiet(worker, on):
                self._signal(worker, signal.SIGTSTP if on else signal.SIGCONT)
            case actions.Dump(worker):
                self.children.dump(worker)
            case actions.Kill(worker):
                self._kill(worker)
            case actions.KillGroup(group):
                self._end_helpers(self.children.kill_group(group))
            case actions.Sweep(kill):
                self._sweep(signal.SIGKILL if kill else signal.SIGTERM)
            case actions.Run(moment, index):
                self._run_hook(moment, index)
            case actions.Finish(status):
                self.status = status

    def _start(self, start: actions.Start) -> None:
        birth = Birth(
            master=self.settings.master,
            pool=self.settings.pools[start.pool],
            slot=start.slot,
            generation=start.generation,
            parent=os.getpid(),
            notify_path=self.doors.notify.path,
            notify_fd=self.sender.fileno(),
            nofile=self.nofile,
            foreign=self._foreign,
        )
        tell = self.announcer.for_child(worker=birth.worker, pool=start.pool, generation=start.generation)
        run = partial(live, birth, self.sender, self.settings.hooks, tell)
        self.hooks.join()
        try:
            pid = self.children.fork(start.worker, run)
        except OSError as error:
            end = End(error=f"cannot fork: {error.strerror}")
            self._facts.append(lambda: self.life.exited(start.worker, end, self.loop.now()))
            return
        pool = self.life.pools[start.pool]
        self._facts.append(lambda: pool.started(start.worker, pid))

    def _signal(self, worker: int, *numbers: signal.Signals) -> None:
        if not self.children.signal(worker, *numbers):
            self.tell(
                "master.error",
                text=f"may not signal process {self.children.pid(worker)}: it has another user",
            )

    def _kill(self, worker: int) -> None:
        pool = self.life.whose(worker)
        if pool is not None and (text := self.children.stacks(worker)):
            self._say(Note("worker.stack", pool.workers[worker], {"stack": text}))
        if not self.children.kill(worker):
            self.tell(
                "master.error", text=f"may not kill process {self.children.pid(worker)}: it has another user"
            )

    def _sweep(self, number: signal.Signals) -> None:
        if has_children():
            left = self.children.adopted()
            for pid in left:
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)
            self._end_helpers(len(left))
        self._look_whether_alone()

    def _end_helpers(self, count: int) -> None:
        if count:
            self.tell("orphans.ended", count=count)

    def _run_hook(self, moment: str, index: int) -> None:
        stop, master = self.life.stop, self.settings.master
        context = MasterContext(
            name=master.name,
            file=self.settings.file,
            pid=os.getpid(),
            stop_reason=stop.reason if stop else None,
            restarting=bool(stop and stop.firmness is Firmness.RESTART),
        )
        self.hooks.run(moment, index, context)

    # -- saying ----------------------------------------------------------------------

    def _say(self, note: Note) -> None:
        fields, worker = dict(note.fields), note.worker
        if note.event == "hook.timeout":
            fields["hook"] = self.hooks.name_of(fields["hook"], fields.pop("index"))
        if worker is not None:
            fields = {
                "worker": worker.name,
                "pool": worker.pool,
                "pid": worker.pid,
                "generation": worker.generation,
                **fields,
            }
            if note.event in ("worker.exited", "worker.failed"):
                self.ends[worker.pool, worker.slot] = {
                    **{key: fields[key] for key in ("code", "signal", "reason")},
                    "at": iso(time.time()),
                }
        self.announcer.tell(note.event, **fields)
        self.service.hear(note.event, fields)

    def _picture(self) -> dict[str, Any]:
        return snapshot(self.life, self._beside, self.loop.now())

    def _notify(self, **fields: object) -> None:
        """To the service manager; a way that is closed is told once."""
        before = self.systemd.problem
        self.systemd.send(**fields)
        if self.systemd.problem and not before:
            self.tell("service.unreachable", "warning", reason=self.systemd.problem)

    def _server_failed(self, error: Exception) -> None:
        self.tell("master.error", traceback="".join(traceback.format_exception(error)))

    def _broke(self, trace: str) -> None:
        self.tell("master.error", traceback=trace)
        if self.life.broken:  # a second time: nothing here can be trusted any more
            self.status = 1
            for worker in [id for pool in self.life.pools.values() for id in pool.workers]:
                self.children.kill(worker)
        self.life.fail("internal error", self.loop.now())
