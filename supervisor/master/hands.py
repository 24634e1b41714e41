"""How the master carries out a plan: each action, and what comes of it as a fact.

Decides nothing.  A fork that fails is the fact that the worker exited.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from supervisor.child.birth import Birth
from supervisor.child.callable import live
from supervisor.decide import actions
from supervisor.decide.actions import Action, Note
from supervisor.decide.life import Life
from supervisor.decide.stopping import Firmness, Phase
from supervisor.exits import End
from supervisor.hook_thread import HookThread, MasterContext
from supervisor.master.voice import Voice
from supervisor.settings import Settings
from supervisor.unix import title
from supervisor.unix.children import Children
from supervisor.unix.notify import Receiver
from supervisor.unix.process import has_children, send

Fact = Callable[[], None]


class Hands:
    """Everything that the master does to the world."""

    def __init__(
        self,
        settings: Settings,
        life: Life,
        *,
        children: Children,
        hooks: HookThread,
        voice: Voice,
        notify: Receiver,
        nofile: tuple[int, int],
    ) -> None:
        self.foreign: frozenset[str] = frozenset()  # modules that only the master's hooks brought in
        self._warned_of_threads = False
        self.status: int | None = None  # the exit status, once the plan says so
        self.facts: list[Fact] = []  # what actions brought about, for the next turn
        self._settings, self._life, self._children = settings, life, children
        self._hooks, self._voice, self._nofile = hooks, voice, nofile
        self._title = title.find()
        self._title.set(f"{settings.master.name}: master ({settings.file})", settings.master.name)
        self._notify_path, self._sender = notify.path, notify.sender()

    def carry_out(self, plan: Iterable[Action]) -> None:
        """Do everything that was planned; the forks last, and all at once."""
        starts: list[actions.Start] = []
        for action in plan:
            if isinstance(action, actions.Start):
                starts.append(action)
            else:
                self._do(action)
        if starts:
            self._start_or_tell(starts)

    def _do(self, action: Action) -> None:  # the one place where every action has its case
        match action:
            case Note():
                self._voice.say(action)
            case actions.Stop(worker, replace):
                number = signal.SIGUSR2 if replace else signal.SIGTERM
                self._signal(worker, number, signal.SIGCONT)  # a stopped (T) process must be able to leave
            case actions.Quiet(worker, on):
                self._signal(worker, signal.SIGTSTP if on else signal.SIGCONT)
            case actions.Dump(worker):
                self._children.dump(worker)
            case actions.Kill(worker):
                self._kill(worker)
            case actions.KillGroup(group):
                self._end_helpers(self._children.kill_group(group))
            case actions.Sweep(kill):
                self._sweep(signal.SIGKILL if kill else signal.SIGTERM)
            case actions.Run(moment, index):
                self._run_hook(moment, index)
            case actions.Finish(status):
                self.status = status

    def kill_everybody(self) -> None:
        """When nothing else can be trusted any more."""
        for pool in self._life.pools.values():
            for worker in pool.workers:
                self._children.kill(worker)

    def look_whether_alone(self) -> None:
        """In the phase that waits for it: is neither a worker nor a helper left?"""
        stop = self._life.stop
        if stop and stop.phase is Phase.HELPERS and self._children.alone():
            self.facts.append(self._life.alone)

    # -- starting ------------------------------------------------------------------

    def _start_or_tell(self, starts: Sequence[actions.Start]) -> None:
        """Whatever goes wrong here, no worker is waited for that was never born."""
        try:
            self._start(starts)
        except BaseException:
            end = End(error="an internal error, before it was forked")
            unborn = [start.worker for start in starts if self._children.pid(start.worker) is None]
            self.facts += [partial(self._life.exited, id, end, self._children.now()) for id in unborn]
            raise

    def _start(self, starts: Sequence[actions.Start]) -> None:
        jobs = [(start.worker, self._worker_of(start)) for start in starts]
        self._warn_of_threads()
        for start, outcome in zip(starts, self._children.fork_all(jobs), strict=True):
            self.facts.append(self._fact_of(start, outcome))

    def _worker_of(self, start: actions.Start) -> Callable[[], int]:
        """What the forked process is to run."""
        birth = self._birth(start)
        tell = self._voice.announcer.for_child(
            worker=birth.worker, pool=start.pool, generation=start.generation
        )
        return partial(live, birth, self._sender, self._settings.hooks, tell)

    def _fact_of(self, start: actions.Start, outcome: int | OSError) -> Fact:
        if isinstance(outcome, int):
            return partial(self._life.pools[start.pool].started, start.worker, outcome)
        end = End(error=f"cannot fork: {outcome.strerror}")
        return lambda: self._life.exited(start.worker, end, self._children.now())

    def _warn_of_threads(self) -> None:
        """Locks that another thread holds at a fork stay locked in the child: say so, once."""
        self._hooks.join()
        others = self._hooks.others()
        if others and not self._warned_of_threads:
            self._warned_of_threads = True
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
            beside = f"forking beside {len(others)} other threads ({', '.join(others)})"
            self._voice.tell("master.warning", reason=f"{beside}: a worker may inherit a lock")

    def _birth(self, start: actions.Start) -> Birth:
        return Birth(
            master=self._settings.master,
            pool=self._settings.pools[start.pool],
            slot=start.slot,
            generation=start.generation,
            parent=os.getpid(),
            notify_path=self._notify_path,
            notify_fd=self._sender.fileno(),
            nofile=self._nofile,
            title=self._title,
            foreign=self.foreign,
        )

    # -- ending --------------------------------------------------------------------

    def _signal(self, worker: int, *numbers: signal.Signals) -> None:
        if not self._children.signal(worker, *numbers):
            self._denied(worker)

    def _kill(self, worker: int) -> None:
        pool = self._life.whose(worker)
        if pool is not None and (text := self._children.stacks(worker)):
            self._voice.say(Note("worker.stack", pool.workers[worker], {"stack": text}))
        if not self._children.kill(worker):
            self._denied(worker)

    def _denied(self, number: int) -> None:
        """EPERM: the worker has become another user, and we are not root."""
        pool = self._life.whose(number)
        if pool is not None:
            self._voice.say(Note("signal.denied", pool.workers[number]))

    def _sweep(self, number: signal.Signals) -> None:
        if has_children():
            left = self._children.helpers()
            for pid in left:
                send(pid, number)
                send(pid, signal.SIGCONT)
            self._end_helpers(len(left))
        self.look_whether_alone()

    def _end_helpers(self, count: int) -> None:
        if count:
            self._voice.tell("orphans.ended", count=count)

    # -- hooks ---------------------------------------------------------------------

    def _run_hook(self, moment: str, index: int) -> None:
        stop, master = self._life.stop, self._settings.master
        context = MasterContext(
            name=master.name,
            file=self._settings.file,
            pid=os.getpid(),
            stop_reason=stop.reason if stop else None,
            restarting=bool(stop and stop.firmness is Firmness.RESTART),
        )
        self._hooks.run(moment, index, context)
