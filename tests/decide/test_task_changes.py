"""What failures, the end of a run, a changed configuration and a restart make of a task."""

from __future__ import annotations

from task_world import BEGAN, DAY, HOUR, MINUTE, Body, World, by_gaps, task, world

from supervisor.decide.task_actions import StartRun
from supervisor.settings import TaskSettings

HANGS = Body(None)
RETRY = 10 * MINUTE


def on_trial() -> World:
    """The one run of an errored task goes on."""
    w = world(task(every=HOUR, retry_after=RETRY), bodies=lambda _: Body(0, "failed"))
    w.wait(HOUR)
    w.bodies = lambda _: HANGS
    w.wait(RETRY)
    return w


# -- failures ------------------------------------------------------------------


def test_only_so_many_failures_in_a_row_are_too_many() -> None:
    w = world(task(every=HOUR, pause_after_failures=3))
    ends = iter(["failed", "failed", "ok", "failed", "failed", "failed", "ok"])
    w.bodies = lambda _: Body(0, next(ends))
    w.wait(5 * HOUR)
    assert (w.state(), w.shown()["failures"]) == ("running", 2)
    w.wait(10 * HOUR)
    assert (w.state(), w.shown()["failures"], len(w.starts())) == ("errored", 3, 6)
    assert [n["failures"] for n in w.notes("task.errored")] == [3]


def test_zero_means_that_it_goes_on_failing() -> None:
    w = world(task(every=HOUR, pause_after_failures=0), bodies=lambda _: Body(0, "failed"))
    w.wait(100 * HOUR)
    assert (w.state(), w.shown()["failures"]) == ("running", 100)


def test_an_errored_task_without_retry_after_waits_for_a_person() -> None:
    w = world(task(every=HOUR), bodies=lambda _: Body(0, "failed"))
    w.wait(HOUR)
    assert w.tasks.deadline() is None
    assert w.shown()["reason"] == "exit status 1"


def test_a_trial_that_fails_is_the_only_one_until_retry_after_has_passed_again() -> None:
    w = world(task(every=MINUTE, retry_after=HOUR), bodies=lambda _: Body(0, "failed"))
    w.wait(4 * HOUR)
    assert [by for _, by in w.starts()] == ["schedule", "retry", "retry", "retry"]
    assert len(w.notes("task.errored")) == 4


def test_it_waits_as_long_where_failures_do_not_count_any_more() -> None:
    w = on_trial()
    w.configure(task(every=HOUR, retry_after=RETRY, pause_after_failures=0))
    w.end(2, "failed")
    w.wait(RETRY - 1)
    assert (w.state(), w.alive) == ("errored", {})
    w.wait(1)
    assert [a.by for a in w.alive.values()] == ["retry"]


def test_a_trial_that_goes_well_stands_for_what_was_missed() -> None:
    ends = iter([Body(0, "failed"), *[Body()] * 9])
    w = world(task(every=MINUTE, retry_after=HOUR, missed="once"), bodies=lambda _: next(ends))
    w.wait(HOUR + MINUTE + 30)
    assert [by for _, by in w.starts()] == ["schedule", "retry"]
    assert w.notes("task.resumed")[0]["by"] == "retry"


def test_a_trial_waits_for_a_run_by_hand_also_where_none_may_overlap() -> None:
    w = on_trial()
    w.end(2, "failed")
    w.run()
    w.wait(RETRY)
    assert len(w.alive) == 1
    w.end(max(w.alive), "failed")
    assert [a.by for a in w.alive.values()] == ["retry"]


def test_a_trial_that_the_master_did_not_survive_is_not_tried_at_once_again() -> None:
    w = on_trial()
    w.restart(down=1.0)
    assert (w.state(), w.alive) == ("errored", {})
    w.wait(RETRY)
    assert [a.by for a in w.alive.values()] == ["retry"]


def test_a_run_that_fails_in_a_pause_makes_the_task_errored_when_that_is_over() -> None:
    w = world(task(every=HOUR), bodies=lambda _: HANGS)
    w.wait(HOUR)
    w.pause("a", seconds=MINUTE)
    w.end(1, "failed")
    assert (w.state(), w.shown()["error"]) == ("paused", "exit status 1")
    w.wait(MINUTE)
    assert (w.state(), w.shown()["reason"]) == ("errored", "exit status 1")
    assert len(w.notes("task.errored")) == 1


def test_a_run_that_waits_by_itself_goes_with_the_state_and_one_by_hand_does_not() -> None:
    w = world(task(every=HOUR, overlap="queue"), bodies=lambda _: HANGS)
    w.wait(2 * HOUR)
    assert w.shown()["waiting"] == "schedule"
    w.pause("a")
    assert w.shown()["waiting"] is None
    w.run()
    assert w.shown()["waiting"] == "ann"
    w.end(1)
    assert [a.by for a in w.alive.values()] == ["ann"]


