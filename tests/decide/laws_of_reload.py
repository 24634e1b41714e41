"""What must hold while old and new workers stand side by side.

Remembers how many served and who was told to leave; recounts from the workers'
own times whether a generation has proven itself before anybody left for it, and
for how long it was watched before it is the good one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from supervisor.decide.actions import Action, Commit, Note, Start, Stop, Undo
from supervisor.decide.inner import is_inner
from supervisor.decide.life import Life
from supervisor.decide.pool import Pool
from supervisor.decide.pools import is_run
from supervisor.decide.reload import Stage
from supervisor.decide.worker import State, Worker

ROUNDING = 1e-6
WATCHED = 0.5  # of `stable_after`, since the gate was opened: so it is promised
BEFORE_ROLLING = (Stage.READING, Stage.PREPARING, Stage.TRYING)


class ReloadLaws:
    """The promises about replacement, and what must be remembered to check them."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._users: list[Pool] = []  # a run of a task goes on over a reload
        self._ready: dict[Pool, dict[int, Worker]] = {}  # after the plan before
        self._floor: dict[Pool, int] = {}  # so many must be ready
        self._adopted: set[int] = set()  # generations whose trial has begun
        self._proven: set[int] = set()
        self._open: dict[int, int] = {}  # generation to reload that began and has not ended
        self._opened: dict[tuple[Pool, int], float] = {}  # since when the gate is open for that generation
        self._stood: dict[tuple[Pool, int], float] = {}  # since when the first was ready for long enough
        self._until: dict[int, float] = {}  # generation to when it has been watched for long enough
        self._spoilt: set[int] = set()  # generations of which a worker has failed

    def hold(self, plan: Sequence[Action], now: float) -> None:
        """Assert all of them."""
        self._users = [p for p in self._life.everybody if not (is_inner(p.name) or is_run(p.name))]
        self._each_reload_begins_and_ends_once(plan)
        if self._life.stop is None:
            self._nobody_leaves_before_all_are_proven(now)
            self._note_who_has_stood(now)
            self._note_who_rolls(now)
            self._the_good_one_was_watched(plan, now)
            self._replacement_keeps_strength(plan)
            self._extra_workers_keep_to_surge(plan)
            self._a_rest_is_of_one_generation()
        for pool in self._users:
            self._ready[pool] = ready(pool)

    # -- strength --------------------------------------------------------------------

    def _replacement_keeps_strength(self, plan: Sequence[Action]) -> None:
        """Where extra workers are allowed, only deaths and wishes for fewer make a pool weaker."""
        told = {action.worker: action for action in plan if isinstance(action, Stop)}
        fewest = fewest_wanted(plan)
        for pool in self._users:
            size = min(pool.slots.size, fewest.get(pool.name, pool.slots.size))
            before, after = self._ready.get(pool, {}), ready(pool)
            done = {index for index, slot in pool.slots if slot.finished}
            for id in told.keys() & before.keys() & pool.workers.keys():
                self._may_be_told(pool, pool.workers[id], told[id], size)
            lost = [w for w in before.values() if w.id not in after and w.id not in told]
            shrunk = [w for w in before.values() if w.id in told and (w.slot >= size or w.slot in done)]
            in_place = [
                w for w in before.values() if w.id in told and pool.generations.surge(pool.slots.size) == 0
            ]
            floor = self._floor.get(pool, 0) - len(lost) - len(shrunk) - len(in_place)
            assert len(after) >= floor, f"{pool.name}: {len(after)} are ready, there were to be {floor}"
            self._floor[pool] = floor
            reload = self._life.reload
            if reload and reload.stage is Stage.TRYING and reload.generation not in self._adopted:
                self._floor[pool] = len(after)
        if (reload := self._life.reload) and reload.stage is Stage.TRYING:
            self._adopted.add(reload.generation)

    def _may_be_told(self, pool: Pool, worker: Worker, stop: Stop, size: int) -> None:
        """Why one that served is told to leave, if it is no stop."""
        slot, generation = pool.slots.get(worker.slot), pool.generation
        if pool.retired or worker.slot >= size:
            return
        assert slot is not None
        if slot.worker == worker.id:
            assert pool.generations.surge(pool.slots.size) == 0, (
                f"{worker.name} leaves before its successor is there"
            )
            assert stop.replace
            assert worker.generation != generation or worker.worn
            assert self._first_has_stood(pool), f"{worker.name} leaves while the first new one is watched"
            others = [w for w in pool.workers.values() if w.state is State.READY]
            assert len(others) + pool.slots.finished >= pool.slots.size - 1, "two leave at once"
        elif not stop.replace:
            assert worker.generation != generation, f"{worker.name} was not to take over, and is good"
        elif not slot.finished:  # by its heir, that has done all there was to do
            assert slot.worker is not None
            holder = pool.workers[slot.worker]
            assert holder.state is State.READY, f"{worker.name} leaves before its successor is ready"
            trusted = pool.generations.gate or holder.generation == pool.good
            assert trusted, f"{worker.name} leaves for one that is still tried"

    def _extra_workers_keep_to_surge(self, plan: Sequence[Action]) -> None:
        """When an heir is born, no more are beside the holders than may be."""
        born = {action.worker for action in plan if isinstance(action, Start)}
        for pool in self._users:
            heirs = {slot.heir for _, slot in pool.slots if slot.heir is not None}
            extra = sum(len(slot.former) for _, slot in pool.slots) + len(heirs)
            assert not heirs & born or extra <= pool.generations.surge(pool.slots.size), (
                f"{pool.name}: {extra} extra workers"
            )

    # -- trial -----------------------------------------------------------------------

    def _nobody_leaves_before_all_are_proven(self, now: float) -> None:
        """Until then the gates are shut; then every pool has one that was ready for long enough."""
        reload = self._life.reload
        for pool in self._users:
            waits = reload and reload.stage in BEFORE_ROLLING and pool.trial and pool.good != pool.generation
            assert not (waits and pool.generations.gate), "the gate is open"
        if reload and reload.stage is Stage.ROLLING and reload.generation not in self._proven:
            self._proven.add(reload.generation)
            for pool in self._users:
                if pool.trial:
                    assert proven(pool, now), f"{pool.name} has not proven itself"

    def _note_who_has_stood(self, now: float) -> None:
        for pool in self._users:
            times = [stands_at(w) for w in new(pool, now)] + [now] * bool(pool.slots.finished)
            if min(times, default=now + 1) <= now:
                self._stood.setdefault((pool, pool.generation), min(times))

    def _note_who_rolls(self, now: float) -> None:
        for pool in self._users:
            if pool.trial and pool.good != pool.generation and pool.generations.gate:  # a new pool has none
                self._opened.setdefault((pool, pool.generation), now)

    def _first_has_stood(self, pool: Pool) -> bool:
        """Without surge: none of the new ones serves yet, or one has for long enough."""
        first = not any(w.generation == pool.generation for w in ready(pool).values())
        return pool.trial is None or first or (pool, pool.generation) in self._stood

    def _the_good_one_was_watched(self, plan: Sequence[Action], now: float) -> None:
        """Nobody of it has failed, and it was watched for as long as is promised."""
        reload = self._life.reload
        commits = [action.generation for action in plan if isinstance(action, Commit)]
        whole = [reload.generation] if reload and reload.stage is Stage.WATCHING else commits
        for generation in set(whole) - self._until.keys():
            self._until[generation] = max([now, *self._watched(generation)])
            self._says_for_how_long(generation, plan, now)
        for generation in commits:
            assert generation not in self._spoilt, "a generation is the good one though a worker failed"
            assert now >= self._until[generation], "a generation is the good one before it was watched"
            for pool in self._users:
                up = len(new(pool, now)) + pool.slots.finished
                assert pool.retired or up >= pool.slots.size, "a generation is the good one, and not complete"

    def _says_for_how_long(self, generation: int, plan: Sequence[Action], now: float) -> None:
        """Nothing of it where it rolled for longer than it is to be watched."""
        told = [a.fields["seconds"] for a in plan if isinstance(a, Note) and a.event == "reload.rolled"]
        assert len(told) <= 1
        assert now + sum(told) >= self._until[generation] - ROUNDING, "it is watched too shortly"
        longest = max([now, *self._watched_at_most(generation)])
        assert now + sum(told) <= longest + ROUNDING, "it is watched too long"

    def _watched(self, generation: int) -> Iterator[float]:
        """Of each pool: half the time since it began to roll, or until the last has stood, if before."""
        for pool in self._users:
            key, served = (pool, generation), [w for w in ready(pool).values() if w.generation == generation]
            if served:
                stood = self._stood.get(key, min(map(stands_at, served)))
                opened = self._opened.get(key, stood)
                began = opened if pool.generations.surge(pool.slots.size) else max(stood, opened)
                yield min(began + pool.settings.stable_after * WATCHED, max(map(stands_at, served)))

    def _watched_at_most(self, generation: int) -> Iterator[float]:
        """Where they stand beside each other, no longer than half the time since the gate was opened."""
        for pool in self._users:
            everybody = [w for w in pool.workers.values() if w.generation == generation]
            last = max((stands_at(w) for w in everybody if w.ready_at is not None), default=0.0)
            opened = self._opened.get((pool, generation))
            if opened is not None and pool.generations.surge(pool.slots.size):
                last = min(last, opened + pool.settings.stable_after * WATCHED)
            yield last

    def _a_rest_is_of_one_generation(self) -> None:
        """While no reload goes on, there is what the last good configuration says, and nothing else."""
        if self._life.reload is not None:
            return
        wanted = self._life.configuration.pools
        assert self._life.pools.keys() == wanted.keys()
        for name, pool in self._life.pools.items():
            assert pool.trial is None
            assert pool.generations.gate
            assert pool.generation == pool.good
            assert pool.editions == {pool.good: wanted[name]}

    # -- begin and end ---------------------------------------------------------------

    def _each_reload_begins_and_ends_once(self, plan: Sequence[Action]) -> None:
        for action in plan:
            match action:
                case Note("reload.started", _, fields):
                    assert not self._open, "two reloads at once"
                    self._open[fields["generation"]] = fields["reload"]
                case Note("reload.done", _, fields):
                    assert self._open.pop(fields["generation"]) == fields["reload"]
                    self._all_are_new(fields["generation"], plan)
                case Note("reload.failed", _, fields):
                    assert self._open.pop(fields["generation"]) == fields["reload"]
                    assert self._life.generation != fields["generation"] or self._life.stop
                case Note("worker.failed", Worker(generation=generation, pid=int(), pool=name)):
                    if generation in self._open and not is_inner(name):
                        self._spoilt.add(generation)
                case Note("reload.rolled", _, fields):
                    assert self._open[fields["generation"]] == fields["reload"]
                    assert fields["seconds"] > 0
                case Commit(generation):
                    assert generation in self._open
                    assert self._life.generation == generation
                case Undo(generation):
                    assert generation in self._open
                    assert self._life.generation != generation
        reload = self._life.reload
        assert self._open == ({reload.generation: reload.number} if reload else {})

    def _all_are_new(self, generation: int, plan: Sequence[Action]) -> None:
        """When it is done nobody of the old generation is alive any more."""
        assert self._life.generation == generation
        next_one = any(isinstance(a, Note) and a.event == "reload.started" for a in plan)
        for pool in self._users:
            old = [w.name for w in pool.workers.values() if w.generation != generation]
            assert not old or next_one, f"{old} are still there"


