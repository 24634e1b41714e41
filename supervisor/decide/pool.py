"""What one pool of workers should do next.

Facts go in (`started`, `ready`, `exited`, `resize`, ...), `plan` returns the
difference between what is and what is wanted.  It is level-triggered: facts may
come in any order, twice, or late.  Each turn costs what changed: deadlines and
vacant slots are in heaps, and strength is counted as it changes.

It knows nothing of other pools, of processes, or of why it is told to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from supervisor.decide.actions import Action, Dump, Kill, Note, Quiet, Start, Stop
from supervisor.decide.deadlines import Deadlines
from supervisor.decide.obituary import obituary
from supervisor.decide.restarts import Breaker, Verdict, judge
from supervisor.decide.slots import Slots
from supervisor.decide.worker import State, Worker
from supervisor.exits import End
from supervisor.settings import PoolSettings

FORKS_AT_ONCE = 16  # so that signals are served between the forks of a large pool
DUMP_SECONDS = 0.3  # how long before its SIGKILL a worker is asked for its stacks
KILL_AGAIN = 1.0  # a worker in an uninterruptible sleep may need more than one


class Pool:
    """The picture of one pool, and the wish."""

    def __init__(self, settings: PoolSettings, ids: Iterator[int], random: Callable[[], float]) -> None:
        self.settings = settings
        self.name = settings.name
        self.generation = 1
        self.workers: dict[int, Worker] = {}
        self.slots = Slots()
        self.slots.resize(settings.workers)
        self.forking = self.up = self.restarts = 0  # counted as they change, held by a property test
        self.quiet = self.paused = self.holding = self.parked = False
        self.degraded: bool | None = None  # None until it was at strength once
        self._ids, self._random = ids, random
        self._breaker = Breaker(settings.max_restarts, settings.within)
        self._deadlines: Deadlines[int] = Deadlines()
        self._news: list[Action] = []  # what facts brought about, for the next plan

    # -- facts about one worker ------------------------------------------------

    def started(self, id: int, pid: int) -> None:
        """The fork worked."""
        worker = self.workers.get(id)
        if worker is None or worker.pid is not None:
            return
        worker.pid = pid
        self._news.append(Note("worker.started", worker))
        if worker.state is State.FORKING:
            self._become(worker, State.STARTING)
            if not worker.dumped:
                self._deadlines.set(id, worker.born_at + self.settings.start_timeout)

    def ready(self, id: int, now: float) -> None:
        """The worker said READY=1."""
        worker = self.workers.get(id)
        if worker is None or worker.dumped or worker.state not in (State.FORKING, State.STARTING):
            return
        self._become(worker, State.READY)
        worker.ready_at = worker.beaten_at = now
        self._deadlines.drop(id)
        self._expect_beat(worker)
        self._news.append(Note("worker.ready", worker, {"seconds": now - worker.born_at}))
        if self.quiet:
            self._tell_quiet(worker)

    def beat(self, id: int, now: float) -> None:
        """The worker said WATCHDOG=1."""
        if worker := self.workers.get(id):
            worker.beaten_at = now  # the deadline looks at this when it is due

    def extended(self, id: int, seconds: float, now: float) -> None:
        """The worker needs so much longer from now to become ready."""
        worker = self.workers.get(id)
        if worker and worker.state is State.STARTING and not worker.dumped:
            self._deadlines.set(id, max(now + seconds, self._deadlines.get(id) or 0.0))

    def acknowledged(self, id: int, now: float) -> None:
        """The worker said STOPPING=1: it takes no new work."""
        worker = self.workers.get(id)
        if worker is None or worker.acknowledged_at is not None:
            return
        worker.acknowledged_at = now
        if not worker.leaving:  # somebody else asked it: kill -TERM WORKER
            self._expect_exit(worker, now, now + self.settings.stop_timeout)
        after = None if worker.asked_at is None else now - worker.asked_at
        self._news.append(Note("worker.acknowledged", worker, {"seconds": after}))

    def told(self, id: int, jobs: int | None, in_flight: int | None, text: str | None) -> None:
        """What the worker says of itself, for people to read."""
        if worker := self.workers.get(id):
            worker.jobs = worker.jobs if jobs is None else jobs
            worker.in_flight = worker.in_flight if in_flight is None else in_flight
            worker.text = worker.text if text is None else text

    def exited(self, id: int, end: End, now: float) -> None:
        """The worker was reaped, or could not be forked."""
        worker = self.workers.pop(id, None)
        if worker is None:
            return
        self._become(worker, State.KILLED)
        self._deadlines.drop(id)
        lived = worker.lived(now)
        verdict = judge(end, lived, worker.asked_at is not None, self.settings)
        delay = self._learn(worker, verdict, lived, end, now)
        finished = verdict is Verdict.FINISHED
        self.slots.vacated(worker.slot, finished=finished, retry_at=now + delay if delay else None)
        again = None if finished or self.holding or self.parked else delay
        self._news.append(obituary(worker, end, verdict, again, now, stopping=self.holding))

    # -- facts about all of them -----------------------------------------------

    def resize(self, size: int, now: float) -> None:
        """Want so many workers; a parked pool tries again.  The highest slots go first."""
        self.parked = False
        self.slots.revive()
        for id in self.slots.resize(size):
            self._ask(self.workers[id], now, now + self.settings.stop_timeout, replace=False)

    def hush(self, on: bool) -> None:
        """Take no new work, or take work again."""
        if on is not self.quiet:
            self.quiet = on
            for worker in self.workers.values():
                if worker.state is State.READY:
                    self._tell_quiet(worker)

    def hold(self) -> None:
        """A stop was asked for: nothing starts any more."""
        self.holding = True

    def leave(self, now: float, kill_at: float, *, replace: bool) -> None:
        """Ask every worker to go; SIGKILL follows at ``kill_at``."""
        for worker in self.workers.values():
            self._ask(worker, now, kill_at, replace=replace)

    def force(self) -> None:
        """SIGKILL everybody now."""
        for worker in self.workers.values():
            if worker.state is not State.KILLED:
                worker.killed, worker.dumped = "the stop was forced", True
                self._deadlines.set(worker.id, 0.0)

    def thawed(self, now: float) -> None:
        """The master did not run for a while, so it could hear nobody."""
        for worker in self.workers.values():
            if worker.dumped:
                continue
            if worker.state is State.READY and self.settings.watchdog:
                worker.beaten_at = now
                self._expect_beat(worker)
            elif worker.state is State.STARTING:
                self.extended(worker.id, self.settings.start_timeout, now)

    # -- questions -------------------------------------------------------------

    @property
    def full(self) -> bool:
        """At strength: every slot is ready or has finished."""
        return self.up + self.slots.finished >= self.slots.size and not self.parked

    @property
    def gave_up(self) -> bool:
        """Parked, and the whole master is to leave for it."""
        return self.parked and self.settings.on_give_up == "exit"

    @property
    def state(self) -> str:
        """As ``status`` shows it."""
        if self.holding:
            return "stopping"
        if self.parked:
            return "parked"
        if self.full:
            return "ready"
        return "starting" if self.degraded is None else "degraded"

    @property
    def may_start(self) -> bool:
        """Nothing forbids new workers: no stop, no pause for a hook, not parked."""
        return not (self.holding or self.paused or self.parked)

    def deadline(self) -> float | None:
        """When `plan` will next have something to say if nothing happens."""
        times = [self._deadlines.earliest(), self.slots.deadline() if self.may_start else None]
        return min((t for t in times if t is not None), default=None)

    # -- the plan --------------------------------------------------------------

    def plan(self, now: float) -> list[Action]:
        """What to do now.  Asked again at the same time, it has nothing to add."""
        late = [action for id in self._deadlines.due(now) for action in self._overdue(self.workers[id], now)]
        starts = list(self._starts(now)) if self.may_start else []
        self._watch_strength()
        return [*self.news(), *late, *starts]

    def news(self) -> list[Action]:
        """What facts brought about since the last plan; the first part of the next one."""
        news, self._news = self._news, []
        # Who was to be told something may have gone in the same instant.
        return [a for a in news if not isinstance(a, Stop | Quiet) or a.worker in self.workers]

    def _overdue(self, worker: Worker, now: float) -> Iterator[Action]:
        if worker.dumped or worker.state is State.KILLED:
            return self._kill(worker, now)
        if worker.state is State.READY:
            return self._listen_for_beat(worker, now)
        began = worker.asked_at or worker.acknowledged_at
        if worker.state is State.STOPPING and began is not None and worker.kill_at is not None:
            return self._dump(worker, f"did not stop in {worker.kill_at - began:.1f} s", now)
        return self._dump(worker, f"not ready in {now - worker.born_at:.1f} s", now)

    def _listen_for_beat(self, worker: Worker, now: float) -> Iterator[Action]:
        if worker.beaten_at + (self.settings.watchdog or 0.0) > now:
            self._expect_beat(worker)
        else:
            yield from self._dump(worker, f"no heartbeat for {now - worker.beaten_at:.1f} s", now)

    def _dump(self, worker: Worker, reason: str, now: float) -> Iterator[Action]:
        worker.killed, worker.dumped = reason, True
        kill_at = now + DUMP_SECONDS if worker.kill_at is None else worker.kill_at
        self._deadlines.set(worker.id, max(kill_at, now + 1e-3))  # one turn at least
        yield Dump(worker.id)

    def _kill(self, worker: Worker, now: float) -> Iterator[Action]:
        reason = worker.killed or "did not stop"
        if worker.state is not State.KILLED:
            self._become(worker, State.KILLED)
            yield Note("worker.killed", worker, {"reason": reason, "uptime": now - worker.born_at})
        self._deadlines.set(worker.id, now + KILL_AGAIN)
        yield Kill(worker.id, reason)

    def _starts(self, now: float) -> Iterator[Start]:
        for index in self.slots.vacancies(now, FORKS_AT_ONCE - self.forking):
            slot = self.slots[index]
            worker = Worker(next(self._ids), self.name, index, self.generation, now)
            self.workers[worker.id] = worker
            self.forking += 1
            self.restarts += slot.lives > 0
            slot.worker, slot.lives = worker.id, slot.lives + 1
            yield Start(worker.id, self.name, index, self.generation)

    def _watch_strength(self) -> None:
        if self.holding or self.slots.size == 0:
            return
        fields = {"pool": self.name, "ready": self.up, "desired": self.slots.size}
        if self.full and self.degraded is not False:
            self.degraded = False
            self._news.append(Note("pool.ready", None, fields))
        elif not self.full and self.degraded is False:
            self.degraded = True
            self._news.append(Note("pool.degraded", None, fields))

    # -- bookkeeping -----------------------------------------------------------

    def _become(self, worker: Worker, state: State) -> None:
        """The one place where a state changes, so that the counts follow."""
        self.forking -= worker.state is State.FORKING
        self.up += (state is State.READY) - (worker.state is State.READY)
        worker.state = state

    def _learn(self, worker: Worker, verdict: Verdict, lived: float, end: End, now: float) -> float:
        """Count an exit; return the seconds until its slot may be filled again."""
        if worker.asked_at is not None or self.holding or verdict is Verdict.FINISHED:
            return 0.0
        # A fork that failed is the machine's fault: it waits, but is not held against the program.
        if verdict is Verdict.FAILURE and end.error is None and not self.parked and self._breaker.failed(now):
            self.parked = True
            reason = f"more than {self.settings.max_restarts} failures in {self.settings.within:g} s"
            self._news.append(Note("pool.parked", None, {"pool": self.name, "reason": reason}))
        history = self.slots[worker.slot].history
        return history.delay(verdict, lived, self.settings.backoff, self._random)

    def _ask(self, worker: Worker, now: float, kill_at: float, *, replace: bool) -> None:
        if worker.state is State.KILLED:
            return
        worker.asked_at, worker.replace = now, replace
        self._expect_exit(worker, now, kill_at)
        self._news.append(Note("worker.stopping", worker, {"replace": replace}))
        self._news.append(Stop(worker.id, replace))

    def _expect_exit(self, worker: Worker, now: float, kill_at: float) -> None:
        if worker.dumped:
            self._kill_sooner(worker, kill_at)
            return
        self._become(worker, State.STOPPING)
        # Told twice (TERM by hand, then the master's stop), the earlier end holds.
        worker.kill_at = kill_at if worker.kill_at is None else min(worker.kill_at, kill_at)
        margin = max(0.0, min(DUMP_SECONDS, (worker.kill_at - now) / 10))
        self._deadlines.set(worker.id, worker.kill_at - margin)

    def _kill_sooner(self, worker: Worker, kill_at: float) -> None:
        """It is being killed already; a stop may leave it less time, never more."""
        planned = self._deadlines.get(worker.id)
        if planned is not None and kill_at < planned:
            self._deadlines.set(worker.id, kill_at)

    def _expect_beat(self, worker: Worker) -> None:
        if self.settings.watchdog:
            self._deadlines.set(worker.id, worker.beaten_at + self.settings.watchdog)

    def _tell_quiet(self, worker: Worker) -> None:
        worker.quiet = self.quiet
        self._news.append(Quiet(worker.id, self.quiet))
