"""Who comes after whom: vacant slots are filled, and stale workers give way to their heirs.

A worker is stale if its generation is not the wanted one, or if it is worn.  An
heir is started in its slot, and once that is ready the old one is told to
leave; without surge the old one leaves first.  Knows slots, crew and
generations; knows nothing of what an exit means.
"""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.decide.actions import Start
from supervisor.decide.crew import Crew
from supervisor.decide.generations import Generations
from supervisor.decide.slots import Slot, Slots
from supervisor.decide.strength import Strength
from supervisor.decide.succession import Succession
from supervisor.decide.wear import by_jobs
from supervisor.decide.worker import State, Worker

FORKS_AT_ONCE = 48  # signals are served between; more in one go, as after each go a turn copies pages again


class Replacement:
    """What brings the workers that there are to the ones that are wanted."""

    def __init__(self, crew: Crew, slots: Slots, generations: Generations, strength: Strength) -> None:
        self.restarts = 0  # births in slots that had somebody before
        self.surplus: set[int] = set()  # who is to leave once a reload to a smaller size has worked
        self._beyond: set[int] = set()  # whose slots went with a failed reload, and who still are needed
        self._crew, self._slots = crew, slots
        self._generations, self._strength = generations, strength
        self._succession = Succession()
        self._first_stands_at: float | None = None  # without surge, while the next one waits for that

    # -- questions ---------------------------------------------------------------

    @property
    def surge(self) -> int:
        """How many workers more than slots there may be."""
        return self._generations.surge(self._slots.size)

    @property
    def done(self) -> bool:
        """Only workers of the wanted generation serve, but for those whose slots will go."""
        serving, wanted = self._crew.serving, self._generations.wanted
        return sum(n for g, n in serving.items() if g != wanted) <= len(self.surplus)

    @property
    def can_try(self) -> bool:
        """Somebody of the wanted generation is there or can be, while those who serve stay."""
        serving, wanted = self._crew.serving, self._generations.wanted
        if self.surge or not serving or wanted in serving:
            return True
        # One that was killed has yet to tell why; one that is only just born is told to nobody yet.
        unsettled = (w.generation == wanted or w.state is State.FORKING for w in self._crew.workers.values())
        return any(unsettled)

    def deadline(self) -> float | None:
        """When a slot may be filled, or an heir tried again."""
        times = [self._succession.deadline(), self._first_stands_at]
        if self._generations.may_fork(self._for_vacancy()):
            times.append(self._slots.deadline())
        return min((t for t in times if t is not None), default=None)

    def _stale(self, slot: Slot) -> bool:
        """Its holder is to be replaced, and is not leaving yet."""
        holder = self._crew.workers.get(slot.worker or 0)
        return holder is not None and not holder.leaving and self._generations.outdated(holder)

    # -- facts -------------------------------------------------------------------

    def ready(self, worker: Worker) -> None:
        """It can take its slot over, if it is an heir."""
        may = self._generations.may_take_over(worker.generation)
        if may and self._slots[worker.slot].heir == worker.id:
            self._succession.heir_ready(worker.slot)

    def worn(self, worker: Worker) -> None:
        """It is to be replaced."""
        if self._slots[worker.slot].worker == worker.id:
            self._succession.wish(worker.slot)

    def leaves(self, worker: Worker) -> None:
        """It serves no more."""
        self.surplus.discard(worker.id)
        self._beyond.discard(worker.id)

    def gone(self, worker: Worker, now: float, delay: float, *, finished: bool) -> None:
        """It has left its slot, which may be filled again after ``delay``."""
        index, slot = worker.slot, self._slots[worker.slot]
        was_heir = slot.heir == worker.id
        retry_at = now + delay if delay else None
        inherited = self._slots.vacated(index, worker.id, finished=finished, retry_at=retry_at)
        self._make_room_for_trial()
        if was_heir and finished:
            self._succession.heir_ready(index)
        elif was_heir and delay:
            self._succession.retry(index, now + delay)
        elif was_heir or (inherited and self._stale(slot)):
            self._succession.wish(index)

    # -- another size, another generation ----------------------------------------

    def resize(self, size: int, now: float) -> None:
        """Want so many; the highest slots go first."""
        for id in self.surplus:
            self._succession.wish(self._crew.workers[id].slot)
        self.surplus.clear()
        self._slots.revive()
        self.shut(size, now, "the pool is to be smaller")

    def shut(self, size: int, now: float, reason: str, latest: float | None = None) -> None:
        """Those in slots from ``size`` on are told to leave."""
        for id in [*sorted(self._beyond), *self._slots.resize(size)]:
            self._crew.ask(self._crew.workers[id], now, replace=False, reason=reason, latest=latest)

    def begin(self) -> None:
        """A new generation is tried: everybody is stale, but for those whose slots will go with it."""
        self._slots.revive()
        self._make_room_for_trial()
        size = self._generations.size(self._slots.size)
        slots = [(index, slot) for index, slot in self._slots if index < self._slots.size]
        held = {index: slot.worker for index, slot in slots if slot.worker is not None}
        beyond = [id for index, id in held.items() if index >= size]
        self.surplus = {id for id in beyond if not self._crew.workers[id].leaving}
        self._succession.wish_all([index for index in held if index < size])

    def _make_room_for_trial(self) -> None:
        """Where all have finished and more are to come, somebody has to be tried."""
        if self._generations.left_alone(self._slots.size, self._slots.finished):
            self._slots.resize(self._slots.size + 1)

    def roll(self) -> None:
        """The gate is open: heirs that are ready take over, further slots are filled."""
        self._slots.resize(max(self._slots.size, self._generations.size(self._slots.size)))
        for index, slot in self._slots:
            if slot.fulfilled or slot.heir is not None:
                self._succession.heir_ready(index)

    def back(self, size: int | None, now: float) -> None:
        """Heirs of a generation that was given up leave; those that hold slots are replaced or too many."""
        self.surplus.clear()
        beyond = [] if size is None else self._slots.resize(size)
        self._beyond.update(id for id in beyond if not self._crew.workers[id].leaving)
        self._slots.revive()  # what emptied them was the other generation
        for index, slot in self._slots:
            slot.fulfilled = False
            heir = self._crew.workers.get(slot.heir or 0)
            if heir is not None and heir.generation != self._generations.good:
                self._slots.disown(index)
                self._crew.ask(heir, now, replace=False, reason="the reload failed")
        self._succession.wish_all([index for index, slot in self._slots if self._stale(slot)])

    # -- heirs take over -----------------------------------------------------------

    def take_over(self, now: float) -> None:
        """Heirs that are ready hold their slots from now on."""
        for index in self._succession.take_ready():
            if slot := self._slots.get(index):
                self._relieve(index, slot, now)
        for id in sorted(self._beyond):
            self._let_go(self._crew.workers[id], now)

    def _let_go(self, worker: Worker, now: float) -> None:
        """Its slot is gone; it leaves when enough others are ready, or a new trial is to begin tidily."""
        spare = self._crew.up + self._slots.finished > self._slots.size
        if spare or worker.state is not State.READY or self._generations.trial:
            self._crew.ask(worker, now, replace=False, reason="the reload failed")

    def _relieve(self, index: int, slot: Slot, now: float) -> None:
        heir = self._crew.workers.get(slot.heir or 0)
        if heir is None and slot.fulfilled and self._generations.gate:
            before = self._slots.fulfil(index)
        elif heir and heir.state is State.READY and self._generations.may_take_over(heir.generation):
            before = self._slots.relieve(index)
        else:
            return
        holder = self._crew.workers.get(before or 0)
        if holder is not None and not holder.leaving:
            self._crew.ask(holder, now, replace=True, reason=self._generations.why(holder))
        if self._stale(slot):
            self._succession.wish(index)

    # -- births --------------------------------------------------------------------

    def fill(self, now: float) -> Iterator[Start]:
        """Vacant slots."""
        generations = self._generations
        while generations.may_fork(generation := self._for_vacancy()):
            vacant = next(self._slots.vacancies(now, FORKS_AT_ONCE - self._crew.forking), None)
            if vacant is None:
                return
            worker = self._bear(vacant, generation, now)
            if generation != generations.wanted:
                self._foresee(worker)
            yield self._start(worker, self._slots.hold(vacant, worker.id))

    def _for_vacancy(self) -> int:
        never_up = self._strength.never
        return self._generations.for_vacancy(self._crew.serving, self.surge, never_up=never_up)

    def _foresee(self, worker: Worker) -> None:
        """It is born of the old generation while a new one is tried: it has an heir or goes with its slot."""
        if worker.slot < self._generations.size(self._slots.size):
            self._succession.wish(worker.slot)
        else:
            self.surplus.add(worker.id)

    def succeed(self, now: float) -> Iterator[Start]:
        """Heirs are born."""
        self._succession.wake(now)
        self._first_stands_at = None
        while (index := self._succession.peek()) is not None:
            slot = self._slots.get(index)
            if slot is None or index >= self._slots.size or slot.heir is not None or not self._stale(slot):
                self._succession.take()
            elif (ripe_at := self._ripe_at(slot)) > now:
                self._succession.take()
                self._succession.retry(index, ripe_at)
            elif self.surge == 0:
                if not self._replace_in_place(slot, now):
                    return
                self._succession.take()
            elif self._has_room_for_heir():
                self._succession.take()
                worker = self._bear(index, self._generations.wanted, now)
                yield self._start(worker, self._slots.inherit(index, worker.id))
            else:
                return

    def _ripe_at(self, slot: Slot) -> float:
        """When its holder may be replaced: one that has done its jobs in no time serves on for a while."""
        holder, wanted = self._crew.workers[slot.worker or 0], self._generations.wanted
        if holder.generation != wanted or holder.ready_at is None or by_jobs(holder) is None:
            return 0.0
        return holder.ready_at + holder.settings.backoff.initial

    def _has_room_for_heir(self) -> bool:
        extra, generations = self._slots.heirs + self._slots.formers, self._generations
        few = extra < self.surge and self._crew.forking < FORKS_AT_ONCE
        return few and generations.may_fork(generations.wanted)

    def _replace_in_place(self, slot: Slot, now: float) -> bool:
        """Where no two may run at once: the old one leaves first, one at a time."""
        holder, generations = self._crew.workers[slot.worker or 0], self._generations
        may_follow = generations.gate and generations.may_fork(generations.wanted)
        if not may_follow or holder.state is State.FORKING or self._slots.heirs + self._slots.formers:
            return False  # nobody is beside the holders any more, who came there when there was surge
        if holder.state is State.READY and not (self._strength.complete and self._first_has_stood(now)):
            return False
        self._crew.ask(holder, now, replace=True, reason=generations.why(holder))
        return True

    def _first_has_stood(self, now: float) -> bool:
        """Where nobody could be tried beside those who serve, the first to follow is tried in its place."""
        trial, nobody = self._generations.trial, self._generations.wanted not in self._crew.serving
        if trial is None or nobody or trial.stood(now):
            return True
        self._first_stands_at = trial.stable_at()
        return False

    def _bear(self, index: int, generation: int, now: float) -> Worker:
        return self._crew.bear(index, generation, self._generations.editions[generation], now)

    def _start(self, worker: Worker, slot: Slot) -> Start:
        self.restarts += slot.lives > 1
        return Start(worker.id, worker.pool, worker.slot, worker.generation)
