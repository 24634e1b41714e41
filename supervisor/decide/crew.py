"""Who works in one pool, in what state, and what each is told.

The counts follow every change of state, so nobody is counted again.  Knows
lateness and wear; knows nothing of slots, of who comes after whom, or of when a
worker is to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from supervisor.decide.actions import Action, Continue, Measure, Note, Quiet, Stop
from supervisor.decide.lateness import Lateness
from supervisor.decide.wear import Wear, by_age
from supervisor.decide.worker import State, Worker
from supervisor.settings import PoolSettings

MOST_HALTS = 3  # stopped so often, a worker of the master's own is ended


class Crew:
    """The workers of one pool by number; `leaves` hears of each that serves no more."""

    def __init__(
        self, name: str, ids: Iterator[int], random: Callable[[], float], leaves: Callable[[Worker], None]
    ) -> None:
        self.workers: dict[int, Worker] = {}
        self.forking = self.up = 0  # counted as they change, held by a property test
        self.serving: dict[int, int] = {}  # generation to workers that are not on their way out
        self.quiet = False
        self.late, self.wear = Lateness(self._become), Wear(random)
        self._news: list[Action] = []  # what facts brought about, for the next plan
        self._name, self._ids, self._leaves = name, ids, leaves

    # -- facts -----------------------------------------------------------------

    def bear(self, index: int, generation: int, settings: PoolSettings, now: float) -> Worker:
        """A fork is planned."""
        worker = Worker(next(self._ids), self._name, index, generation, now, settings)
        self.workers[worker.id] = worker
        self.late.expect_ready(worker)
        self.forking += 1
        self.serving[generation] = self.serving.get(generation, 0) + 1
        return worker

    def started(self, id: int, pid: int) -> None:
        """The fork worked."""
        worker = self.workers.get(id)
        if worker is None or worker.pid is not None:
            return
        worker.pid = pid
        self.tell(Note("worker.started", worker))
        if worker.state is State.FORKING:
            self._become(worker, State.STARTING)
        elif worker.asked_at is not None:  # before there was anybody to tell
            self.tell(Stop(worker.id, worker.replace))

    def ready(self, id: int, now: float) -> Worker | None:
        """The worker said READY=1, or its program runs; return it if that is news."""
        worker = self.workers.get(id)
        if worker is None or worker.dumped or worker.state not in (State.FORKING, State.STARTING):
            return None
        self._become(worker, State.READY)
        worker.ready_at = worker.beaten_at = now
        self.late.expect_beat(worker)
        self.wear.ready(worker, now)
        self.tell(Note("worker.ready", worker, {"seconds": now - worker.born_at}))
        if self.quiet:
            self._tell_quiet(worker)
        return worker

    def beat(self, id: int, now: float) -> None:
        """The worker said WATCHDOG=1."""
        if worker := self.workers.get(id):
            worker.beaten_at = now  # the deadline looks at this when it is due

    def extended(self, id: int, until: float) -> None:
        """The worker needs so long to become ready."""
        if worker := self.workers.get(id):
            self.late.extend(worker, until)

    def told(
        self, id: int, jobs: int | None, in_flight: int | None, text: str | None, error: str | None
    ) -> Worker | None:
        """What the worker says of itself."""
        if worker := self.workers.get(id):
            worker.jobs = worker.jobs if jobs is None else jobs
            worker.in_flight = worker.in_flight if in_flight is None else in_flight
            worker.text = worker.text if text is None else text
            worker.error = worker.error if error is None else error
        return worker

    def acknowledged(self, id: int, now: float) -> None:
        """The worker said STOPPING=1: it takes no new work."""
        worker = self.workers.get(id)
        if worker is None or worker.acknowledged_at is not None:
            return
        worker.acknowledged_at = now
        if not worker.leaving:  # somebody else asked it: kill -TERM WORKER
            self._expect_exit(worker, now, now + worker.settings.stop_timeout)
        after = None if worker.asked_at is None else now - worker.asked_at
        self.tell(Note("worker.acknowledged", worker, {"seconds": after}))

    def halted(self, id: int) -> None:
        """Somebody has stopped it (SIGSTOP), and nobody may: it goes on, or the third time is replaced."""
        worker = self.workers.get(id)
        if worker is None:
            return
        worker.halts += 1
        if worker.halts < MOST_HALTS:
            self.tell(Note("worker.continued", worker))
            self.tell(Continue(id))
        else:
            self.late.force(worker, "it was stopped again and again")

    def gone(self, worker: Worker) -> None:
        """It was reaped, or could not be forked."""
        del self.workers[worker.id]
        self._become(worker, State.KILLED)
        self.late.forget(worker)
        self.wear.forget(worker)

    def _become(self, worker: Worker, state: State) -> None:
        """The one place where a state changes, so that the counts follow."""
        left = worker.leaving
        self.forking -= worker.state is State.FORKING
        self.up += (state is State.READY) - (worker.state is State.READY)
        worker.state = state
        if worker.leaving and not left:
            self.serving[worker.generation] -= 1
            if not self.serving[worker.generation]:
                del self.serving[worker.generation]
            self._leaves(worker)

    # -- wishes ----------------------------------------------------------------

    def ask(
        self,
        worker: Worker,
        now: float,
        *,
        replace: bool,
        reason: str | None = None,
        latest: float | None = None,
    ) -> None:
        """Tell it to leave, once; SIGKILL follows after its stop_timeout, or at ``latest``."""
        if worker.state is State.KILLED or worker.asked_at is not None:
            return
        kill_at = now + worker.settings.stop_timeout
        worker.asked_at, worker.replace = now, replace
        self._expect_exit(worker, now, kill_at if latest is None else min(kill_at, latest))
        self.tell(Note("worker.stopping", worker, {"replace": replace, "reason": reason}))
        if worker.pid is not None:  # else it is told as soon as it is there
            self.tell(Stop(worker.id, replace))

    def leave(self, now: float, kill_at: float, *, replace: bool) -> None:
        """Tell everybody to leave; SIGKILL follows at ``kill_at``, or by their own stop_timeout."""
        for worker in self.workers.values():
            if worker.asked_at is None:
                self.ask(worker, now, replace=replace, latest=kill_at)
            else:  # a second TERM means to many a program that it is to cut its work
                self._expect_exit(worker, now, kill_at)

    def _expect_exit(self, worker: Worker, now: float, kill_at: float) -> None:
        self.wear.forget(worker)
        self.late.expect_exit(worker, now, kill_at)

    def force(self) -> None:
        """SIGKILL everybody now."""
        for worker in self.workers.values():
            self.late.force(worker, "the stop was forced")

    def thawed(self, now: float) -> None:
        """The master did not run for a while, so it could hear nobody."""
        for worker in self.workers.values():
            self.late.thawed(worker, now)

    def hush(self, on: bool) -> None:
        """Take no new work, or take work again."""
        if on is not self.quiet:
            self.quiet = on
            for worker in self.workers.values():
                if worker.state is State.READY:
                    self._tell_quiet(worker)

    def _tell_quiet(self, worker: Worker) -> None:
        if worker.settings.command is None:  # a program that knows nothing of it would be stopped by TSTP
            worker.quiet = self.quiet
            self.tell(Quiet(worker.id, self.quiet))

    # -- what is due -----------------------------------------------------------

    def overdue(self, now: float) -> list[Action]:
        """Whoever is late is a step nearer to SIGKILL."""
        due = [self.workers[id] for id in self.late.due(now)]
        return [action for worker in due for action in self.late.overdue(worker, now)]

    def aged(self, now: float) -> list[Worker]:
        """Those who have come of age, and are worn by that."""
        return [w for w in self.wear.aged(self.workers, now) if self.wear_out(w, by_age(w))]

    def measure(self, now: float) -> list[Action]:
        """Whose memory is to be read."""
        due = self.wear.to_measure(self.workers, now)
        return [Measure(tuple(due))] if due else []

    def wear_out(self, worker: Worker, reason: str | None) -> bool:
        """It is to be replaced though it works; true where that is news."""
        if reason is None or worker.worn is not None or worker.state is not State.READY:
            return False
        worker.worn = reason
        self.wear.forget(worker)
        self.tell(Note("worker.worn", worker, {"reason": reason}))
        return True

    def tell(self, action: Action) -> None:
        """Something that is to be in the next plan."""
        self._news.append(action)

    def take_news(self) -> list[Action]:
        """What facts brought about since the last time."""
        news, self._news = self._news, []
        # Who was to be told something may have gone in the same instant.
        return [a for a in news if not isinstance(a, Stop | Quiet | Continue) or a.worker in self.workers]
