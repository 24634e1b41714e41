"""When a task runs: `every`, jitter, overlap, missed runs, and clocks that are set."""

from __future__ import annotations

from typing import Any

import pytest
from task_world import BEGAN, DAY, HOUR, MINUTE, Body, World, task, world

from supervisor.decide.task_actions import StartRun, StopRun
from supervisor.settings import TaskSettings


def times(w: World) -> list[float]:
    return [round(at, 3) for at, _ in w.starts()]


def test_every_runs_first_after_one_interval_and_then_at_each() -> None:
    w = world()
    w.wait(200)
    assert w.starts() == [(60.0, "schedule"), (120.0, "schedule"), (180.0, "schedule")]


def test_every_keeps_its_phase_over_a_restart() -> None:
    w = world(task(every=HOUR))
    w.wait(90 * MINUTE)
    w.restart(down=7.0)
    w.wait(HOUR)
    assert times(w) == [HOUR, 2 * HOUR]


def test_nothing_wakes_the_master_between_two_due_times() -> None:
    w = world(task(every=HOUR))
    assert w.tasks.deadline() == w.now + HOUR


def test_a_schedule_that_never_comes_is_waited_for_by_nobody() -> None:
    w = world(task(schedule="never"))
    assert (w.tasks.deadline(), w.shown()["next_run"]) == (None, None)


def test_jitter_delays_each_run_and_never_beyond_the_next_due_time() -> None:
    w = world(task(every=MINUTE, jitter=HOUR), random=lambda: 0.999)
    w.wait(4 * MINUTE)
    assert times(w) == pytest.approx([119.94, 179.94, 239.94])


def test_a_run_that_jitter_delays_is_not_lost_by_a_restart() -> None:
    w = world(task(every=DAY, jitter=HOUR))
    w.wait(DAY + 10 * MINUTE)
    w.restart(down=5 * MINUTE)
    w.wait(HOUR)
    assert w.starts() == [(DAY + 30 * MINUTE, "schedule")]


def test_overlap_skip_leaves_out_what_is_due_while_it_runs() -> None:
    w = world(task(every=MINUTE), bodies=lambda _: Body(130))
    w.wait(200)
    assert times(w) == [60.0]
    w.wait(50)
    assert times(w) == [60.0, 240.0]
    assert [n["due"] - BEGAN for n in w.notes("task.skipped")] == [120.0, 180.0]


def test_overlap_queue_has_one_run_wait_and_no_second() -> None:
    w = world(task(every=MINUTE, overlap="queue"), bodies=lambda _: Body(150))
    w.wait(215)
    assert times(w) == [60.0, 210.0]
    assert [n["due"] - BEGAN for n in w.notes("task.skipped")] == [180.0]


def test_a_run_that_takes_too_long_is_told_to_stop_once_and_timed_out() -> None:
    w = world(task(timeout=10.0), bodies=lambda _: Body(None))
    actions = w.wait(75)
    assert [a for a in actions if isinstance(a, StopRun)] == [
        StopRun("a", 1, "it takes longer than 10 s"),
    ]
    assert (w.runs[1]["outcome"], w.state()) == ("timed out", "errored")
    assert w.shown()["reason"] == "timed out after 10 s"


def test_one_that_says_it_was_well_after_its_time_still_timed_out() -> None:
    w = world(task(timeout=10.0), bodies=lambda _: Body(None))
    w.wait(60)
    w.tasks.plan(w.now + 10.0)
    w.end(1, "ok")
    assert w.runs[1]["outcome"] == "timed out"


# -- missed --------------------------------------------------------------------

MISSED = [("skip", []), ("once", ["missed"])]


@pytest.mark.parametrize(("policy", "by"), MISSED)
def test_what_was_missed_while_the_master_was_down_runs_once_or_never(policy: Any, by: list[str]) -> None:
    w = world(task(every=HOUR, missed=policy))
    w.restart(down=10.5 * HOUR)
    w.wait(0)
    assert [b for _, b in w.starts()] == by
    w.wait(40 * MINUTE)
    assert w.starts()[-1] == (11 * HOUR, "schedule")


@pytest.mark.parametrize(("policy", "by"), MISSED)
def test_a_machine_that_slept_makes_up_for_one_run_or_none(policy: Any, by: list[str]) -> None:
    w = world(task(every=HOUR, missed=policy))
    w.jump(10.5 * HOUR)
    assert [b for _, b in w.starts()] == by
    w.wait(HOUR)
    assert w.starts()[len(by) :] == [(11 * HOUR, "schedule")]


@pytest.mark.parametrize("policy", ["skip", "once"])
def test_a_due_time_less_than_a_minute_ago_was_not_missed(policy: Any) -> None:
    w = world(task(every=HOUR, missed=policy))
    w.wait(HOUR - 10)
    w.restart(down=60.0)
    assert w.starts() == [(HOUR + 50, "schedule")]


def test_of_many_that_passed_the_newest_still_counts_and_no_other() -> None:
    w = world(task(every=10.0))
    w.jump(1005.0)
    assert [b for _, b in w.starts()] == ["schedule"]
    w.wait(5)
    assert times(w) == [1005.0, 1010.0]


@pytest.mark.parametrize(("policy", "by"), MISSED)
def test_resuming_brings_at_most_one_run(policy: Any, by: list[str]) -> None:
    w = world(task(every=HOUR, missed=policy))
    w.pause("a")
    w.wait(10 * HOUR + 30)  # less than a minute after the last one
    w.resume("a")
    w.pause("a")
    w.resume("a")
    assert [b for _, b in w.starts()] == by
    w.wait(HOUR)
    assert w.starts()[len(by) :] == [(11 * HOUR, "schedule")]


