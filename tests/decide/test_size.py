"""What people change in a pool: its size, quiet, one that gave up; and what they are told."""

from __future__ import annotations

from bodies import GOOD, Body, pool
from kernel import kernel
from scenes import (
    BACKOFF,
    DEAF,
    one,
    slots,
    up,
)

from supervisor.decide.actions import Dump, Kill, Quiet, Start, Stop
from supervisor.exits import End
from supervisor.settings import Backoff, Seconds

# -- giving up ---------------------------------------------------------------------


def test_a_pool_that_keeps_failing_is_parked_and_stays_so() -> None:
    k = kernel(
        pool(max_restarts=2, within=60.0, backoff=BACKOFF), body=Body(ready_after=None, dies_after=1.0)
    )
    k.wait(200)
    assert len(k.times(Start)) == 3
    assert (one(k).parked, one(k).state, one(k).full, k.life.descent) == (True, "parked", False, None)
    [note] = k.notes("pool.parked")
    assert note.fields["reason"] == "more than 2 failures in 60 s"


def test_a_parked_pool_leaves_those_who_work_alone() -> None:
    k = up(workers=2, max_restarts=0)
    k.crash("a.0")
    k.wait(100)
    assert (one(k).parked, one(k).up, k.times(Start), k.times(Stop)) == (True, 1, [], [])


def test_a_parked_pool_tries_again_when_it_is_scaled_even_to_its_own_size() -> None:
    k = up(workers=2, max_restarts=0)
    k.crash("a.0")
    k.wait(100)
    k.life.resize(one(k), 2, k.now)
    assert slots(k.wait(1)) == [0]
    assert (one(k).parked, one(k).full) == (False, True)


def test_scaling_ends_a_backoff() -> None:
    k = kernel(pool(backoff=Backoff(Seconds(30.0))), body=Body(ready_after=None, dies_after=1.0))
    k.wait(2)
    k.life.resize(one(k), 1, k.now)
    assert slots(k.wait(0)) == [0]


# -- size --------------------------------------------------------------------------


def test_growing_starts_only_those_that_are_missing() -> None:
    k = up(workers=2)
    k.life.resize(one(k), 4, k.now)
    assert slots(k.wait(1)) == [2, 3]


def test_shrinking_asks_the_highest_slots_to_leave_and_starts_nobody() -> None:
    k = up(workers=4)
    k.life.resize(one(k), 2, k.now)
    stops = [a for a in k.wait(10) if isinstance(a, Stop)]
    assert stops == [Stop(3, replace=False), Stop(4, replace=False)]
    assert (k.times(Start), sorted(k.alive), one(k).full) == ([], [1, 2], True)


def test_one_too_many_that_does_not_leave_is_killed_after_the_pools_time() -> None:
    k = up(workers=2, body=DEAF, stop_timeout=8.0)
    k.life.resize(one(k), 1, k.now)
    k.wait(20)
    assert (k.times(Dump), k.times(Kill), k.times(Start)) == ([1067.7], [1068.0], [])


def test_growing_again_waits_for_the_one_that_still_drains() -> None:
    k = up(workers=2, body=Body(leaves_after=3.0))
    k.life.resize(one(k), 1, k.now)
    k.wait(1)
    k.life.resize(one(k), 2, k.now)
    k.wait(1)
    assert (k.times(Start), one(k).full) == ([], False)
    k.wait(10)
    assert (k.times(Start), one(k).full) == ([1063.0], True)


def test_shrinking_and_growing_in_one_instant_replaces_the_worker_that_was_told() -> None:
    k = up(workers=2)
    k.life.resize(one(k), 1, k.now)
    k.life.resize(one(k), 2, k.now)
    k.wait(10)
    assert (len(k.times(Stop)), k.times(Start), one(k).full) == (1, [1060.1], True)


