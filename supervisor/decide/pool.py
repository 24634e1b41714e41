"""What one pool of workers should do next.

Facts go in (`started`, `ready`, `exited`, `resize`, ...), `plan` returns the
difference between what is and what is wanted.  It is level-triggered: facts may
come in any order, twice, or late.  Each turn costs what changed: deadlines and
vacant slots are in heaps, and strength is counted as it changes.

A worker whose generation is not the pool's, or that is worn, is stale: an heir
is started in its slot, and once that is ready the old one is told to leave.
It knows nothing of other pools, of processes, or of why it is told to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from supervisor.decide.actions import Action, Measure, Note, Quiet, Start, Stop
from supervisor.decide.lateness import Lateness
from supervisor.decide.obituary import obituary
from supervisor.decide.restarts import Breaker, Verdict, judge
from supervisor.decide.slots import Slot, Slots
from supervisor.decide.succession import Succession
from supervisor.decide.trial import Trial
from supervisor.decide.wear import Wear, by_age, by_jobs, by_memory
from supervisor.decide.worker import State, Worker
from supervisor.exits import WORKER_DONE, WORKER_REPLACE, End, explain
from supervisor.settings import PoolSettings

FORKS_AT_ONCE = 16  # so that signals are served between the forks of a large pool


class Pool:
    """The picture of one pool, and the wish."""

    def __init__(
        self, settings: PoolSettings, ids: Iterator[int], random: Callable[[], float], generation: int = 1
    ) -> None:
        self.name = settings.name
        self.generation = self.good = generation  # the wanted one, and the last that stood its trial
        self.editions = {generation: settings}
        self.trial: Trial | None = None
        self.workers: dict[int, Worker] = {}
        self.slots = Slots()
        self.slots.resize(settings.workers)
        self.forking = self.up = self.restarts = 0  # counted as they change, held by a property test
        self.serving: dict[int, int] = {}  # generation to workers that are not on their way out
        self.templates: set[int] = set()  # generations that have a template to fork from
        self.quiet = self.paused = self.holding = self.parked = self.retired = False
        self.early = False  # those that it comes after were not up yet
        self.gate = True  # old workers may be told to leave
        self.degraded: bool | None = None  # None until it was at strength once
        self._ids, self._random = ids, random
        self._breaker = Breaker(settings.max_restarts, settings.within)
        self._late, self._wear, self._succession = Lateness(self._become), Wear(random), Succession()
        self._news: list[Action] = []  # what facts brought about, for the next plan
        self._surplus: set[int] = set()  # who is to leave once a reload to a smaller size has worked
        self._size_before: int | None = None  # what the trial enlarged
        self._size_after: int | None = None  # what takes effect when it is over

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
        elif worker.asked_at is not None:  # before there was anybody to tell
            self._news.append(Stop(worker.id, worker.replace))

    def ready(self, id: int, now: float) -> None:
        """The worker said READY=1, or its program runs."""
        worker = self.workers.get(id)
        if worker is None or worker.dumped or worker.state not in (State.FORKING, State.STARTING):
            return
        self._become(worker, State.READY)
        worker.ready_at = worker.beaten_at = now
        self._late.expect_beat(worker)
        self._wear.ready(worker, now)
        self._news.append(Note("worker.ready", worker, {"seconds": now - worker.born_at}))
        if self.trial:
            self.trial.ready(worker, now)
        if self.slots[worker.slot].heir == id and self._may_take_over(worker):
            self._succession.heir_ready(worker.slot)
        if self.quiet:
            self._tell_quiet(worker)

    def beat(self, id: int, now: float) -> None:
        """The worker said WATCHDOG=1."""
        if worker := self.workers.get(id):
            worker.beaten_at = now  # the deadline looks at this when it is due

    def extended(self, id: int, seconds: float, now: float) -> None:
        """The worker needs so much longer from now to become ready."""
        if worker := self.workers.get(id):
            self._late.extend(worker, now + seconds)

    def acknowledged(self, id: int, now: float) -> None:
        """The worker said STOPPING=1: it takes no new work."""
        worker = self.workers.get(id)
        if worker is None or worker.acknowledged_at is not None:
            return
        worker.acknowledged_at = now
        if not worker.leaving:  # somebody else asked it: kill -TERM WORKER
            self._expect_exit(worker, now, now + worker.settings.stop_timeout)
        after = None if worker.asked_at is None else now - worker.asked_at
        self._news.append(Note("worker.acknowledged", worker, {"seconds": after}))

    def told(
        self, id: int, jobs: int | None, in_flight: int | None, text: str | None, error: str | None = None
    ) -> None:
        """What the worker says of itself: for people to read, but for the jobs that it did."""
        if worker := self.workers.get(id):
            worker.jobs = worker.jobs if jobs is None else jobs
            worker.in_flight = worker.in_flight if in_flight is None else in_flight
            worker.text = worker.text if text is None else text
            worker.error = worker.error if error is None else error
            self._wear_out(worker, by_jobs(worker))

    def measured(self, id: int, used: int) -> None:
        """So many bytes of memory are the worker's."""
        worker = self.workers.get(id)
        if worker is None:
            return
        reason, born_so, worker.measured = by_memory(worker, used), not worker.measured, True
        if self.parked:
            return  # it would not be replaced
        on_trial = self.trial is not None and worker.generation == self.generation
        if reason is None or not born_so or (self.trial and not on_trial):
            self._wear_out(worker, reason)
        elif self.trial:
            self.trial.failure = self.trial.failure or f"{worker.name}: {reason} right after it was ready"
        else:  # its successor would be as large
            self._park(f"{worker.name} {reason} right after it was ready: raise the limit")

    def exited(self, id: int, end: End, now: float) -> None:
        """The worker was reaped, or could not be forked."""
        worker = self.workers.pop(id, None)
        if worker is None:
            return
        self._become(worker, State.KILLED)
        self._late.forget(worker)
        self._wear.forget(worker)
        lived = worker.lived(now)
        verdict = judge(end, lived, worker.asked_at is not None, worker.settings)
        self._try(worker, verdict, end, now)
        delay = self._learn(worker, verdict, lived, end, now)
        finished = verdict is Verdict.FINISHED
        self._leave_slot(worker, now, delay, finished=finished)
        again = None if finished or not self._goes_on else delay
        self._news.append(obituary(worker, end, verdict, again, now, stopping=self.holding))

    # -- facts about all of them -----------------------------------------------

    def resize(self, size: int, now: float) -> None:
        """Want so many workers; a parked pool tries again.  The highest slots go first.

        It is the last word also where a reload that goes on has another size.
        """
        self.parked, self._size_before, self._size_after = False, None, None
        for id in self._surplus:
            self._succession.wish(self.workers[id].slot)
        self._surplus = set()
        self.slots.revive()
        for id in self.slots.resize(size):
            self._ask(self.workers[id], now, replace=False, reason="the pool is to be smaller")

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
        """Ask every worker to go; SIGKILL follows at ``kill_at``, or by its own stop_timeout."""
        for worker in self.workers.values():
            if worker.asked_at is None:
                self._ask(worker, now, replace=replace, latest=kill_at)
            else:  # a second TERM means to many a program that it is to cut its work
                self._expect_exit(worker, now, kill_at)

    def force(self) -> None:
        """SIGKILL everybody now."""
        for worker in self.workers.values():
            self._late.force(worker, "the stop was forced")

    def thawed(self, now: float) -> None:
        """The master did not run for a while, so it could hear nobody."""
        for worker in self.workers.values():
            self._late.thawed(worker, now)

    # -- generations -----------------------------------------------------------

    def adopt(self, generation: int, settings: PoolSettings) -> None:
        """Try these settings: heirs are started, nobody is told to leave before `roll`."""
        before, size = self.editions[self.good].workers, settings.workers
        self._size_after = size if size != before else None
        self._size_before = self.slots.size if size > self.slots.size else None
        self.editions[generation], self.generation = settings, generation
        self.trial, self.gate, self.parked = Trial(generation, settings.stable_after), False, False
        self.slots.revive()
        if self.slots.finished == self.slots.size < self._wanted:
            self.slots.resize(self.slots.size + 1)  # somebody has to be tried
        self._breaker = Breaker(settings.max_restarts, settings.within)
        held = {index: slot.worker for index, slot in self.slots if slot.worker is not None}
        beyond = [worker for index, worker in held.items() if index >= self._wanted]
        self._surplus = {id for id in beyond if not self.workers[id].leaving}
        self._succession.wish_all([index for index in held if index < self._wanted])

    def begin_trial(self) -> None:
        """It is new itself: what it does is held against its generation."""
        self.trial = Trial(self.generation, self.settings.stable_after)

    def roll(self) -> None:
        """The new generation has proven itself: old workers may be told to leave, further ones come."""
        self.gate = True
        if self._size_after is not None and self._size_after > self.slots.size:
            self.slots.resize(self._size_after)
        for index, slot in self.slots:
            if slot.fulfilled or slot.heir is not None:
                self._succession.heir_ready(index)

    def commit(self, now: float) -> None:
        """The new generation is the good one; a smaller size takes effect."""
        if self._size_after is not None and self._size_after < self.slots.size:
            self.resize(self._size_after, now)
        self.good, self.trial, self.editions = self.generation, None, {self.generation: self.settings}
        self.templates &= self.editions.keys()

    def back(self, now: float) -> None:
        """Give the new generation up: those of it that serve are replaced as carefully."""
        bad = self.generation
        self.generation, self.trial, self.gate = self.good, None, True
        del self.editions[bad]
        self.templates.discard(bad)
        self._surplus, self._size_after = set(), None
        for index, slot in self.slots:
            slot.fulfilled = False
            if slot.heir is not None and self.workers[slot.heir].generation == bad:
                heir = self.workers[slot.heir]
                self.slots.disown(index)
                self._ask(heir, now, replace=False, reason="the reload failed")
        if self._size_before is not None:
            self.resize(self._size_before, now)
        self._breaker = Breaker(self.settings.max_restarts, self.settings.within)
        self._succession.wish_all([i for i, slot in self.slots if self._is_stale(slot)])

    def retire(self, now: float, within: float | None = None) -> None:
        """The pool is no longer wanted; its workers have ``within`` seconds, if not their stop_timeout."""
        self.retired, self.trial = True, None
        latest = None if within is None else now + within
        for id in self.slots.resize(0):
            worker = self.workers[id]
            self._ask(worker, now, replace=False, reason="the pool is no longer wanted", latest=latest)

    # -- questions -------------------------------------------------------------

    @property
    def settings(self) -> PoolSettings:
        """Those of the wanted generation."""
        return self.editions[self.generation]

    @property
    def _wanted(self) -> int:
        """How many there are to be once the reload that goes on, if any, has worked."""
        return self.slots.size if self._size_after is None else self._size_after

    @property
    def full(self) -> bool:
        """At strength: every slot is ready or has finished."""
        return self.up + self.slots.finished >= self.slots.size and not self.parked

    @property
    def risen(self) -> bool:
        """It was at strength once: those who come after it may start."""
        return self.degraded is not None or self.full

    @property
    def gave_up(self) -> bool:
        """Parked, and the whole master is to leave for it."""
        return self.parked and self.settings.on_give_up == "exit"

    @property
    def rolled(self) -> bool:
        """Only workers of the wanted generation serve, and there are enough."""
        old = sum(number for generation, number in self.serving.items() if generation != self.generation)
        return self.full and old <= len(self._surplus)

    def proven_at(self) -> float | None:
        """When the new generation has stood its trial if nothing happens; None while nobody is ready."""
        if self.trial is None or self._wanted <= self.slots.finished:
            return 0.0
        if self.surge == 0 and self.serving.keys() == {self.good} != {self.generation}:
            return 0.0  # nobody can be tried beside those who serve
        return self.trial.stable_at()

    @property
    def surge(self) -> int:
        """How many workers more than slots there may be, for replacement."""
        wish = self.settings.surge
        if isinstance(wish, int):
            return wish
        return max(1, -(-self.slots.size * int(wish.rstrip("%")) // 100))

    @property
    def state(self) -> str:
        """As ``status`` shows it."""
        if self.holding or self.retired:
            return "stopping"
        if self.parked:
            return "parked"
        if self.trial:
            return "reloading"
        if self.full:
            return "ready"
        return "starting" if self.degraded is None else "degraded"

    @property
    def may_start(self) -> bool:
        """Nothing forbids new workers: no stop, no pause for a hook, not parked."""
        return self._goes_on and not self.paused

    @property
    def _goes_on(self) -> bool:
        return not (self.holding or self.parked or self.retired)

    def deadline(self) -> float | None:
        """When `plan` will next have something to say if nothing happens."""
        times = [self._late.earliest()]
        if not self.holding:
            times.append(self._wear.earliest())
        if self.may_start and self._may_fork(self._for_vacancy()):
            times.append(self.slots.deadline())
        if self.may_start:
            times.append(self._succession.deadline())
        return min((t for t in times if t is not None), default=None)

    # -- the plan --------------------------------------------------------------

    def plan(self, now: float) -> list[Action]:
        """What to do now.  Asked again at the same time, it has nothing to add."""
        due = [self.workers[id] for id in self._late.due(now)]
        late = [action for worker in due for action in self._late.overdue(worker, now)]
        worn = [] if self.holding else self._look_for_wear(now)
        starts = [*self._fill(now), *self._succeed(now)] if self.may_start else []
        self._watch_strength()
        return [*self.news(), *late, *worn, *starts]

    def news(self) -> list[Action]:
        """What facts brought about since the last plan; the first part of the next one."""
        news, self._news = self._news, []
        # Who was to be told something may have gone in the same instant.
        return [a for a in news if not isinstance(a, Stop | Quiet) or a.worker in self.workers]

    def _fill(self, now: float) -> Iterator[Start]:
        """Vacant slots."""
        while self._may_fork(generation := self._for_vacancy()):
            vacant = next(self.slots.vacancies(now, FORKS_AT_ONCE - self.forking), None)
            if vacant is None:
                return
            worker = self._bear(vacant, generation, now)
            if generation != self.generation:
                self._foresee(worker)
            yield self._start(worker, self.slots.hold(vacant, worker.id))

    def _foresee(self, worker: Worker) -> None:
        """It is born of the old generation while a new one is tried: it has an heir, or goes with its slot."""
        if worker.slot < self._wanted:
            self._succession.wish(worker.slot)
        else:
            self._surplus.add(worker.id)

    def _for_vacancy(self) -> int:
        """During a trial a few of the new generation are enough, all other places go to the proven one."""
        few = self.serving.get(self.generation, 0) < max(1, self.surge)
        never_up = self.degraded is None  # then the old one has proven nothing either
        wanted = self.gate or never_up or few
        return self.generation if wanted and self._may_fork(self.generation) else self.good

    def _may_fork(self, generation: int) -> bool:
        if self.early and generation == self.generation:
            return False
        return not self.editions[generation].preload or generation in self.templates

    def _succeed(self, now: float) -> Iterator[Start]:
        """Heirs are born."""
        self._succession.wake(now)
        while (index := self._succession.peek()) is not None:
            slot = self.slots.get(index)
            if slot is None or slot.heir is not None or not self._is_stale(slot):
                self._succession.take()
            elif self.surge == 0:
                if not self._replace_in_place(slot, now):
                    return
                self._succession.take()
            elif self._has_room_for_heir():
                self._succession.take()
                worker = self._bear(index, self.generation, now)
                yield self._start(worker, self.slots.inherit(index, worker.id))
            else:
                return

    def _has_room_for_heir(self) -> bool:
        extra = self.slots.heirs + self.slots.formers
        return extra < self.surge and self.forking < FORKS_AT_ONCE and self._may_fork(self.generation)

    def _replace_in_place(self, slot: Slot, now: float) -> bool:
        """Where no two may run at once: the old one leaves first, one at a time."""
        holder = self.workers[slot.worker or 0]
        may_follow = self.gate and self._may_fork(self.generation)
        if not may_follow or holder.state is State.FORKING:
            return False
        if holder.state is State.READY and not self.full:
            return False
        self._ask(holder, now, replace=True, reason=self._why(holder))
        return True

    def _is_stale(self, slot: Slot) -> bool:
        """Its holder is to be replaced, and is not leaving yet."""
        holder = self.workers.get(slot.worker or 0)
        return holder is not None and not holder.leaving and self._outdated(holder)

    def _outdated(self, worker: Worker) -> bool:
        return worker.generation != self.generation or worker.worn is not None

    def _may_take_over(self, heir: Worker) -> bool:
        return self.gate or heir.generation == self.good

    def take_over(self, now: float) -> None:
        """Heirs that are ready hold their slots from now on."""
        if not (self.holding or self.retired):
            for index in self._succession.take_ready():
                if slot := self.slots.get(index):
                    self._relieve(index, slot, now)

    def _relieve(self, index: int, slot: Slot, now: float) -> None:
        heir = self.workers.get(slot.heir or 0)
        if heir is not None and heir.state is State.READY and self._may_take_over(heir):
            before = self.slots.relieve(index)
        elif heir is None and slot.fulfilled and self.gate:
            before = self.slots.fulfil(index)
        else:
            return
        if before is not None and not self.workers[before].leaving:
            self._ask(self.workers[before], now, replace=True, reason=self._why(self.workers[before]))
        if self._is_stale(slot):
            self._succession.wish(index)

    def _why(self, worker: Worker) -> str:
        return worker.worn or f"generation {self.generation} replaces it"

    def _look_for_wear(self, now: float) -> list[Action]:
        for worker in self._wear.aged(self.workers, now):
            self._wear_out(worker, by_age(worker))
        due = self._wear.to_measure(self.workers, now)
        return [Measure(tuple(due))] if due else []

    def _wear_out(self, worker: Worker, reason: str | None) -> None:
        if reason is not None and worker.worn is None and worker.state is State.READY:
            worker.worn = reason
            self._wear.forget(worker)
            self._news.append(Note("worker.worn", worker, {"reason": reason}))
            if self.slots[worker.slot].worker == worker.id:
                self._succession.wish(worker.slot)

    def _watch_strength(self) -> None:
        if self.holding or self.retired or self.slots.size == 0:
            return
        fields = {"pool": self.name, "ready": self.up, "desired": self.slots.size}
        if self.full and self.degraded is not False:
            self.degraded = False
            self._news.append(Note("pool.ready", None, fields))
        elif not self.full and self.degraded is False:
            self.degraded = True
            self._news.append(Note("pool.degraded", None, fields))

    # -- bookkeeping -----------------------------------------------------------

    def _bear(self, index: int, generation: int, now: float) -> Worker:
        worker = Worker(next(self._ids), self.name, index, generation, now, self.editions[generation])
        self.workers[worker.id] = worker
        self._late.expect_ready(worker)
        self.forking += 1
        self.serving[generation] = self.serving.get(generation, 0) + 1
        return worker

    def _start(self, worker: Worker, slot: Slot) -> Start:
        self.restarts += slot.lives > 1
        return Start(worker.id, self.name, worker.slot, worker.generation)

    def _become(self, worker: Worker, state: State) -> None:
        """The one place where a state changes, so that the counts follow."""
        left = worker.leaving
        self.forking -= worker.state is State.FORKING
        self.up += (state is State.READY) - (worker.state is State.READY)
        worker.state = state
        if worker.leaving and not left:
            self._surplus.discard(worker.id)
            self.serving[worker.generation] -= 1
            if not self.serving[worker.generation]:
                del self.serving[worker.generation]

    def _leave_slot(self, worker: Worker, now: float, delay: float, *, finished: bool) -> None:
        index, slot = worker.slot, self.slots[worker.slot]
        was_heir = slot.heir == worker.id
        retry_at = now + delay if delay else None
        inherited = self.slots.vacated(index, worker.id, finished=finished, retry_at=retry_at)
        if was_heir and finished:
            self._succession.heir_ready(index)
        elif was_heir and delay:
            self._succession.retry(index, now + delay)
        elif was_heir or (inherited and self._is_stale(slot)):
            self._succession.wish(index)

    def _try(self, worker: Worker, verdict: Verdict, end: End, now: float) -> None:
        """What an exit means for a generation on trial.  A fork that failed says nothing of it."""
        if self.trial and worker.asked_at is None and end.error is None:
            reason = explain(end, worker.killed, worker.error)
            finished = verdict is Verdict.FINISHED and end.code in (WORKER_DONE, WORKER_REPLACE)
            failed = verdict is not Verdict.PLANNED and not finished
            self.trial.left(worker, reason, now, self.slots.size, failed=failed, finished=finished)

    def _learn(self, worker: Worker, verdict: Verdict, lived: float, end: End, now: float) -> float:
        """Count an exit; return the seconds until its slot may be filled again."""
        if worker.asked_at is not None or self.holding or verdict is Verdict.FINISHED:
            return 0.0
        # A fork that failed is the machine's fault: it waits, but is not held against the program.
        # What fails while a trial goes on is the trial's matter: it may be what the reload is to mend.
        counts = verdict is Verdict.FAILURE and end.error is None and not (self.parked or self.trial)
        if counts and self._breaker.failed(now):
            self._park(f"more than {self.settings.max_restarts} failures in {self.settings.within:g} s")
        history = self.slots[worker.slot].history
        return history.delay(verdict, lived, self.settings.backoff, self._random)

    def _park(self, reason: str) -> None:
        self.parked = True
        self._news.append(Note("pool.parked", None, {"pool": self.name, "reason": reason}))

    def _ask(
        self,
        worker: Worker,
        now: float,
        *,
        replace: bool,
        reason: str | None = None,
        latest: float | None = None,
    ) -> None:
        if worker.state is State.KILLED or worker.asked_at is not None:
            return
        kill_at = now + worker.settings.stop_timeout
        worker.asked_at, worker.replace = now, replace
        self._expect_exit(worker, now, kill_at if latest is None else min(kill_at, latest))
        self._news.append(Note("worker.stopping", worker, {"replace": replace, "reason": reason}))
        if worker.pid is not None:  # else it is told as soon as it is there
            self._news.append(Stop(worker.id, replace))

    def _expect_exit(self, worker: Worker, now: float, kill_at: float) -> None:
        self._wear.forget(worker)
        if self.trial:
            self.trial.forget(worker)
        self._late.expect_exit(worker, now, kill_at)

    def _tell_quiet(self, worker: Worker) -> None:
        if worker.settings.command is None:  # a program that knows nothing of it would be stopped by TSTP
            worker.quiet = self.quiet
            self._news.append(Quiet(worker.id, self.quiet))
