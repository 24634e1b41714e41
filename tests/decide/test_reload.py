"""One reload: new workers beside the old ones, then in their place; or everything as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bodies import GOOD, Body, File, pool, settings
from scenes import (
    BACKOFF,
    CRASHES,
    CRASHES_LATER,
    FORCE,
    RESTART,
    STOP,
    ask,
    generations,
    one,
    reason,
    reloading,
    running,
    slots,
    stopped,
)

from supervisor.decide.actions import Commit, Prepare, Start, Stop
from supervisor.decide.stopping import Firmness
from supervisor.decide.worker import State
from supervisor.exits import End

# -- it works ------------------------------------------------------------------------


def test_the_first_new_worker_is_tried_before_the_first_old_one_is_told() -> None:
    """Read for 0.1 s, ready after 0.1 s, stable after 2 s; then one slot after the other."""
    k = reloading(pool(workers=3, stable_after=2.0), old=pool(workers=3))
    k.wait(10)
    assert k.times(Start)[1:] == [1060.1, 1062.3, 1062.5], "the first start is the reader's"
    assert k.times(Stop) == [1062.2, 1062.4, 1062.6]
    assert all(a.replace for _, a in k.log if isinstance(a, Stop))
    assert (generations(k), k.life.generation, one(k).good) == ([2, 2, 2], 2, 2)
    [done] = k.notes("reload.done")
    assert (done.fields["reload"], done.fields["generation"]) == (1, 2)


def test_an_heir_takes_over_the_slot_of_the_one_it_replaces() -> None:
    k = reloading(pool(workers=2), old=pool(workers=2))
    k.wait(10)
    assert [a.slot for _, a in k.log if isinstance(a, Start) and a.pool == "a"] == [0, 1]
    assert [slot.restarts for _, slot in one(k).slots] == [1, 1]


@pytest.mark.parametrize(("surge", "at_once"), [(1, 1), (3, 3), ("25%", 5), ("1%", 1), ("100%", 20)])
def test_no_more_than_surge_are_beside_the_others(surge: int | str, at_once: int) -> None:
    k = reloading(pool(workers=20, surge=surge), old=pool(workers=20))
    most = 0
    while not k.notes("reload.done"):
        k.wait(0.05)
        most = max(most, len(one(k).workers))
    assert most == 20 + at_once


def test_without_surge_the_old_one_leaves_first_and_one_at_a_time() -> None:
    """For programs of which no two may run at once."""
    k = reloading(pool(workers=2, surge=0, stable_after=1.0), old=pool(workers=2))
    while not k.notes("reload.done"):
        k.wait(0.05)
        assert len(one(k).workers) <= 2
        assert one(k).up >= 1
    assert generations(k) == [2, 2]


def test_pools_wait_for_each_other_with_the_first_farewell() -> None:
    """The slowest pool's first new worker has to be stable before any old one of any pool leaves."""
    k = running(pool("a"), pool("b"))
    k.files = lambda _: File(settings(pool("a", stable_after=0.0), pool("b", stable_after=6.0)))
    k.renew()
    k.wait(10)
    assert k.times(Stop) == [1066.2, 1066.2]


def test_a_pool_that_comes_after_others_rolls_when_they_have() -> None:
    """Those may be away for it: nobody starts, and nobody is told to leave, while what they need is gone."""
    pools = [
        pool("a", surge=0),
        pool("b", workers=2, after=("a",), stable_after=0.0),
        pool("c", after=("b",)),
    ]
    k = running(*pools)
    k.files = lambda _: File(settings(*pools))
    k.renew()
    seen = []
    while not k.notes("reload.done"):
        k.wait(0.01)
        pools_of = {name: k.life.pools[name] for name in "abc"}
        if not pools_of["a"].up:
            assert (pools_of["b"].up, pools_of["c"].up) == (2 + 1, 1 + 1), (
                "each with its first new one beside"
            )
            assert not pools_of["b"].generations.gate
        seen.append([min(generations(k, name), default=1) for name in "abc"])
    assert seen[-1] == [2, 2, 2]
    assert all(a >= b >= c for a, b, c in seen)


def test_nothing_is_told_before_what_the_configuration_needs_is_open() -> None:
    k = reloading(pool(), old=pool(), seconds=3.0)
    k.wait(3)
    assert (k.times(Prepare), slots(k.wait(0.0)), one(k).generation) == ([1060.1], [], 1)
    k.wait(10)
    assert generations(k) == [2]


def test_commit_comes_when_all_serve_and_done_when_the_old_ones_are_gone() -> None:
    k = running(pool(), body=Body(leaves_after=3.0))
    k.renew()
    k.wait(10)
    [done] = [t for t, a in k.log if a in k.notes("reload.done")]
    assert (k.times(Commit), round(done, 6)) == ([1062.2], 1065.2)


# -- what changes --------------------------------------------------------------------


def test_further_workers_and_fewer_ones_come_when_the_new_generation_has_proven_itself() -> None:
    k = running(pool("a", workers=1), pool("b", workers=3))
    k.files = lambda _: File(settings(pool("a", workers=3), pool("b", workers=1)))
    k.renew()
    k.wait(2.1)
    assert ([p.slots.size for p in k.life.pools.values()], k.times(Stop)) == ([1, 3], [])
    k.wait(10)
    assert [p.slots.size for p in k.life.pools.values()] == [3, 1]
    assert (generations(k, "a"), generations(k, "b")) == ([2, 2, 2], [2])
    assert len([a for _, a in k.log if isinstance(a, Start) and a.pool == "b"]) == 1, "no heir only to leave"


