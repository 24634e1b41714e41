"""How the master carries out a plan: each action, and what comes of it as a fact.

Decides nothing.  A fork that fails is the fact that the worker exited.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Sequence
from functools import partial

from supervisor.decide import actions
from supervisor.decide.actions import Action, Note
from supervisor.decide.life import Life, Plan
from supervisor.decide.stopping import Firmness, Phase
from supervisor.decide.task_actions import Ask, Reply, Save
from supervisor.decide.worker import Worker
from supervisor.errors import SupervisorError
from supervisor.exits import End, signal_number
from supervisor.hook_thread import HookThread, MasterContext
from supervisor.master.births import Births
from supervisor.master.editions import Editions
from supervisor.master.voice import Voice
from supervisor.unix.children import Children
from supervisor.unix.process import has_children, send
from supervisor.unix.usage import DUMP_SIGNAL

Fact = Callable[[], None]
SIGNALS = (actions.Stop, actions.Quiet)


class Hands:
    """Everything that the master does to the world."""

    def __init__(
        self,
        life: Life,
        editions: Editions,
        births: Births,
        *,
        children: Children,
        voice: Voice,
        hooks: HookThread,
    ) -> None:
        self._warned_of_threads = False
        self.status: int | None = None  # the exit status, once the plan says so
        self.reply: Callable[[Reply], None] = lambda _: None  # to who commanded something of tasks
        self.facts: list[Fact] = []  # what actions brought about, for the next turn
        self._life, self._editions, self._births = life, editions, births
        self._children, self._hooks, self._voice = children, hooks, voice

    def carry_out(self, plan: Plan) -> None:
        """Do everything that was planned; the forks last, and all at once.

        Workers are signalled and forked before they are spoken of: they do their part meanwhile.
        All else is said at its time: the service manager hears of a stop before they do.
        """
        starts: list[actions.Start] = []
        notes: list[Note] = []
        try:
            for action in plan:
                if isinstance(action, actions.Start):
                    starts.append(action)
                elif isinstance(action, Note) and action.worker is not None:
                    notes.append(action)
                else:
                    if not isinstance(action, SIGNALS):
                        self._say(notes)
                    self._do(action)
            if starts:
                self._start_or_tell(starts)
        finally:
            self._say(notes)

    def _say(self, notes: list[Note]) -> None:
        while notes:
            self._voice.say(notes.pop(0))

    def _do(self, action: Action | Save | Ask | Reply) -> None:  # noqa: C901, PLR0912  # every action has its case here
        match action:
            case Note():
                self._voice.say(action)
            case actions.Stop(id, replace):
                self._stop(id, replace=replace)
            case actions.Quiet(id, on):
                self._signal(id, signal.SIGTSTP if on else signal.SIGCONT)
            case actions.Continue(id):
                self._signal(id, signal.SIGCONT)
            case actions.Dump(id, abort):
                self._dump(id, abort=abort)
            case actions.Measure(ids):
                self._births.meter.ask(pid for id in ids if (pid := self._children.pid(id)))
            case actions.Kill(id):
                self._kill(id)
            case actions.KillGroup(group):
                self._end_helpers(self._children.kill_group(group))
            case actions.Sweep(kill):
                self._sweep(signal.SIGKILL if kill else signal.SIGTERM)
            case actions.Run(moment, index):
                self._run_hook(moment, index)
            case actions.Listen():
                self._listen()
            case actions.Prepare(generation):
                self._prepare(generation)
            case actions.Commit(generation):
                self._editions.commit(generation)
            case actions.Undo(generation):
                self._editions.undo(generation)
            case Save(token, rows):
                self._births.stores.save(token, rows)
            case Ask(token, question):
                self._births.stores.ask(token, question)
            case Reply():
                self.reply(action)
            case actions.Finish(status):
                self.status = status

    def kill_everybody(self) -> None:
        """When nothing else can be trusted any more."""
        for pool in self._life.everybody:
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
        self._warn_of_threads()
        self.facts += self._births.start(starts)

    def _warn_of_threads(self) -> None:
        """Locks that another thread holds at a fork stay locked in the child: say so, once."""
        self._hooks.join()
        others = self._hooks.others()
        if others and not self._warned_of_threads:
            self._warned_of_threads = True
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
            beside = f"forking beside {len(others)} other threads ({', '.join(others)})"
            self._voice.tell("master.warning", reason=f"{beside}: a worker may inherit a lock")

    def _listen(self) -> None:
        opening, now = self._life.opening, self._children.now()
        try:
            taken = self._editions.listen()
        except SupervisorError as error:
            self.facts.append(partial(opening.refused, str(error)))
        else:
            held = taken and partial(opening.taken, taken.address, taken.holders, taken.error, now)
            self.facts.append(held or partial(opening.opened, now))

    # -- a reload ------------------------------------------------------------------

    def _prepare(self, generation: int) -> None:
        warn = partial(self._voice.tell, "reload.warning", "warning")
        try:
            found = self._births.answered()
            settings, changed = self._editions.prepare(generation, found, lambda line: warn(reason=line))
            stored = found.stored
        except (SupervisorError, OSError) as error:
            self.facts.append(partial(self._life.refused, str(error)))
        else:
            self.facts.append(partial(self._life.prepared, settings, changed, stored))

    # -- ending --------------------------------------------------------------------

    def _worker(self, id: int) -> Worker | None:
        pool = self._life.whose(id)
        return pool.workers.get(id) if pool else None

    def _stop(self, id: int, *, replace: bool) -> None:
        """Its stop signal, and CONT: a stopped (T) process must be able to leave."""
        worker = self._worker(id)
        if worker is None:
            return
        number = signal.SIGUSR2 if replace else signal.SIGTERM
        if worker.settings.command is not None:  # of USR2 it knows nothing
            number = signal.Signals(signal_number(worker.settings.stop_signal))
        self._signal(id, number, signal.SIGCONT)

    def _dump(self, id: int, *, abort: bool) -> None:
        worker = self._worker(id)
        if worker is None:
            return
        if worker.settings.command is None:
            self._children.dump(id, DUMP_SIGNAL)
        else:  # an ordinary program would die of our signal, and say nothing
            self._children.dump(id, signal.SIGABRT if abort else None)

    def _signal(self, worker: int, *numbers: signal.Signals) -> None:
        if not self._children.signal(worker, *numbers):
            self._denied(worker)

    def _kill(self, id: int) -> None:
        worker = self._worker(id)
        if worker is not None and (text := self._children.stacks(id)):
            self._voice.say(Note("worker.stack", worker, {"stack": text}))
        if worker is not None and worker.pid is None:
            for template in self._life.everybody.condemn_template(worker):
                self._children.kill(template)
        elif not self._children.kill(id):
            self._denied(id)

    def _denied(self, id: int) -> None:
        """EPERM: the worker has become another user, and we are not root."""
        if worker := self._worker(id):
            self._voice.say(Note("signal.denied", worker))

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
        stop, master = self._life.stop, self._editions.current.master
        context = MasterContext(
            name=master.name,
            file=self._editions.current.file,
            pid=os.getpid(),
            stop_reason=stop.reason if stop else None,
            restarting=bool(stop and stop.firmness is Firmness.RESTART),
        )
        self._hooks.run(moment, index, context)
