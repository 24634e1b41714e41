"""A turn costs what changed, not how many tasks there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from task_world import HOUR, MINUTE, World, task, world
from test_cost import calls

FEW, MANY = 10, 1000


def idle(tasks: int) -> World:
    """One is due in a minute, the others are not."""
    w = world(task("t0"), *(task(f"t{n}", every=24 * HOUR) for n in range(1, tasks)))
    w.wait(10)
    w.check = False
    return w


def nothing(w: World) -> None:
    w.tasks.clock(w.now, w.wall)
    w.tasks.plan(w.now)
    w.tasks.deadline()


def one_is_due(w: World) -> None:
    w.wait(MINUTE)


def one_is_paused(w: World) -> None:
    w.tasks.pause("p", ("t0",))
    w.turn()


def the_clock_drifts(w: World) -> None:
    w.tasks.clock(w.now, w.wall + 0.9)
    w.tasks.plan(w.now)


def the_clock_is_set(w: World) -> None:
    w.jump(HOUR)


@pytest.mark.parametrize("what", [nothing, one_is_due, one_is_paused, the_clock_drifts])
def test_a_turn_costs_the_same_with_ten_tasks_and_with_a_thousand(what: Callable[[World], None]) -> None:
    few, many = idle(FEW), idle(MANY)
    assert calls(lambda: what(few)) <= calls(lambda: what(many)) + 20
    few, many = idle(FEW), idle(MANY)
    assert calls(lambda: what(many)) <= calls(lambda: what(few)) + 20


def test_the_comparison_would_see_a_scan() -> None:
    """A clock that is set moves all of them."""
    few, many = idle(FEW), idle(MANY)
    assert calls(lambda: the_clock_is_set(many)) > calls(lambda: the_clock_is_set(few)) + MANY - FEW


def test_a_thousand_idle_tasks_wake_nobody() -> None:
    w = world(*(task(f"t{n}", every=24 * HOUR) for n in range(MANY)))
    w.wait(1)
    assert w.tasks.deadline() == w.now - 1 + 24 * HOUR