def test_what_waits_does_not_begin_when_the_run_before_it_makes_the_task_errored() -> None:
    w = world(task(every=HOUR, overlap="queue"), bodies=lambda _: HANGS)
    w.wait(2 * HOUR)
    w.end(1, "failed")
    assert (w.state(), w.shown()["waiting"], w.alive) == ("errored", None, {})


def test_a_run_that_could_not_be_forked_failed_and_says_why() -> None:
    w = world(task(every=HOUR), bodies=lambda _: HANGS)
    w.wait(HOUR)
    w.end(1, "failed", code=None, error="fork: Resource temporarily unavailable")
    assert w.shown()["reason"] == "fork: Resource temporarily unavailable"


def test_a_signal_is_named() -> None:
    w = world(task(every=HOUR), bodies=lambda _: HANGS)
    w.wait(HOUR)
    w.end(1, "failed", code=None, signal=11)
    assert (w.shown()["reason"], w.runs[1]["signal"]) == ("SIGSEGV, not sent by supervisord-lite", "SIGSEGV")


def test_an_end_that_is_told_twice_or_of_a_run_that_never_was_changes_nothing() -> None:
    w = world(task(every=HOUR))
    w.wait(HOUR)
    before = w.shown()
    w.tasks.ended("a", 1, "failed")
    w.tasks.ended("a", 99, "failed")
    w.tasks.started(99, 4711)
    assert (w.turn(), w.shown()) == ([], before)


def test_what_was_missed_waits_for_a_run_by_hand_also_where_none_may_overlap() -> None:
    w = world(task(every=HOUR, missed="once"), bodies=lambda _: HANGS)
    w.pause("a")
    w.wait(HOUR + MINUTE)
    w.run()
    w.resume("a")
    w.wait(HOUR)
    assert [note["due"] for note in w.notes("task.skipped")] == [BEGAN + 2 * HOUR]
    w.end(1)
    assert [a.by for a in w.alive.values()] == ["missed"]


# -- configuration -------------------------------------------------------------


def test_a_changed_schedule_counts_from_now_and_never_fires_at_once() -> None:
    w = world(task(every=HOUR, missed="once"))
    w.wait(59 * MINUTE)
    w.configure(task(every=30 * MINUTE, missed="once"))
    w.wait(29 * MINUTE)
    assert w.starts() == []
    w.wait(MINUTE)
    assert w.starts() == [(89 * MINUTE, "schedule")]


def test_so_does_a_zone_that_is_another_by_now() -> None:
    """Of the same name, or of the machine: what would have been due in it before was not missed."""

    def half_an_hour_later(settings: TaskSettings, after: float) -> float | None:
        shift = 30 * MINUTE if settings.zone else 0.0
        due = by_gaps(settings, after - shift)
        return None if due is None else due + shift

    w = world(task(schedule=f"{DAY:g}", missed="once"), calendar=half_an_hour_later)
    w.wait(HOUR)
    w.configure(task(schedule=f"{DAY:g}", missed="once", zone=b"another"))
    w.wait(DAY)
    assert w.starts() == [(DAY + 30 * MINUTE, "schedule")]


def test_so_does_one_that_was_changed_while_the_master_was_down() -> None:
    w = world(task(every=HOUR, missed="once"))
    w.restart(down=DAY, settings=[task(every=30 * MINUTE, missed="once")])
    w.wait(30 * MINUTE)
    assert w.starts() == [(DAY + 30 * MINUTE, "schedule")]


def test_a_change_of_anything_else_leaves_the_schedule_as_it_is() -> None:
    w = world(task(every=HOUR))
    w.wait(59 * MINUTE)
    w.configure(task(every=HOUR, timeout=5.0, missed="once", env={"A": "1"}))
    w.wait(MINUTE)
    start = next(a for _, a in w.log if isinstance(a, StartRun))
    assert (w.starts(), start.settings.timeout) == ([(HOUR, "schedule")], 5.0)


def test_an_added_task_runs_after_its_first_interval() -> None:
    w = world(task(every=HOUR))
    w.wait(10)
    w.configure(*w.settings, task("b"))
    w.wait(MINUTE)
    assert w.starts("b") == [(70.0, "schedule")]


def test_the_run_of_a_removed_task_is_let_finish_and_kept() -> None:
    w = world(task(every=HOUR, timeout=MINUTE), bodies=lambda _: HANGS)
    w.wait(HOUR)
    w.configure()
    assert (len(w.alive), w.tasks.list()) == (1, {})
    w.wait(2 * MINUTE)
    assert (w.runs[1]["outcome"], w.rows["a"]["state"], w.alive) == ("timed out", "removed", {})