def test_a_size_that_a_person_set_outlives_a_reload_that_does_not_speak_of_it() -> None:
    k = running(pool(workers=2))
    k.life.resize(one(k), 4, k.now)
    k.renew()
    k.wait(10)
    assert generations(k) == [2, 2, 2, 2]


@pytest.mark.parametrize("new", [1, 2, 8])
@pytest.mark.parametrize("body", [GOOD, CRASHES_LATER])
def test_a_size_that_a_person_sets_during_a_reload_is_the_last_word(new: int, body: Body) -> None:
    k = reloading(pool(workers=new, backoff=BACKOFF), old=pool(workers=2), body=body)
    k.wait(1)
    k.life.resize(one(k), 5, k.now)
    k.wait(20)
    assert (one(k).slots.size, one(k).full) == (5, True)


def test_a_new_pool_comes_at_once_and_an_old_one_goes_at_the_end() -> None:
    k = reloading(pool("b"), old=pool("a"))
    k.wait(1)
    assert sorted(k.life.pools) == ["a", "b"]
    k.wait(10)
    assert sorted(k.life.pools) == ["b"]
    assert (k.times(Stop), k.times(Commit)) == ([1062.2], [1062.2])


def test_a_new_pool_that_fails_goes_and_the_others_stay_untouched() -> None:
    k = reloading(pool("a"), pool("b"), old=pool("a"))
    k.bodies = lambda start: CRASHES_LATER if start.pool == "b" else GOOD
    k.wait(10)
    assert (sorted(k.life.pools), generations(k)) == (["a"], [1])
    assert reason(k) == "b.0 (generation 2): exit status 1"


def test_a_quiet_master_has_quiet_new_pools() -> None:
    k = running(pool("a"))
    k.life.hush(True)
    k.files = lambda _: File(settings(pool("a"), pool("b")))
    k.renew()
    k.wait(10)
    assert (k.worker("a.0").quiet, k.worker("b.0").quiet) == (True, True)


def test_a_reload_mends_a_pool_that_never_came_up_and_those_that_wait_for_it() -> None:
    """The old code fails; with the first new worker alone the pool would never be at strength."""
    k = running(
        pool("a", workers=3, backoff=BACKOFF),
        pool("b", after=("a",)),
        bodies=lambda start: CRASHES if start.generation == 1 else GOOD,
    )
    k.renew()
    k.wait(10)
    assert (generations(k, "a"), generations(k, "b"), k.life.was_ready) == ([2, 2, 2], [2], True)
    tried = [
        a.generation
        for t, a in k.log
        if isinstance(a, Start) and a.pool == "a" and t >= k.times(Prepare)[0] - 1e-6
    ]
    assert tried == [2, 2, 2], "the old code is not tried again beside the new"


def test_a_reload_mends_a_parked_pool() -> None:
    k = running(
        pool(workers=2, max_restarts=1, backoff=BACKOFF),
        bodies=lambda start: CRASHES if start.generation == 1 else GOOD,
    )
    assert one(k).parked
    k.renew()
    k.wait(10)
    assert (one(k).state, generations(k)) == ("ready", [2, 2])


def test_what_has_finished_is_not_run_again_and_what_finishes_as_an_heir_has_proven_itself() -> None:
    """The heir finds nothing to do any more: then the old one is the last in its slot."""
    job = pool(workers=2, restart="on-failure")
    k = reloading(job, old=job, body=Body(dies_after=0.5, dies_of=End(code=0)))
    k.crash("a.0", code=0)
    k.wait(20)
    assert [a.slot for _, a in k.log if isinstance(a, Start) and a.pool == "a"] == [1]
    assert (k.notes("reload.failed"), one(k).slots.finished, one(k).workers) == ([], 2, {})
    assert len(k.notes("reload.done")) == 1


# -- together with other wishes ------------------------------------------------------


def test_wishes_during_a_reload_merge_into_one_more_after_it() -> None:
    k = running(pool())
    assert k.renew() == 1
    k.wait(0.0)
    assert [k.renew() for _ in range(5)] == [2] * 5
    k.wait(20)
    assert [n.fields["reload"] for n in k.notes("reload.started")] == [1, 2]
    assert (generations(k), k.life.generation) == ([3], 3)


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1, 0.5, 2.2, 2.25, 2.35, 3.0])
@pytest.mark.parametrize(("firmness", "status"), [(STOP, 0), (RESTART, 4), (FORCE, 3)])
def test_a_stop_ends_both_generations_in_every_stage(after: float, firmness: Firmness, status: int) -> None:
    k = reloading(pool(workers=2), old=pool(workers=2), seconds=0.3)
    k.wait(after)
    ask(k, firmness)
    stopped(k)
    assert (k.status, k.alive) == (status, {})
    assert k.now <= 1060 + after + 1
    assert reason(k) == "the master is stopping: SIGTERM"


def test_a_reload_is_refused_once_a_stop_has_begun() -> None:
    k = running(pool())
    ask(k)
    k.life.renew("SIGHUP")
    stopped(k)
    assert (k.notes("reload.started"), len(k.notes("signal.ignored"))) == ([], 1)


def test_the_masters_own_settings_change_with_the_last_pool() -> None:
    k = running(pool(), stop_timeout=30.0)
    k.files = lambda _: replace(File(settings(pool(), stop_timeout=7.0)))
    k.renew()
    k.wait(1)
    assert k.life.settings.stop_timeout == 30.0
    k.wait(10)
    assert (k.life.settings.stop_timeout, k.worker("a.0").state) == (7.0, State.READY)
