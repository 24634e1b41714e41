"""What one pool of workers should do next.

Facts go in (`started`, `ready`, `exited`, `resize`, ...), `plan` returns the
difference between what is and what is wanted.  It is level-triggered: facts may
come in any order, twice, or late.  Each turn costs what changed: deadlines and
vacant slots are in heaps, and strength is counted as it changes.

`crew` knows the workers, `generations` what they are to be, `replacement` how
the ones become the others, `experience` what exits teach.  Each fact and wish
reaches them in the right order here.  Knows nothing of other pools or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from supervisor.decide.actions import Action
from supervisor.decide.crew import Crew
from supervisor.decide.experience import Experience
from supervisor.decide.generations import Generations
from supervisor.decide.obituary import obituary
from supervisor.decide.replacement import Replacement
from supervisor.decide.restarts import Verdict, judge
from supervisor.decide.slots import Slots
from supervisor.decide.strength import Strength
from supervisor.decide.trial import Trial
from supervisor.decide.wear import by_jobs
from supervisor.decide.worker import Worker
from supervisor.exits import End
from supervisor.settings import PoolSettings


class Pool:
    """The picture of one pool, and the wish."""

    def __init__(
        self, settings: PoolSettings, ids: Iterator[int], random: Callable[[], float], generation: int = 1
    ) -> None:
        self.name = settings.name
        self.slots = Slots()
        self.slots.resize(settings.workers)
        self.generations = Generations(settings, generation)
        self.crew = Crew(self.name, ids, random, self._leaves)
        self.paused = self.holding = self.retired = False
        self._strength = Strength(self.name, self.crew, self.slots)
        self._replacement = Replacement(self.crew, self.slots, self.generations, self._strength)
        self.experience = Experience(self.name, self.generations, random, self.crew.tell)

    # -- facts about one worker ------------------------------------------------

    def started(self, id: int, pid: int) -> None:
        self.crew.started(id, pid)

    def ready(self, id: int, now: float) -> None:
        """The worker said READY=1, or its program runs."""
        if worker := self.crew.ready(id, now):
            if self.trial:
                self.trial.ready(worker, now)
            self._replacement.ready(worker)

    def beat(self, id: int, now: float) -> None:
        self.crew.beat(id, now)

    def extended(self, id: int, seconds: float, now: float) -> None:
        self.crew.extended(id, now + seconds)

    def acknowledged(self, id: int, now: float) -> None:
        self.crew.acknowledged(id, now)

    def told(
        self, id: int, jobs: int | None, in_flight: int | None, text: str | None, error: str | None = None
    ) -> None:
        """What the worker says of itself: for people to read, but for the jobs that it did."""
        if worker := self.crew.told(id, jobs, in_flight, text, error):
            self._wear_out(worker, by_jobs(worker))

    def measured(self, id: int, used: int) -> None:
        """So many bytes of memory are the worker's."""
        if worker := self.workers.get(id):
            self._wear_out(worker, self.experience.weigh(worker, used))

    def _wear_out(self, worker: Worker, reason: str | None) -> None:
        if self.crew.wear_out(worker, reason):
            self._replacement.worn(worker)

    def _leaves(self, worker: Worker) -> None:
        """It serves no more."""
        self._replacement.leaves(worker)
        if self.trial:
            self.trial.forget(worker)

    def exited(self, id: int, end: End, now: float) -> None:
        """The worker was reaped, or could not be forked."""
        worker = self.workers.get(id)
        if worker is None:
            return
        verdict = judge(end, worker.lived(now), worker.asked_at is not None, worker.settings)
        self.experience.try_out(worker, verdict, end, now, self.slots.size)
        self.crew.gone(worker)
        finished, history, delay = verdict is Verdict.FINISHED, self.slots[worker.slot].history, 0.0
        if not (self.holding or finished):
            delay = self.experience.learn(worker, history, verdict, end, now)
        self._replacement.gone(worker, now, delay, finished=finished)
        given_up = self.trial is not None and self.trial.failure is not None
        again = None if finished or given_up or not self._goes_on else delay
        self.crew.tell(obituary(worker, end, verdict, again, now, stopping=self.holding))

    # -- wishes about all of them ------------------------------------------------

    def resize(self, size: int, now: float) -> None:
        """Want so many workers, whatever a reload that goes on says; a parked pool tries again."""
        self.experience.parked_for = None
        self.generations.resized()
        self._replacement.resize(size, now)

    def hush(self, on: bool) -> None:
        self.crew.hush(on)

    def hold(self) -> None:
        """A stop was asked for: nothing starts any more."""
        self.holding = True

    def leave(self, now: float, kill_at: float, *, replace: bool) -> None:
        """Ask every worker to go; SIGKILL follows at ``kill_at``, or by its own stop_timeout."""
        self.crew.leave(now, kill_at, replace=replace)

    def force(self) -> None:
        self.crew.force()

    def thawed(self, now: float) -> None:
        self.crew.thawed(now)

    def retire(self, now: float, within: float | None, reason: str) -> None:
        """The pool is no longer wanted; its workers have ``within`` seconds, if not their stop_timeout."""
        self.retired, self.generations.trial = True, None
        self._replacement.shut(0, now, reason, within and now + within)

    # -- generations -------------------------------------------------------------

    def adopt(self, generation: int, settings: PoolSettings) -> None:
        """Try these settings: heirs are started, nobody is told to leave before `roll`."""
        self.generations.adopt(generation, settings, self.slots.size)
        self.experience.forget()
        self._replacement.begin()

    def begin_trial(self) -> None:
        """It is new itself: what it does is held against its generation."""
        self.generations.begin_trial()

    def roll(self, now: float) -> None:
        """The new generation has proven itself: old workers may be told to leave, further ones come."""
        self.generations.roll(now, self.slots.size)
        self._replacement.roll()

    def commit(self, now: float) -> None:
        """The new generation is the good one; a smaller size takes effect."""
        if (size := self.generations.size(self.slots.size)) < self.slots.size:
            self.resize(size, now)
        self.generations.commit()

    def back(self, now: float) -> None:
        """Give the new generation up: those of it that serve are replaced as carefully."""
        size = self.generations.back()
        self.experience.forget()
        self._replacement.back(size, now)

    # -- questions ---------------------------------------------------------------

    @property
    def workers(self) -> dict[int, Worker]:
        """All that are not gone, by number."""
        return self.crew.workers

    @property
    def up(self) -> int:
        """How many are ready."""
        return self.crew.up

    @property
    def restarts(self) -> int:
        """How often a worker was replaced."""
        return self._replacement.restarts

    @property
    def generation(self) -> int:
        """The wanted one."""
        return self.generations.wanted

    @property
    def good(self) -> int:
        """The last one that stood its trial."""
        return self.generations.good

    @property
    def editions(self) -> dict[int, PoolSettings]:
        """The settings of each generation that there may be workers of."""
        return self.generations.editions

    @property
    def trial(self) -> Trial | None:
        """What has become known of the wanted generation, while it is tried."""
        return self.generations.trial

    @property
    def settings(self) -> PoolSettings:
        """Those of the wanted generation."""
        return self.generations.settings

    @property
    def parked(self) -> bool:
        """Given up."""
        return self.experience.parked

    @property
    def full(self) -> bool:
        """At strength: every slot is ready or has finished."""
        return self._strength.complete and not self.parked

    @property
    def risen(self) -> bool:
        """It was at strength once: those who come after it may start."""
        return self.full or not self._strength.never

    @property
    def gave_up(self) -> bool:
        """Parked, and the whole master is to leave for it."""
        return self.parked and self.settings.on_give_up == "exit"

    @property
    def rolled(self) -> bool:
        """Only workers of the wanted generation serve, and there are enough."""
        return self.full and self._replacement.done

    def proven_at(self) -> float | None:
        """When the new generation has stood its trial if nothing happens; None while nobody is ready."""
        if self.generations.size(self.slots.size) <= self.slots.finished:
            return 0.0
        return self.generations.proven_at(beside=self._replacement.can_try)

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
        return "starting" if self._strength.never else "degraded"

    @property
    def may_start(self) -> bool:
        """Nothing forbids new workers: no stop, no pause for a hook, not parked."""
        return self._goes_on and not self.paused

    @property
    def _goes_on(self) -> bool:
        return not (self.holding or self.parked or self.retired)

    def deadline(self) -> float | None:
        """When `plan` will next have something to say if nothing happens."""
        times = [self.crew.late.earliest()]
        if not self.holding:
            times.append(self.crew.wear.earliest())
        if self.may_start:
            times.append(self._replacement.deadline())
        return min((t for t in times if t is not None), default=None)

    # -- the plan ----------------------------------------------------------------

    def take_over(self, now: float) -> None:
        """Heirs that are ready hold their slots from now on."""
        if not (self.holding or self.retired):
            self._replacement.take_over(now)

    def plan(self, now: float) -> list[Action]:
        """What to do now.  Asked again at the same time, it has nothing to add."""
        late = self.crew.overdue(now)
        worn = [] if self.holding else self._look_for_wear(now)
        starts = [*self._replacement.fill(now), *self._replacement.succeed(now)] if self.may_start else []
        if not (self.holding or self.retired):
            self._strength.watch(full=self.full)
        return [*self.news(), *late, *worn, *starts]

    def news(self) -> list[Action]:
        """What facts brought about since the last plan; the first part of the next one."""
        return self.crew.take_news()

    def _look_for_wear(self, now: float) -> list[Action]:
        for worker in self.crew.aged(now):
            self._replacement.worn(worker)
        return self.crew.measure(now)
