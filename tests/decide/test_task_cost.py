"""A turn costs what changed, not how many tasks there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from task_world import DAY, HOUR, MINUTE, World, by_gaps, task, world
from test_cost import calls

from supervisor.settings import TaskSettings

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


# -- what is asked of the calendar -----------------------------------------------


class Counted:
    """A calendar that knows how often it was asked: with a real one, that is most of the cost."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, settings: TaskSettings, after: float) -> float | None:
        self.asked += 1
        return by_gaps(settings, after)

    def during(self, what: Callable[[], object]) -> int:
        before = self.asked
        what()
        return self.asked - before


@pytest.mark.parametrize("jitter", [0.0, 30.0])
def test_a_due_time_asks_the_calendar_once(jitter: float) -> None:
    """Whatever is to be known of it and of the next one."""
    calendar = Counted()
    w = world(task(schedule="60", jitter=jitter), calendar=calendar)
    assert calendar.during(lambda: w.wait(10 * MINUTE)) == len(w.starts()) >= 9


@pytest.mark.parametrize("by", [-2 * HOUR, 2 * HOUR, 0.3 * HOUR])
def test_a_clock_that_is_set_asks_it_three_times_at_most(by: float) -> None:
    calendar = Counted()
    w = world(task(schedule="60"), calendar=calendar)
    w.wait(2.5 * MINUTE)
    assert calendar.during(lambda: w.jump(by)) <= 3


@pytest.mark.parametrize("schedule", ["1", "60", "1 1 1 1 1 20000"])
def test_the_newest_of_very_many_is_found_with_few_questions(schedule: str) -> None:
    """After two days of sleep, where jitter makes each due time count for up to a day."""
    calendar = Counted()
    w = world(task(schedule=schedule, jitter=DAY), calendar=calendar)
    assert calendar.during(lambda: w.jump(2 * DAY + 0.5)) <= 40
    (run,) = w.runs.values()
    assert run["due"] <= w.wall < by_gaps(w.settings[0], run["due"])
