"""The master: joins what is seen with what is decided, and carries out the plan.

::

    one turn: plan -> do each action -> wait -> note each thing seen as a fact

Nothing is decided here and nothing waits but `Loop.poll`.  What an action
brings about is a fact of the next turn.  `hands` carries out, `voice` tells.
"""

from __future__ import annotations

import math
import os
import signal
import traceback
from collections.abc import Mapping
from typing import Any

from supervisor import __version__
from supervisor.announcer import Announcer
from supervisor.child.birth import foreign_modules
from supervisor.control.requests import Requests
from supervisor.control.server import Server
from supervisor.decide.inner import is_inner
from supervisor.decide.life import Life
from supervisor.decide.pool import Pool
from supervisor.decide.stopping import Firmness
from supervisor.errors import StartError
from supervisor.exits import Exit, signal_name
from supervisor.hook_thread import HookThread
from supervisor.master.births import Births
from supervisor.master.editions import Editions
from supervisor.master.hands import Hands
from supervisor.master.voice import Voice, identity
from supervisor.master.words import Words
from supervisor.messages import hear
from supervisor.settings import Settings
from supervisor.status import Beside, snapshot
from supervisor.unix.children import Children
from supervisor.unix.doors import Doors
from supervisor.unix.drains import STDERR, STDOUT, Last, kept_from
from supervisor.unix.loop import Loop, Seen
from supervisor.unix.process import end, has_children
from supervisor.unix.usage import usage