def test_a_task_that_comes_back_begins_anew_and_never_runs_twice_at_once() -> None:
    w = world(task(every=HOUR), bodies=lambda _: HANGS)
    w.wait(HOUR)
    w.pause("a")
    w.configure()
    w.configure(task(every=HOUR))
    assert (w.state(), w.shown()["running"]["run"]) == ("running", 1)
    w.wait(HOUR)
    assert len(w.alive) == 1
    w.end(1)
    assert w.shown()["running"] is None


def test_the_run_of_a_removed_task_makes_nothing_errored_neither_it_nor_the_one_that_comes_back() -> None:
    for back in ([task(every=HOUR)], []):
        w = world(task(every=HOUR), bodies=lambda _: HANGS)
        w.wait(HOUR)
        w.configure()
        w.configure(*back)
        w.end(1, "failed")
        assert len(w.notes("task.failed")) == 1
        assert w.notes("task.errored") == []
        assert [(one["state"], one["failures"]) for one in w.tasks.list().values()] in ([], [("running", 0)])


def test_what_waits_of_a_removed_task_is_told_to_be_skipped() -> None:
    w = world(task(every=HOUR, overlap="queue"), bodies=lambda _: HANGS)
    w.wait(2 * HOUR)
    w.configure()
    told = [{"task": "a", "due": BEGAN + 2 * HOUR, "reason": "the task was removed"}]
    assert w.notes("task.skipped") == told


def test_a_task_that_was_removed_while_the_master_was_down_is_written_down_so() -> None:
    w = world(task(every=HOUR))
    w.restart(settings=[])
    assert w.rows["a"]["state"] == "removed"
    w.restart(settings=[task(every=HOUR, missed="once")], down=DAY)
    w.wait(HOUR)
    assert w.starts() == [(DAY + HOUR, "schedule")]


def test_a_run_that_the_master_did_not_survive_was_interrupted_and_counts_for_nothing() -> None:
    w = world(task(every=HOUR), bodies=lambda _: HANGS)
    w.wait(HOUR)
    w.restart(down=1.0)
    assert (w.runs[1]["outcome"], w.state(), w.shown()["failures"]) == ("interrupted", "running", 0)
    assert w.shown()["last_run"]["outcome"] == "interrupted"
    assert len(w.notes("task.interrupted")) == 1
    w.wait(HOUR)
    assert list(w.alive) == [2], "numbers rise over restarts"


def test_a_due_time_that_came_while_a_pause_was_on_its_way_has_no_second_run() -> None:
    """Of the task nothing could be written then, of its run it could."""
    w = world(task(every=HOUR, missed="once"))
    w.wait(HOUR - 0.2)
    w.disk = "slow"
    w.pause("a")
    w.wait(0.3)
    assert w.starts() == [(HOUR, "schedule")]
    w.restart()
    w.disk = "good"
    assert w.state() == "paused"
    w.resume("a")
    w.wait(HOUR)
    assert [row["due"] - BEGAN for row in w.runs.values()] == [HOUR, 2 * HOUR]


def test_nor_has_one_that_the_clock_passes_anew_after_a_run_by_hand_and_a_restart() -> None:
    w = world(task(schedule="3600"))
    w.wait(3 * HOUR + MINUTE)
    w.jump(1000 * HOUR - 30 * MINUTE)
    w.run()
    w.restart()
    w.jump(-1000 * HOUR)
    w.wait(2 * HOUR)
    dues = [row["due"] for row in w.runs.values() if row["due"] is not None]
    assert len(set(dues)) == len(dues) == 4


def test_a_run_that_never_began_is_not_the_last_one_and_keeps_when_it_was_asked_for() -> None:
    """Before a restart and after it."""
    w = world(task(every=HOUR, overlap="queue"), bodies=lambda _: HANGS)
    w.wait(HOUR)
    w.run()
    asked = w.wall
    w.wait(MINUTE)
    w.tasks.stop()
    w.turn()
    assert (w.runs[2]["outcome"], w.runs[2]["started_at"]) == ("skipped", asked)
    w.end(1)
    before = w.shown()["last_run"]
    w.restart()
    assert (before["run"], w.shown()["last_run"]) == (1, before)


def test_nothing_begins_once_the_master_stops() -> None:
    w = world(task(every=HOUR), bodies=lambda _: HANGS)
    w.wait(HOUR)
    w.tasks.stop()
    w.end(1, "interrupted")
    w.wait(DAY)
    assert w.run().error == "the master is stopping"
    assert (len(w.starts()), w.state(), w.tasks.deadline()) == (1, "running", None)
