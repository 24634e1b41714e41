"""A new generation is watched for half of `stable_after` since it rolls: what that finds and costs."""

from __future__ import annotations

import pytest
from bodies import GOOD, Body, File, pool, settings
from kernel import Kernel
from scenes import (
    BACKOFF,
    RESTART,
    STOP,
    ask,
    generations,
    one,
    reason,
    reloading,
    running,
    stopped,
)

from supervisor.decide.actions import Commit, Start, Stop, Undo
from supervisor.decide.inner import template_name
from supervisor.decide.stopping import Firmness
from supervisor.settings import PoolSettings

FAILS_SOON = Body(dies_after=0.6)  # half a second after its readiness
FAILS_SOONER = Body(dies_after=0.3)
FOUR = pool(workers=4)
TWO = pool(workers=2)


def second_fails(start: Start) -> Body:
    return FAILS_SOON if start.generation == 2 and start.slot % 2 else GOOD


def watched(*new: PoolSettings, old: PoolSettings = FOUR, then: Body = GOOD) -> Kernel:
    """They roll since 1062.2, so are watched until 1063.2; all are new since 1062.8, slot 3 is the last."""
    k = reloading(*(new or (old,)), old=old)
    k.bodies = lambda start: then if start.generation == 2 and start.slot == 3 else GOOD
    k.until(lambda: bool(k.notes("reload.rolled")))
    return k


def rolled_back(k: Kernel, fewest: int) -> None:
    """Until only old ones serve; so many were ready all the time."""
    k.until(lambda: bool(k.notes("reload.failed")))
    while set(generations(k)) != {1} or not one(k).full:
        assert one(k).up >= fewest
        k.wait(0.01)


# -- how long it takes ---------------------------------------------------------------


def test_it_is_done_when_it_was_watched_since_it_began_to_roll() -> None:
    """All are new at 1062.8, each ready 0.2 s after the one before; that much of the time is over then."""
    k = watched()
    assert (round(k.now, 6), generations(k), k.times(Commit)) == (1062.8, [2, 2, 2, 2], [])
    [rolled] = k.notes("reload.rolled")
    assert (rolled.fields["reload"], rolled.fields["generation"]) == (1, 2)
    assert round(rolled.fields["seconds"], 6) == 0.4
    k.wait(10)
    assert k.times(Commit) == [1063.2]


@pytest.mark.parametrize(
    ("workers", "surge", "done"), [(2, 1, 1063.2), (100, "25%", 1063.2), (8, 1, 1063.6), (12, 1, 1064.4)]
)
def test_rolling_is_part_of_the_time(workers: int, surge: int | str, done: float) -> None:
    """At least half of `stable_after`, however few there are; a roll of 1.4 s has nothing behind it."""
    new = pool(workers=workers, surge=surge)
    k = reloading(new, old=new)
    k.wait(10)
    assert k.times(Commit) == [done]
    assert len(k.notes("reload.rolled")) == (workers not in (8, 12))


@pytest.mark.parametrize(("workers", "surge"), [(1, 1), (4, 4)])
def test_those_that_stood_with_the_first_are_not_watched_twice(workers: int, surge: int) -> None:
    """They were all tried beside the old ones."""
    new = pool(workers=workers, surge=surge)
    k = reloading(new, old=new)
    k.wait(10)
    assert (k.times(Commit), k.notes("reload.rolled")) == ([1062.2], [])


def test_no_longer_than_until_the_last_has_been_ready_for_as_long() -> None:
    """All four are tried at once; the last is ready half a second after the others."""
    new = pool(workers=4, surge=4)
    k = running(new)
    k.bodies = lambda start: Body(ready_after=0.6) if start.slot == 3 else GOOD
    k.files = lambda _: File(settings(new))
    k.renew()
    k.wait(10)
    assert (k.times(Stop)[0], k.times(Commit)) == (1062.2, [1062.7])


def test_a_pool_that_comes_after_another_is_watched_from_its_own_beginning() -> None:
    """It rolls when the other one has, at 1063.0, though its first worker has stood as long."""
    k = running(pool("a", workers=5), pool("b", workers=2, after=("a",)))
    k.renew()
    k.wait(20)
    assert k.times(Commit) == [1064.0]


def test_pools_are_watched_at_the_same_time() -> None:
    """The longest of them counts; one that rolled early and stands long need not be the last."""
    pools = [pool("a", workers=2, stable_after=5.0), pool("b", workers=3, stable_after=1.0)]
    k = running(*pools)
    k.renew()
    k.wait(20)
    assert k.times(Stop) == [1065.2, 1065.2, 1065.4, 1065.4, 1065.6]
    assert k.times(Commit) == [1067.7]


def test_recycling_does_not_make_it_longer() -> None:
    """Whoever comes after one that is worn is as good as that one was."""
    k = watched(pool(workers=4, stable_after=4.0))
    while not k.times(Commit):
        worker = k.worker("a.0")
        one(k).measured(worker.id, 0)
        k.life.everybody.users["a"].crew.wear_out(worker, "is worn")
        one(k)._replacement.worn(worker)
        k.wait(0.3)
    assert k.times(Commit) == [1066.2]
    assert len(k.notes("worker.worn")) > 3


