"""A turn costs what changed, not how many workers there are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from bodies import Body, pool
from kernel import Kernel, kernel

from supervisor.decide.pool import Pool
from supervisor.decide.worker import State, Worker
from supervisor.exits import End

FEW, MANY = 10, 1000


def calls(work: Callable[[], object]) -> int:
    """How many functions, of Python or C, were called; generators count each time they go on."""
    count = 0

    def note(_frame: object, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def ready(workers: int) -> Kernel:
    k = kernel(pool(workers=workers, watchdog=1000.0))
    k.until(lambda: k.life.was_ready)
    k.now += 100.0
    k.turn()
    return k


def turn(k: Kernel, fact: Callable[[Pool], object]) -> int:
    """The calls of one fact, its plan, and the question how long to sleep."""
    home = k.life.pools["a"]

    def work() -> None:
        fact(home)
        k.life.plan(k.now)
        k.life.deadline()

    return calls(work)


@pytest.mark.parametrize(
    "fact",
    [
        lambda home: None,
        lambda home: home.beat(5, 2000.0),
        lambda home: home.acknowledged(5, 2000.0),
        lambda home: home.exited(5, End(code=1), 2000.0),
    ],
    ids=["nothing", "beat", "acknowledged", "exited"],
)
def test_one_fact_costs_the_same_with_ten_workers_and_with_a_thousand(fact: Callable[[Pool], object]) -> None:
    few, many = turn(ready(FEW), fact), turn(ready(MANY), fact)
    assert few <= many <= few + 20


def test_the_comparison_would_see_a_scan() -> None:
    """Going quiet tells every worker, and so must cost more with more of them."""
    few, many = (
        turn(ready(FEW), lambda home: home.hush(True)),
        turn(ready(MANY), lambda home: home.hush(True)),
    )
    assert many > few + (MANY - FEW)


class Counting(dict[int, Any]):
    """Counts what a loop over the workers would touch; no call, so no profiler sees it."""

    looked_at = 0

    def _counted(self, items: Any) -> Any:
        self.looked_at += len(self)
        return items

    def __iter__(self) -> Any:
        return self._counted(super().__iter__())

    def values(self) -> Any:
        return self._counted(super().values())

    def items(self) -> Any:
        return self._counted(super().items())


def test_one_exit_looks_at_no_other_worker_nor_at_any_other_slot() -> None:
    k = ready(MANY)
    home = k.life.pools["a"]
    home.crew.workers = Counting(home.workers)
    home.slots._slots = Counting(home.slots._slots)
    k.life.exited(5, End(code=1), k.now)
    k.life.plan(k.now)
    k.life.deadline()
    assert (home.workers.looked_at, home.slots._slots.looked_at) == (0, 0)


# -- during a reload -----------------------------------------------------------------


def rolling(workers: int) -> Kernel:
    """In the midst of a reload, just before the next heir is ready."""
    k = kernel(pool(workers=workers, watchdog=1000.0), body=Body(leaves_after=0.0))
    k.until(lambda: k.life.was_ready)
    k.renew()
    home = k.life.pools["a"]
    k.until(lambda: home.crew.serving.get(2, 0) == FEW // 2 and home.crew.forking == 1)
    return k


def next_heir(k: Kernel) -> Worker:
    """The one that is being started."""
    [heir] = [w for w in k.life.pools["a"].workers.values() if w.state is State.FORKING]
    return heir


def heirs_turns(k: Kernel, heir: Worker, measure: Callable[[Callable[[], object]], int]) -> list[int]:
    """What each turn of one replacement costs: ready, so the old one is told; gone, so the next is born."""
    home = k.life.pools["a"]
    holder = home.slots[heir.slot].worker
    assert holder is not None

    def facts() -> None:
        home.started(heir.id, 1)
        home.ready(heir.id, k.now)

    def turn(fact: Callable[[], object]) -> Callable[[], object]:
        return lambda: (fact(), k.life.plan(k.now), k.life.deadline())

    return [measure(turn(facts)), measure(turn(lambda: k.life.exited(holder, End(code=4), k.now)))]


def test_one_replacement_of_a_reload_costs_the_same_with_ten_workers_and_with_a_thousand() -> None:
    few, many = [heirs_turns(k, next_heir(k), calls) for k in (rolling(FEW), rolling(MANY))]
    assert all(b <= a + 40 for a, b in zip(few, many, strict=True)), (few, many)


def test_one_replacement_of_a_reload_looks_at_no_other_worker_nor_at_any_other_slot() -> None:
    k = rolling(MANY)
    home, heir = k.life.pools["a"], next_heir(k)
    home.crew.workers = Counting(home.workers)
    home.slots._slots = Counting(home.slots._slots)

    def looked_at(turn: Callable[[], object]) -> int:
        turn()
        return home.workers.looked_at + home.slots._slots.looked_at

    assert heirs_turns(k, heir, looked_at) == [0, 0]
