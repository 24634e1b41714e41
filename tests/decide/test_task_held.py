"""What is due and may not begin: it stays due over a stop, and while the master is quiet."""

from __future__ import annotations

from typing import Any

import pytest
from task_world import BEGAN, DAY, HOUR, MINUTE, Body, World, task, world
from test_task_times import MISSED, times

# -- a stop before it began ----------------------------------------------------


STOPPING = "the master is stopping, and it had not begun"


def stopped_unborn(w: World, at: float, down: float) -> None:
    """It is stopped at a moment when what is due was not forked yet."""
    w.forks = HOUR
    w.wait(at)
    w.forks = 0.0
    w.stop(down)


@pytest.mark.parametrize("policy", ["skip", "once"])
def test_a_run_that_had_not_begun_when_the_master_was_stopped_runs_after_the_start(policy: Any) -> None:
    w = world(task(every=DAY, missed=policy))
    stopped_unborn(w, DAY + 1, down=10.0)
    w.wait(HOUR)
    assert w.starts()[1:] == [(DAY + 11, "schedule")]
    assert [(row["outcome"], row["due"] - BEGAN) for row in w.runs.values()] == [
        ("skipped", DAY),
        ("ok", DAY),
    ]
    assert [note["run"] for note in w.notes("task.started")] == [2]
    assert [note["reason"] for note in w.notes("task.skipped")] == [f"{STOPPING}; it stays due"]


@pytest.mark.parametrize(("policy", "by"), MISSED)
def test_it_was_missed_where_the_restart_takes_longer(policy: Any, by: list[str]) -> None:
    w = world(task(every=DAY, missed=policy))
    stopped_unborn(w, DAY + 1, down=HOUR)
    w.wait(HOUR)
    assert [b for _, b in w.starts()[1:]] == by


def test_a_missed_run_that_had_not_begun_is_made_up_for_after_the_start() -> None:
    w = world(task(every=DAY, missed="once"))
    w.restart(down=DAY + HOUR)
    w.pause("a")
    stopped_unborn(w, HOUR, down=0.0)
    w.forks = HOUR
    w.wait(DAY)
    w.resume("a")
    w.forks = 0.0
    w.stop(down=10.0)
    assert [by for _, by in w.starts()] == ["missed", "missed", "missed"]
    w.wait(DAY / 2)
    assert len(w.starts()) == 3


def test_a_trial_that_had_not_begun_is_made_after_the_start() -> None:
    w = world(
        task(every=DAY, retry_after=HOUR), bodies=lambda start: Body(0, "failed" if start.run == 1 else "ok")
    )
    w.wait(DAY)
    stopped_unborn(w, HOUR, down=10.0)
    assert [by for _, by in w.starts()] == ["schedule", "retry", "retry"]
    assert w.state() == "running"


def test_what_waits_for_the_run_that_goes_on_stays_due_when_the_master_is_stopped() -> None:
    w = world(task(every=HOUR, overlap="queue"), bodies=lambda start: Body(None if start.run == 1 else 0.0))
    w.wait(2 * HOUR + 10)
    w.stop(down=10.0)
    assert w.starts() == [(HOUR, "schedule"), (2 * HOUR + 20, "schedule")]
    assert w.notes("task.skipped") == []


def test_of_several_that_passed_before_it_could_begin_one_runs_after_the_start() -> None:
    """Forks failed for three hours: as if there had been no master."""
    w = world(task(every=HOUR))
    w.forks = DAY
    w.wait(3 * HOUR + 10)
    w.forks = 0.0
    w.stop(down=10.0)
    w.wait(HOUR / 2)
    assert w.starts() == [(HOUR, "schedule"), (3 * HOUR + 20, "schedule")]


def test_a_schedule_that_was_changed_meanwhile_has_nothing_due_after_the_stop() -> None:
    w = world(task(every=HOUR))
    w.forks = DAY
    w.wait(HOUR + 10)
    w.configure(task(every=2 * HOUR))
    w.forks = 0.0
    w.stop()
    w.wait(HOUR)
    assert w.starts() == [(HOUR, "schedule")]


