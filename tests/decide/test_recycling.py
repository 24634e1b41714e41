"""Workers that have served long enough: the successor is ready before the old one drains."""

from __future__ import annotations

from itertools import pairwise

import pytest
from bodies import GOOD, Body, pool
from kernel import Kernel, kernel
from scenes import BACKOFF, one, running, up

from supervisor.decide.actions import Measure, Start, Stop
from supervisor.decide.worker import State
from supervisor.exits import End
from supervisor.sentences import WORDS, said
from supervisor.settings import Backoff, Seconds

QUICK = Backoff(Seconds(0.01), Seconds(1.0), Seconds(10.0))


def replaced(k: Kernel) -> list[tuple[float, float]]:
    """When each successor was started, and when the old one was told."""
    return list(zip(k.times(Start), k.times(Stop), strict=True))


def test_a_worker_of_age_works_until_its_successor_is_ready() -> None:
    k = kernel(pool(max_age=50.0), body=Body(ready_after=0.5))
    k.wait(51)
    assert (k.times(Start), k.times(Stop)) == ([1000.0, 1050.5], [1051.0])
    assert k.notes("worker.worn")[0].fields["reason"] == "has served for max_age, 50 s"
    [stop] = [a for _, a in k.log if isinstance(a, Stop)]
    assert stop.replace


def test_workers_of_one_age_do_not_leave_together() -> None:
    """Each leaves up to a tenth earlier, and no more than surge at once."""
    chances = iter([0.0, 1.0, 0.5])
    k = kernel(pool(workers=3, max_age=50.0))
    one(k).crew.wear._random = lambda: next(chances, 0.0)
    k.until(lambda: len(k.notes("worker.worn")) == 3)
    assert [n.worker.slot for n in k.notes("worker.worn") if n.worker] == [1, 2, 0]


def test_enough_jobs_are_told_by_the_worker_itself() -> None:
    k = up(workers=2, max_jobs=100)
    one(k).told(1, 99, 1, None)
    k.wait(5)
    assert replaced(k) == []
    one(k).told(1, 100, 0, None)
    k.wait(5)
    assert replaced(k) == [(1065.0, 1065.1)]
    assert k.notes("worker.worn")[0].fields["reason"] == "did 100 jobs, max_jobs is 100"


def test_memory_is_measured_only_where_it_has_a_limit_and_only_now_and_then() -> None:
    k = kernel(pool("a", workers=2, max_memory=100), pool("b"))
    k.wait(17)
    assert k.times(Measure) == [1001.1, 1006.1, 1011.1, 1016.1]
    assert {a.workers for _, a in k.log if isinstance(a, Measure)} == {(2, 3)}, "the first is the meter"


def test_a_worker_that_grew_too_large_is_replaced() -> None:
    k = up(max_memory=100 << 20)
    one(k).measured(2, 101 << 20)
    k.wait(5)
    assert replaced(k) == [(1060.0, 1060.1)]
    assert k.notes("worker.worn")[0].fields["reason"] == "uses 101 MiB PSS, max_memory is 100 MiB"


def test_a_worker_that_is_born_too_large_parks_its_pool_instead_of_looping() -> None:
    k = kernel(pool(max_memory=100 << 20), body=Body(memory=200 << 20))
    k.wait(60)
    assert (one(k).state, one(k).up, len(k.times(Stop))) == ("parked", 1, 0)
    [parked] = k.notes("pool.parked")
    assert "raise the limit" in parked.fields["reason"]
    [degraded] = k.notes("pool.degraded")
    assert said(WORDS["pool.degraded"][1], degraded.fields) == (
        "pool a is parked, so nobody who leaves is replaced: 1 of 1 ready"
    )


def test_no_more_than_surge_are_replaced_at_once() -> None:
    k = up(workers=4, surge=2, max_jobs=1)
    for id in list(one(k).workers):
        one(k).told(id, 1, 0, None)
    most = 0
    while len(k.times(Stop)) < 4:
        k.wait(0.05)
        most = max(most, len(one(k).workers))
        assert one(k).up >= 4
    assert most == 6