# -- what it finds -------------------------------------------------------------------


@pytest.mark.parametrize("new", [TWO, FOUR, pool(workers=2, surge=0), pool(workers=4, surge=0)])
def test_every_second_new_worker_fails_half_a_second_after_its_readiness(new: PoolSettings) -> None:
    """All may have rolled by then: they go back one by one, and only the one that failed was missing."""
    k = running(new, bodies=second_fails)
    k.renew()
    rolled_back(k, fewest=new.workers - (1 if new.surge else 2))
    assert reason(k) == "a.1 (generation 2): exit status 1"
    assert (k.times(Commit), k.life.generation, one(k).editions) == ([], 1, {1: new})
    k.log.clear()
    k.wait(60)
    assert (k.times(Start), k.times(Stop)) == ([], [])


def test_the_last_that_fails_just_before_the_end_takes_all_back() -> None:
    k = watched(then=Body(dies_after=0.49))
    rolled_back(k, fewest=3)
    assert (reason(k), k.times(Undo)) == ("a.3 (generation 2): exit status 1", [1063.19])


def test_a_failure_after_a_roll_that_was_longer_than_the_watch_is_the_pools_own_matter() -> None:
    """But until the last one is ready, any that fails takes all back."""
    new = pool(workers=12)
    k = reloading(new, old=new)
    k.bodies = lambda start: Body(dies_after=0.15) if (start.generation, start.slot) == (2, 11) else GOOD
    k.wait(10)
    assert (k.times(Commit), len(k.notes("reload.done"))) == ([1064.4], 1)
    k = reloading(new, old=new)
    k.bodies = lambda start: Body(dies_after=1.85) if (start.generation, start.slot) == (2, 2) else GOOD
    k.until(lambda: bool(k.notes("reload.failed")))
    assert k.times(Undo) == [1064.35]


def test_a_failure_after_the_end_is_the_pools_own_matter() -> None:
    k = watched()
    k.wait(0.5)
    k.crash("a.3")
    k.wait(10)
    assert (k.times(Undo), generations(k), len(k.notes("reload.done"))) == ([], [2, 2, 2, 2], 1)


def test_a_slot_that_the_new_generation_emptied_is_not_in_backoff_for_the_old_one() -> None:
    """Neither is what the new one did held against it later."""
    k = watched(pool(workers=4, backoff=BACKOFF), old=pool(workers=4, backoff=BACKOFF), then=FAILS_SOONER)
    k.until(lambda: bool(k.notes("reload.failed")))
    assert k.worker("a.3").generation == 1
    assert one(k).slots[3].history.failures == 0


def test_the_old_template_is_there_until_the_new_generation_is_the_good_one() -> None:
    """So those that come back are forked from the old code; without one, from what is on disk."""
    preload = pool(workers=4, preload=True)
    k = watched(old=preload, then=FAILS_SOONER)
    both = {template_name("a", generation) for generation in (1, 2)}
    assert both <= k.life.everybody.inner.keys()
    templates = {p.name: [*p.workers] for p in k.life.everybody if p.name in both}
    rolled_back(k, fewest=3)
    k.wait(5)
    [left] = [p for p in k.life.everybody if p.name in both]
    assert [*left.workers] == templates[template_name("a", 1)]


def test_the_new_template_that_dies_while_it_is_watched_takes_all_back() -> None:
    k = watched(old=pool(workers=4, preload=True))
    k.crash("@a:2.0")
    rolled_back(k, fewest=4)
    assert reason(k) == "@a:2.0 (generation 2): exit status 1"


def test_pools_that_come_and_go_and_sizes_are_as_they_were_after_a_late_failure() -> None:
    """The old pool that is not in the new file is untouched until then."""
    old = [pool("a", workers=4), pool("b", workers=2), pool("gone")]
    new = [pool("a", workers=5), pool("b", workers=1), pool("here")]
    k = running(*old, bodies=lambda s: FAILS_SOON if (s.generation, s.slot) == (2, 4) else GOOD)
    before = set(k.life.pools["gone"].workers)
    k.files = lambda _: File(settings(*new))
    k.renew()
    k.until(lambda: bool(k.notes("reload.rolled")))
    assert [len(generations(k, name)) for name in ("a", "b", "gone", "here")] == [5, 2, 1, 1]
    k.until(lambda: bool(k.notes("reload.failed")))
    while k.life.everybody.leaving or set(generations(k)) != {1}:
        assert [k.life.pools[name].up >= least for name, least in (("a", 4), ("b", 2), ("gone", 1))]
        k.wait(0.01)
    k.wait(1)
    assert {name: generations(k, name) for name in k.life.pools} == {
        "a": [1, 1, 1, 1],
        "b": [1, 1],
        "gone": [1],
    }
    assert set(k.life.pools["gone"].workers) == before


