"""What a pool's picture must be after every plan: nobody lost, nobody too many.

Recounts from the workers themselves what the core counts as it goes along.
"""

from __future__ import annotations

from collections import Counter

from supervisor.decide.pool import Pool
from supervisor.decide.replacement import FORKS_AT_ONCE
from supervisor.decide.slots import Slot
from supervisor.decide.worker import State, Worker

Slots = list[tuple[int, Slot]]  # all of a pool, by their numbers


def hold_of_one_pool(pool: Pool, now: float) -> None:
    """Assert all of them."""
    slots = list(pool.slots)
    counts_equal_a_recount(pool, slots)
    everybody_has_one_place(pool, slots)
    only_stale_holders_have_heirs(pool, slots)
    whoever_was_relieved_was_told(pool, slots)
    nobody_beyond_the_wanted_number_stays(pool)
    no_slot_is_forgotten(pool, slots, now)
    workers_know_what_they_should(pool)


def counts_equal_a_recount(pool: Pool, slots: Slots) -> None:
    """The counts that are kept as things change are what a scan would find."""
    states = [w.state for w in pool.workers.values()]
    assert pool.crew.forking == states.count(State.FORKING) <= FORKS_AT_ONCE
    assert pool.up == states.count(State.READY)
    assert pool.crew.serving == Counter(w.generation for w in pool.workers.values() if not w.leaving)
    assert pool.slots.finished == sum(slot.finished for _, slot in slots)
    assert pool.slots.heirs == sum(slot.heir is not None for _, slot in slots)
    assert pool.slots.formers == sum(len(slot.former) for _, slot in slots)
    assert pool.restarts >= sum(slot.restarts for _, slot in slots)


def everybody_has_one_place(pool: Pool, slots: Slots) -> None:
    """Holder, heir or former of one slot; and nobody is there who is gone."""
    places = [(id, index) for index, slot in slots for id in slot.members()]
    assert sorted(places) == sorted((w.id, w.slot) for w in pool.workers.values())


def only_stale_holders_have_heirs(pool: Pool, slots: Slots) -> None:
    """An heir is there for one that is old, worn or already on its way."""
    for index, slot in slots:
        if slot.heir is not None:
            assert slot.worker is not None, f"an heir of nobody in {index}"
            holder = pool.workers[slot.worker]
            told = holder.leaving or holder.asked_at is not None
            assert told or holder.worn or holder.generation != pool.generation, "an heir of a good one"


def whoever_was_relieved_was_told(pool: Pool, slots: Slots) -> None:
    for _, slot in slots:
        assert all(on_its_way(pool.workers[id]) for id in slot.former), "relieved, and nobody told it"


def nobody_beyond_the_wanted_number_stays(pool: Pool) -> None:
    """But after a reload that failed: whoever came with it serves on while others are missing."""
    beyond = [w for w in pool.workers.values() if w.slot >= pool.slots.size and not on_its_way(w)]
    up = [w for w in pool.workers.values() if w.state is State.READY]
    enough = len(up) + pool.slots.finished > pool.slots.size
    assert not beyond or pool.holding or not enough, "a worker too many, and nobody told it"
    assert all(w in up and w.generation not in pool.editions for w in beyond), "it came with no failed reload"
    assert not beyond or pool.holding or pool.trial is None, "it is there when the next reload begins"


def on_its_way(worker: Worker) -> bool:
    return worker.asked_at is not None or worker.leaving


def no_slot_is_forgotten(pool: Pool, slots: Slots, now: float) -> None:
    """Somebody is in it, or something will bring the next one."""
    for index, slot in slots:
        retry_at = pool.slots.retry_at(index)
        assert slot.waiting == (retry_at is not None)
        if slot.worker is None and not slot.finished and index < pool.slots.size:
            assert later(pool, slot, retry_at, now), f"slot {index} is forgotten"


def later(pool: Pool, slot: Slot, retry_at: float | None, now: float) -> bool:
    """Whether there is a reason that this slot is empty."""
    if not pool.may_start or pool.generations.early or pool.crew.forking >= FORKS_AT_ONCE:
        return True
    if any(edition.preload and g not in pool.generations.templates for g, edition in pool.editions.items()):
        return True
    return slot.waiting and retry_at is not None and retry_at > now


def workers_know_what_they_should(pool: Pool) -> None:
    """Who works knows whether it is quiet; who leaves has no more than the pool's time for it."""
    for worker in pool.workers.values():
        quiet = pool.crew.quiet and worker.settings.command is None
        assert worker.quiet == quiet or worker.state is not State.READY
        if worker.state is State.STOPPING and not worker.dumped:
            told = max(t for t in (worker.asked_at, worker.acknowledged_at) if t is not None)
            assert worker.kill_at is not None
            assert worker.kill_at <= told + worker.settings.stop_timeout