def test_by_hand_a_run_that_had_not_begun_is_not_due_after_the_start() -> None:
    w = world(task(every=DAY))
    w.forks = HOUR
    w.run("a")
    w.forks = 0.0
    w.stop()
    w.wait(HOUR)
    assert (w.starts(), w.runs[1]["outcome"]) == ([(0.0, "ann")], "skipped")
    assert [note["reason"] for note in w.notes("task.skipped")] == [STOPPING]


# -- quiet ---------------------------------------------------------------------


def test_what_waits_for_the_run_that_goes_on_begins_only_when_it_is_quiet_no_more() -> None:
    w = world(task(every=HOUR, overlap="queue"), bodies=lambda start: Body(None if start.run == 1 else 0.0))
    w.wait(2 * HOUR + 10)
    w.hush(True)
    w.end(1)
    w.wait(20)
    assert times(w) == [HOUR]
    w.hush(False)
    w.wait(HOUR / 2)
    assert w.starts() == [(HOUR, "schedule"), (2 * HOUR + 30, "schedule")]


@pytest.mark.parametrize(("policy", "by"), MISSED)
def test_what_waited_when_it_became_quiet_was_missed_once_that_lasts(policy: Any, by: list[str]) -> None:
    w = world(
        task(every=HOUR, overlap="queue", missed=policy),
        bodies=lambda start: Body(None if start.run == 1 else 0.0),
    )
    w.wait(2 * HOUR + 10)
    w.hush(True)
    w.end(1)
    w.wait(3.5 * HOUR)
    w.hush(False)
    w.wait(60)
    assert [b for _, b in w.starts()[1:]] == by


def test_by_hand_a_run_that_waits_begins_also_while_it_is_quiet() -> None:
    w = world(task(every=HOUR, overlap="queue"), bodies=lambda start: Body(None if start.run == 1 else 0.0))
    w.wait(HOUR + 10)
    w.run("a")
    w.hush(True)
    w.end(1)
    assert w.starts() == [(HOUR, "schedule"), (HOUR + 10, "ann")]


def test_resumed_while_it_is_quiet_a_task_makes_up_for_what_it_missed_after_that() -> None:
    w = world(task(every=HOUR, missed="once"))
    w.pause("a")
    w.wait(2.5 * HOUR)
    w.hush(True)
    w.resume("a")
    w.wait(HOUR)
    assert (w.starts(), w.state()) == ([], "running")
    w.hush(False)
    w.wait(60)
    assert w.starts() == [(3.5 * HOUR, "missed")]


@pytest.mark.parametrize(("policy", "by"), MISSED)
def test_a_pause_is_over_at_its_time_also_while_it_is_quiet(policy: Any, by: list[str]) -> None:
    w = world(task(every=HOUR, missed=policy))
    w.pause("a", seconds=1.5 * HOUR)
    w.wait(HOUR)
    w.hush(True)
    w.wait(40 * MINUTE)
    assert (w.starts(), w.state()) == ([], "running")
    assert w.tasks.deadline() is None
    w.hush(False)
    w.wait(60)
    assert [b for _, b in w.starts()] == by


def test_a_trial_is_made_when_it_is_quiet_no_more() -> None:
    w = world(
        task(every=DAY, retry_after=HOUR), bodies=lambda start: Body(0, "failed" if start.run == 1 else "ok")
    )
    w.wait(DAY)
    w.hush(True)
    w.wait(2 * HOUR)
    assert len(w.starts()) == 1
    w.hush(False)
    assert w.starts()[1:] == [(DAY + 2 * HOUR, "retry")]


def test_what_is_due_and_could_not_be_forked_when_it_became_quiet_begins_after_that() -> None:
    w = world(task(every=HOUR))
    w.forks = DAY
    w.wait(HOUR)
    w.forks = 0.0
    w.hush(True)
    w.wait(30)
    assert w.notes("task.started") == []
    assert [note["reason"] for note in w.notes("task.skipped")] == [
        "the master is quiet, and it had not begun; it stays due"
    ]
    w.hush(False)
    w.wait(30)
    assert [note["due"] - BEGAN for note in w.notes("task.started")] == [HOUR]