@pytest.mark.parametrize("surge", [1, 3, 0])
def test_who_came_with_a_larger_size_is_there_until_the_one_that_failed_has_a_successor(surge: int) -> None:
    """Before there were four: of the three that are too many two leave at once, and one serves on."""
    small = pool(workers=4, surge=surge)
    k = reloading(pool(workers=7, surge=surge), old=small)
    k.until(lambda: bool(k.notes("reload.rolled")))
    assert one(k).up == 7
    k.crash("a.1")
    k.until(lambda: bool(k.notes("reload.failed")))
    assert generations(k).count(2) == (4 if surge else 3)
    while set(generations(k)) != {1} or len(one(k).workers) > 4:
        assert one(k).up >= (4 if surge else 3)
        k.wait(0.01)
    assert generations(k) == [1] * 4


# -- without surge -------------------------------------------------------------------

ALONE = pool(workers=4, surge=0)


def test_without_surge_the_first_new_one_stands_before_the_second_old_one_leaves() -> None:
    """Told at 1060.1, gone after 0.1 s, replaced and ready 0.1 s later; from then on one after the other."""
    k = reloading(ALONE, old=ALONE)
    k.wait(20)
    assert k.times(Stop) == [1060.1, 1062.3, 1062.5, 1062.7]
    assert k.times(Commit) == [1063.3]


def test_without_surge_a_single_one_is_watched_in_the_place_of_the_old_one() -> None:
    """It was ready at 1060.3."""
    k = reloading(pool(surge=0), old=pool(surge=0))
    k.wait(20)
    assert k.times(Commit) == [1062.3]


def test_without_surge_code_that_crashes_a_second_after_readiness_costs_one_slot() -> None:
    k = reloading(ALONE, old=ALONE, body=Body(dies_after=1.1))
    untouched = {worker.id for worker in one(k).workers.values() if worker.slot}
    rolled_back(k, fewest=3)
    assert untouched <= set(one(k).workers)
    assert len([a for _, a in k.log if isinstance(a, Start) and (a.pool, a.generation) == ("a", 2)]) == 1


def test_without_surge_one_that_finishes_its_work_has_stood() -> None:
    """The first new one finds nothing to do any more: the others need not wait for it."""
    job = pool(workers=3, surge=0, restart="on-failure")
    k = reloading(job, old=job)
    k.wait(1)
    k.crash("a.0", code=0)
    k.wait(10)
    assert k.times(Stop)[1] == 1061.0
    assert len(k.notes("reload.done")) == 1


def test_without_surge_one_that_asks_to_be_replaced_is_not_the_one_that_stands() -> None:
    """Its successor in that slot is waited for."""
    k = reloading(ALONE, old=ALONE)
    k.wait(1.1)
    k.crash("a.0", code=4)
    k.wait(20)
    assert k.times(Stop)[:2] == [1060.1, 1063.2]


def test_without_surge_one_that_is_worn_at_once_stands_all_the_same() -> None:
    """It serves on until then, so the reload comes to its end."""
    k = reloading(ALONE, old=ALONE, body=Body(works_for=0.2))
    k.files = lambda _: File(settings(pool(workers=4, surge=0, max_jobs=1)))
    k.wait(20)
    assert len(k.notes("reload.done")) == 1


def test_a_roll_back_without_surge_waits_for_nobody_to_stand() -> None:
    """What it goes back to has stood already."""
    k = reloading(ALONE, old=ALONE)
    k.bodies = lambda s: FAILS_SOONER if s.generation == 2 and s.slot == 3 else GOOD
    k.until(lambda: bool(k.notes("reload.failed")))
    k.log.clear()
    rolled = k.now
    k.wait(5)
    assert [round(t - rolled, 6) for t in k.times(Stop)] == [0.1, 0.3, 0.5]


# -- together with other wishes ------------------------------------------------------


@pytest.mark.parametrize(("firmness", "status"), [(STOP, 0), (RESTART, 4)])
def test_a_stop_wins_at_once(firmness: Firmness, status: int) -> None:
    k = watched()
    k.wait(0.3)
    ask(k, firmness)
    stopped(k)
    assert (k.status, k.alive, k.times(Commit)) == (status, {}, [])
    assert k.now <= 1062.8 + 0.3 + 1


def test_a_wish_for_another_reload_waits_for_the_end() -> None:
    k = watched()
    assert [k.renew() for _ in range(3)] == [2, 2, 2]
    k.wait(20)
    assert [n.fields["reload"] for n in k.notes("reload.done")] == [1, 2]
    assert (k.times(Commit), generations(k)) == ([1063.2, 1066.4], [3, 3, 3, 3])


def test_a_wish_for_more_workers_is_part_of_it() -> None:
    """The reload is not done before they are there."""
    k = watched()
    k.wait(0.35)
    k.life.resize(one(k), 6, k.now)
    k.wait(20)
    assert k.times(Commit) == [1063.25]
    assert generations(k) == [2] * 6