def test_shrinking_below_a_worker_that_is_still_starting_asks_it_too() -> None:
    k = kernel(pool(workers=2), body=Body(ready_after=5.0))
    k.wait(1)
    k.life.resize(one(k), 1, k.now)
    k.wait(10)
    assert (len(k.times(Stop)), sorted(k.alive), one(k).full) == (1, [1], True)


def test_nobody_is_told_anything_who_was_gone_in_the_same_instant() -> None:
    k = up(workers=2)
    k.life.hush(True)
    k.life.resize(one(k), 1, k.now)
    k.ends(2, End(code=0))
    k.ends(1, End(code=0))
    assert not [a for a in k.turn() if isinstance(a, Stop | Quiet)]


# -- quiet -------------------------------------------------------------------------


def test_quiet_is_told_to_those_who_are_ready_and_to_others_when_they_are() -> None:
    bodies = iter([GOOD, Body(ready_after=5.0)])
    k = kernel(pool(workers=2), bodies=lambda _: next(bodies))
    k.wait(1)
    k.life.hush(True)
    assert [a for a in k.wait(1) if isinstance(a, Quiet)] == [Quiet(1, on=True)]
    assert [a for a in k.wait(10) if isinstance(a, Quiet)] == [Quiet(2, on=True)]
    k.life.hush(False)
    assert [a for a in k.wait(1) if isinstance(a, Quiet)] == [Quiet(1, on=False), Quiet(2, on=False)]


def test_a_replacement_in_a_quiet_pool_is_told_too() -> None:
    k = up()
    k.life.hush(True)
    k.wait(1)
    k.crash("a.0")
    assert [a for a in k.wait(1) if isinstance(a, Quiet)] == [Quiet(2, on=True)]


def test_a_worker_that_leaves_is_not_told_to_be_quiet_for_a_continue_would_follow() -> None:
    k = up(body=Body(leaves_after=5.0))
    k.told_to_leave(1, 0)
    k.wait(1)
    k.life.hush(True)
    assert k.wait(0) == k.notes("master.quiet")


def test_saying_quiet_twice_says_nothing_more() -> None:
    k = up()
    k.life.hush(True)
    k.life.hush(True)
    assert len([a for a in k.wait(1) if isinstance(a, Quiet)]) == 1


# -- what is told ------------------------------------------------------------------


def test_facts_told_twice_or_of_strangers_change_nothing() -> None:
    once, twice = (
        kernel(pool(), body=Body(dies_after=5.0)),
        kernel(pool(), body=Body(dies_after=5.0, stutters=True)),
    )
    assert once.wait(20) == twice.wait(20)
    for fact in (one(twice).ready, one(twice).beat, one(twice).acknowledged):
        fact(999, twice.now)
    one(twice).told(999, 1, 1, "?")
    assert twice.turn() == []


def test_what_a_worker_says_of_itself_is_kept_until_it_says_something_else() -> None:
    k = up()
    one(k).told(1, 5, 2, "busy")
    one(k).told(1, None, 0, None)
    worker = k.worker("a.0")
    assert (worker.jobs, worker.in_flight, worker.text) == (5, 0, "busy")


def test_losing_and_regaining_strength_is_told_once_each() -> None:
    k = up(workers=2)
    k.crash("a.0")
    k.wait(10)
    degraded, ready = k.notes("pool.degraded"), k.notes("pool.ready")
    assert [n.fields["ready"] for n in degraded] == [1]
    assert [n.fields["ready"] for n in ready] == [2]


def test_a_state_has_one_word_for_people() -> None:
    bodies = iter([GOOD, Body(ready_after=1.0)])
    k = kernel(pool(backoff=BACKOFF), bodies=lambda _: next(bodies))
    k.turn()
    assert one(k).state == "starting"
    k.wait(20)
    assert one(k).state == "ready"
    k.crash("a.0")
    k.turn()
    assert one(k).state == "degraded"
    one(k).hold()
    assert one(k).state == "stopping"