# -- clocks --------------------------------------------------------------------


def test_a_clock_set_back_brings_no_due_time_twice() -> None:
    w = world(task(schedule=f"{DAY:g}"))
    w.wait(DAY + MINUTE)
    w.jump(-HOUR)
    w.wait(DAY + HOUR)
    assert [round(row["due"] - BEGAN) for row in w.runs.values()] == [DAY, 2 * DAY]


def test_nor_does_one_that_was_set_forward_first_and_then_back_too_far() -> None:
    for restart in (False, True):
        w = world(task(schedule=f"{DAY:g}"))
        w.wait(DAY + MINUTE)
        w.jump(100.1 * DAY)
        w.jump(-100.1 * DAY - HOUR)
        if restart:
            w.restart()
        w.wait(DAY + HOUR)
        assert [round(row["due"] - BEGAN) for row in w.runs.values()] == [DAY, 2 * DAY]


def test_a_clock_set_back_by_years_silences_nothing() -> None:
    w = world(task(schedule=f"{DAY:g}"))
    w.wait(DAY + MINUTE)
    w.jump(-1000 * DAY)
    w.wait(3 * DAY)
    assert len(w.starts()) == 4


def test_a_clock_set_forward_by_years_and_back_again_silences_nothing() -> None:
    w = world(task(every=HOUR))
    w.jump(1000.02 * DAY)  # not at a due time
    w.jump(-1000.02 * DAY)
    w.wait(5 * HOUR)
    assert len(w.starts()) == 5


@pytest.mark.parametrize("gaps", ["60", "3600", "3600 86400 100", "604800"])
def test_wherever_the_clock_is_set_to_the_next_run_is_at_most_two_gaps_away(gaps: str) -> None:
    most = max(float(gap) for gap in gaps.split())
    w = world(task(schedule=gaps))
    w.wait(3 * most)
    for by in (-most / 2, -most, -1.5 * most, -2.1 * most, 30 * most, -29 * most, 0.3 * most):
        w.jump(by)
        assert w.shown()["next_run"] - w.wall <= 2 * most


def test_a_clock_that_drifts_never_lets_a_run_begin_early() -> None:
    w = world(task(every=HOUR))
    for _ in range(7200):
        w.wall -= 0.0001  # it is slow: less than half a second in all
        w.wait(1.0)
    assert [round(at, 2) for at in times(w)] == [HOUR]
    w.wait(2.0)
    assert [round(at, 2) for at in times(w)] == [HOUR, 2 * HOUR]


def test_a_pause_does_not_last_for_years_because_the_clock_was_set_back() -> None:
    w = world(task(every=HOUR))
    for restart in (False, True):
        w.pause("a", seconds=HOUR)
        if restart:
            w.wall -= 1000 * DAY
            w.restart()
        else:
            w.jump(-1000 * DAY)
        assert w.state() == "paused"
        w.wait(HOUR + 1)
        assert w.state() == "running"


def test_nor_does_the_wait_for_a_trial() -> None:
    w = world(task(every=HOUR, retry_after=MINUTE), bodies=lambda _: Body(0, "failed"))
    w.wait(HOUR)
    w.jump(-1000 * DAY)
    w.wait(MINUTE + 1)
    assert [by for _, by in w.starts()] == ["schedule", "retry"]


def test_a_hundred_tasks_due_at_one_second_begin_in_one_plan() -> None:
    w = world(*(task(f"t{n}") for n in range(100)))
    w.now += MINUTE
    w.wall += MINUTE
    w.tasks.clock(w.now, w.wall)
    assert len([a for a in w.tasks.plan(w.now) if isinstance(a, StartRun)]) == 100


def test_a_calendar_that_knows_no_day_stops_only_its_own_task() -> None:
    def calendar(settings: TaskSettings, after: float) -> float | None:
        return after + MINUTE if settings.name == "a" else None

    w = world(task("a", schedule="x"), task("b", schedule="x"), calendar=calendar)
    w.wait(MINUTE)
    assert (len(w.starts("a")), len(w.starts("b"))) == (1, 0)


@pytest.mark.parametrize(("down", "runs"), [(34.0, ["schedule"]), (36.0, [])])
def test_what_is_due_again_soon_counts_only_for_half_of_that_time(down: float, runs: list[str]) -> None:
    """Every 10 s: 4 s late is late, 6 s are missed; the next one is as near."""
    w = world(task(every=10.0))
    w.wait(10.0)
    w.restart(down=down)
    assert [by for _, by in w.starts()[1:]] == runs
    assert [note["due"] - BEGAN for note in w.notes("task.missed")] == [20.0]


def test_of_those_that_passed_the_newest_runs() -> None:
    """Also by cron."""
    w = world(task(schedule="10"))
    w.wait(10.0)
    w.restart(down=34.0)
    assert [round(row["due"] - BEGAN) for row in w.runs.values()] == [10, 40]


def test_a_busy_machine_may_be_late_by_a_second_though_the_next_run_is_near() -> None:
    w = world(task(every=1.5))
    w.wait(1.5)
    w.restart(down=2.4)  # the last was due 0.9 s ago, more than half the time to the next one
    assert [by for _, by in w.starts()] == ["schedule", "schedule"]