def ready(pool: Pool) -> dict[int, Worker]:
    return {w.id: w for w in pool.workers.values() if w.state is State.READY}


def fewest_wanted(plan: Sequence[Action]) -> dict[str, int]:
    """What people asked for since the plan before."""
    wishes: dict[str, int] = {}
    for action in plan:
        if isinstance(action, Note) and action.event == "pool.scaled":
            name, size = action.fields["pool"], action.fields["workers"]
            wishes[name] = min(wishes.get(name, size), size)
    return wishes


def proven(pool: Pool, now: float) -> bool:
    """Recounted: one of the new ones was ready for long enough, or none can be beside the old ones."""
    done = pool.slots.finished or any(slot.fulfilled for _, slot in pool.slots)
    if done or min(pool.slots.size, pool.settings.workers) == 0:
        return True
    old = [w for w in pool.workers.values() if w.generation != pool.generation]
    if pool.generations.surge(pool.slots.size) == 0 and old:
        return True
    return any(stands_at(w) <= now for w in new(pool, now))


def new(pool: Pool, now: float) -> list[Worker]:
    """Those of the wanted generation who serve; one that was worn may have been told in this very plan."""
    ours = [w for w in pool.workers.values() if w.generation == pool.generation and w.ready_at is not None]
    return [w for w in ours if w.state is State.READY or w.asked_at == now]


def stands_at(worker: Worker) -> float:
    """When it has been ready for long enough."""
    assert worker.ready_at is not None
    return worker.ready_at + worker.settings.stable_after