LAST_SWEEPS = 3  # a killed process may leave children of its own, which come to us
FROZEN = 1.0  # a turn so many seconds late means that the master itself did not run
# Messages before exits: a worker that said READY and is gone was ready.
# The answers of templates first of all: a worker's pid must be known before it is heard or buried.
ORDER = "signal template notify hook control client output drain meter told exit"
RANK = {kind: place for place, kind in enumerate(ORDER.split())}


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
        self.doors, self.loop = doors, loop
        self.life = Life(settings, _chance, (kept_from(STDOUT), kept_from(STDERR)))
        if taken := doors.taken:
            self.life.opening.taken(taken.address, taken.holders, taken.error, loop.now())
        self.children = Children(loop)
        self.hooks = HookThread(settings)
        self.announcer = Announcer(settings.master, loop)
        self.voice = Voice(self.life, self.announcer, self.hooks, environ, loop.now())
        self.tell = self.announcer.tell
        self.words = Words(self.tell)
        self.editions = Editions(settings, doors, self.announcer, self.hooks, loop)
        self.births = Births(
            self.editions,
            self.life,
            doors,
            loop,
            children=self.children,
            voice=self.voice,
            environ=environ,
            nofile=nofile,
        )
        self.hands = Hands(
            self.life, self.editions, self.births, children=self.children, voice=self.voice, hooks=self.hooks
        )
        self._beside = Beside(os.getpid(), loop.now(), self.voice.ends, usage, lambda: self.voice.last_reload)
        requests = Requests(self.life, self._picture, loop.now)
        self.server = Server(loop, doors.control.socket, requests.answer, self._server_failed)
        self.announcer.publish = self.server.publish
        for receiver in doors.receivers():
            loop.watch(receiver.socket.fileno(), "notify")
        loop.watch(self.hooks.fd, "hook")

    # -- turns ---------------------------------------------------------------------

    def run(self) -> int:
        """Live until the plan says `Finish`; return the exit status."""
        name, file = self.editions.current.master.name, self.editions.current.file
        self.tell("master.started", name=name, pid=os.getpid(), file=file, version=__version__)
        while self.hands.status is None:
            try:
                self._turn()
            except Exception:  # a bug here: say so, and leave in order
                self._broke(traceback.format_exc())
        self.voice.wait_no_longer(math.inf)
        self.tell("master.exiting", status=self.hands.status)
        return self.hands.status

    def close(self) -> None:
        """Get the last words out; leave no child, not even one that an ``on_exit`` hook began."""
        for _ in range(LAST_SWEEPS):
            for pid in self.children.adopted() if has_children() else ():
                end(pid)
        self.births.close()
        self.server.finish()
        self.announcer.finish()

    def _turn(self) -> None:
        now = self.loop.now()
        self.hands.carry_out(self.life.plan(now))
        self.voice.service.keep_told(now)
        if self.hands.status is None:
            self._look(self._deadline(now))

    def _deadline(self, now: float) -> float | None:
        if self.hands.facts:
            return now
        others = (self.server.deadline(), self.voice.deadline(), self.voice.service.deadline())
        times = (self.life.deadline(), *others)
        return min((t for t in times if t is not None), default=None)

    def _look(self, deadline: float | None) -> None:
        """Wait, and turn everything that happened into facts."""
        seen = self.loop.poll(deadline)
        now = self.loop.now()
        facts, self.hands.facts = self.hands.facts, []
        for fact in facts:
            fact()
        for one in sorted(seen, key=lambda s: RANK[s.kind]):
            self._note(one, now)
        if deadline is not None and now - deadline > FROZEN:
            self.life.thawed(now)
        self.voice.wait_no_longer(now)
        self.server.expire(now)
        if any(one.kind == "exit" or one.key == signal.SIGCHLD for one in seen):
            self._reap()

    def _broke(self, trace: str) -> None:
        self.tell("master.error", traceback=trace)
        if self.life.broken is not None:  # a second time: nothing here can be trusted any more
            self.hands.status = Exit.FAILED
            self.hands.kill_everybody()
        self.life.fail("internal error", self.loop.now())

    # -- what was seen -------------------------------------------------------------

    def _note(self, seen: Seen, now: float) -> None:  # noqa: C901  # one kind of thing a case
        match seen.kind:
            case "signal":
                self._note_signal(seen.key, now)
            case "notify":
                for receiver in self.doors.receivers():
                    for pid, message in receiver.messages():
                        self._hear(pid, message, now)
            case "template":
                self.births.learn()
            case "drain":
                self._note_output()
            case "meter":
                self._note_memory()
            case "told":
                self._note_exec(seen.key, now)
            case "hook":
                self._note_hooks()
            case "control" | "client":
                self.server.seen(seen, now)
            case "output":
                self.announcer.flush()
            case "exit":
                self._bury(seen.key, now)

    def _note_signal(self, number: int, now: float) -> None:  # noqa: C901  # one signal of the contract a case
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
                for child in self.children.halted(self.life.everybody.of_the_master()):
                    self.life.everybody.halted(child)
            case signal.SIGHUP:
                self.life.renew(name, now)
            case _:
                self.tell("signal.ignored", "warning", signal=name, reason="it has no meaning here")

    def _scale(self, step: int, now: float) -> None:
        for pool in self.life.pools.values():
            self.life.resize(pool, max(1, pool.slots.size + step), now)

    def _reopen(self) -> None:
        try:
            self.announcer.reopen()
        except StartError as error:
            self.tell("log.failed", reason=str(error))
        self.births.drains.reopen()

    def _hear(self, pid: int, message: dict[str, str], now: float) -> None:
        if found := self._found(pid):
            pool, number = found
            hear(pool, number, message, now)
            if said := message.get("X_LOG"):
                self.words.hear(number, identity(pool.workers[number]), said, now)

    def _found(self, pid: int) -> tuple[Pool, int] | None:
        """Whose pid that is, and the worker's number."""
        number = self.children.number(pid)
        pool = None if number is None else self.life.whose(number)
        return None if number is None or pool is None else (pool, number)

    def _note_exec(self, number: int, now: float) -> None:
        pool = self.life.whose(number)
        if (
            self.births.executed(number)
            and pool is not None
            and pool.workers[number].settings.ready == "auto"
        ):
            pool.ready(number, now)

    def _note_output(self) -> None:
        for told in self.births.drains.seen():
            if isinstance(told, Last):
                self.voice.lines(told.number, told.lines)
            else:
                self.tell("output.lost", reason=str(told), dropped=told.dropped, cut=told.cut)

    def _note_memory(self) -> None:
        for pid, used in self.births.meter.answers().items():
            if found := self._found(pid):
                pool, number = found
                pool.measured(number, used)

    def _note_hooks(self) -> None:
        for ended in self.hooks.results():
            if ended.error:
                self.tell("hook.failed", hook=ended.hook, traceback=ended.error)
            if ended.moment == "import":
                self.births.foreign = foreign_modules(self.hooks.brought)
                self.life.imported(self.hooks.counts())
            error = ended.error.strip().rpartition("\n")[2] if ended.error else None
            self.life.hook_ended(ended.moment, ended.index, error)

    def _bury(self, number: int, now: float) -> None:
        buried = self.children.bury(number)
        if buried is None:
            return
        end, group = buried
        self.words.forget(number)
        if self.births.drains.gone(number):
            self.voice.await_lines(number)
        pool = self.life.whose(number)
        self.life.exited(number, end, now)
        if pool is not None and is_inner(pool.name):
            self.births.template_gone(pool.name)
        if group is not None:
            self.life.outlived(group, now)

    def _reap(self) -> None:
        for pid in self.children.reap_adopted():
            self.tell("orphan.reaped", pid=pid)
        self.hands.look_whether_alone()

    # -- for the control socket ----------------------------------------------------

    def _picture(self) -> dict[str, Any]:
        return snapshot(self.life, self._beside, self.loop.now())

    def _server_failed(self, error: Exception) -> None:
        self.tell("master.error", traceback="".join(traceback.format_exception(error)))


def _chance() -> float:
    """A number from 0 to 1, for jitter; `random` would cost the master memory."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