def test_without_surge_a_worn_worker_leaves_first() -> None:
    k = up(workers=2, surge=0, max_jobs=1)
    for id in list(one(k).workers):
        one(k).told(id, 1, 0, None)
    k.wait(5)
    assert (k.times(Stop), k.times(Start)) == ([1060.0, 1060.2], [1060.1, 1060.3])


def test_a_worn_worker_works_on_while_its_successors_fail() -> None:
    bodies = iter([GOOD, *[Body(ready_after=None, dies_after=0.0)] * 3])
    k = running(pool(max_jobs=1, backoff=BACKOFF), bodies=lambda _: next(bodies, GOOD))
    one(k).told(1, 1, 0, None)
    k.wait(6.9)
    assert (k.times(Start), k.times(Stop)) == ([1060.0, 1061.0, 1063.0], [])
    assert k.worker("a.0").state is State.READY
    k.wait(1)
    assert k.times(Stop) == [1067.1]


@pytest.mark.parametrize("end", [End(code=1), End(signal=9), End(code=4)])
def test_where_the_worn_worker_dies_first_its_successor_has_the_place(end: End) -> None:
    k = running(pool(max_jobs=1), body=Body(ready_after=0.5))
    one(k).told(1, 1, 0, None)
    k.wait(0.2)
    k.ends(1, end)
    k.wait(5)
    assert (len(k.times(Start)), one(k).up, one(k).slots[0].worker) == (1, 1, 2)


def test_where_the_successor_finds_nothing_to_do_the_worn_worker_is_the_last_in_its_place() -> None:
    bodies = iter([GOOD, Body(ready_after=None, dies_after=0.5, dies_of=End(code=0))])
    k = running(pool(max_jobs=1, restart="on-failure"), bodies=lambda _: next(bodies))
    one(k).told(1, 1, 0, None)
    k.wait(30)
    assert (k.times(Start), k.times(Stop), one(k).slots.finished) == ([1060.0], [1060.5], 1)


def test_nobody_is_recycled_during_a_stop() -> None:
    k = kernel(pool(max_age=50.0), body=Body(leaves_after=20.0))
    k.wait(49)
    k.life.interrupt("SIGINT", k.now)
    k.wait(10)
    assert len(k.times(Start)) == 1


IN_NO_TIME = Body(works_for=0.1)  # it has done its jobs as soon as it is ready


@pytest.mark.parametrize(("surge", "seconds"), [(1, 1.1), (0, 1.2)])
def test_one_that_has_done_its_jobs_in_no_time_serves_on_until_backoff_initial(
    surge: int, seconds: float
) -> None:
    """Each serves for a second, and 0.1 s more while its successor starts; without surge it leaves first."""
    k = kernel(pool(max_jobs=1, surge=surge, backoff=BACKOFF), body=IN_NO_TIME)
    k.wait(1000)
    told = k.times(Stop)
    assert {round(after - before, 6) for before, after in pairwise(told)} == {seconds}
    assert one(k).slots[0].history.replacements == 0, "it does not become longer and longer"


def test_one_that_has_worked_for_longer_is_replaced_at_once() -> None:
    k = kernel(pool(max_jobs=1, backoff=BACKOFF), body=Body(works_for=1.2))
    k.wait(1.2)
    assert k.times(Start) == [1000.0, 1001.2]


def test_a_reload_does_not_wait_for_one_that_has_done_its_jobs_in_no_time() -> None:
    """It is of the old generation, so it is to be replaced anyway."""
    slow = Backoff(Seconds(20.0), Seconds(30.0), Seconds(10.0))
    k = kernel(pool(max_jobs=1, backoff=slow), body=IN_NO_TIME)
    k.wait(1)
    k.renew()
    k.wait(5)
    assert k.times(Stop) == [1003.2]


def test_workers_that_wear_out_again_and_again_keep_no_other_waiting() -> None:
    """All three want a successor all the time, and only one may come at once."""
    k = kernel(pool(workers=3, max_jobs=1, backoff=QUICK), body=IN_NO_TIME)
    k.wait(30)
    lives = [slot.lives for _, slot in one(k).slots]
    assert max(lives) - min(lives) <= 1
