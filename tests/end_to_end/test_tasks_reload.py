"""Tasks over a reload: what is added, removed or changed takes effect, what people said stays."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Callable
from pathlib import Path

from program import Program
from reloading import STABLE, configure, outcome, swap
from tasked import APP, POOL, begin, ended, runs_of, state_of, task

Start = Callable[..., Program]
STABLE_POOL = POOL + STABLE


def reloaded(one: Program) -> None:
    since = one.mark()
    one.signal(signal.SIGHUP)
    assert outcome(one, since)["event"] == "reload.done", one.log()


def test_added_and_removed_tasks_take_effect(program: Start) -> None:
    """A removed one runs no more, and its history can still be read."""
    one = program(APP, STABLE_POOL + task("old", every="100ms")).ready()
    one.wait_for("task.finished", task="old")
    configure(one, (task("old", every="100ms"), task("new", every="100ms")))
    reloaded(one)
    since = one.mark()
    one.wait_for("task.finished", task="new")
    assert set(one.status()["tasks"]) == {"new"}
    assert one.find("task.started", since, task="old") is None
    assert runs_of(one, "old")[0]["outcome"] == "ok"
    done = one.cli("tasks", "run", "old")
    assert (done.returncode, "there is no task 'old'; the tasks are: new" in done.stderr) == (1, True)
    one.stop()


def test_a_changed_schedule_counts_from_now_and_does_not_fire_at_once(program: Start) -> None:
    """From a day to an hour, long after an hour would have been over."""
    one = program(APP, STABLE_POOL + task("a")).ready()
    configure(one, ('every = "1d"', 'every = "1h"'))
    reloaded(one)
    assert state_of(one, "a")["last_run"] is None
    assert "in 1 h" in one.cli("tasks", "list").stdout or "in 60 min" in one.cli("tasks", "list").stdout
    one.stop()


def test_what_is_not_when_takes_effect_with_the_next_run(program: Start) -> None:
    """Another target; the phase of `every` stays."""
    one = program(APP, STABLE_POOL + task("a")).ready()
    before = state_of(one, "a")["next_run"]
    configure(one, ("app:hello", "app:fails"))
    reloaded(one)
    assert ended(one, one.client().call("tasks.run", name="a")["run"])["code"] == 3
    assert state_of(one, "a")["next_run"] == before
    one.stop()


def test_paused_stays_paused_and_errored_stays_errored(program: Start) -> None:
    config = STABLE_POOL + task("a") + task("bad", "fails", every="100ms")
    one = program(APP, config).ready()
    one.wait_for("task.errored", task="bad")
    one.client().call("tasks.pause", names=["a"], reason="new disk")
    configure(one, ('every = "1d"', 'every = "100ms"'))
    reloaded(one)
    assert (state_of(one, "a")["state"], state_of(one, "a")["reason"]) == ("paused", "new disk")
    assert state_of(one, "bad")["state"] == "errored"
    one.stop()


def test_a_run_goes_on_over_a_reload_also_of_a_removed_task(program: Start) -> None:
    """Nobody is told to leave for it, and it ends in the history."""
    app = (
        APP
        + """
def until_told(worker):
    print("began", flush=True)
    while not os.path.exists("enough"):
        time.sleep(0.01)
"""
    )
    one = program(app, STABLE_POOL + task("a", "until_told")).ready()
    run = begin(one, "a")
    swap(one.config, task("a", "until_told"), task("b"))
    reloaded(one)
    (one.folder / "enough").touch()
    assert ended(one, run)["outcome"] == "ok"
    assert runs_of(one, "a")[0]["outcome"] == "ok"
    one.stop()


def test_the_first_tasks_may_come_with_a_reload(program: Start) -> None:
    """A master without any opens the state file then, and knows what an earlier master left there."""
    config = STABLE_POOL + task("a") + task("gone")
    zero = program(APP, config).ready()
    zero.client().call("tasks.pause", names=["a"], reason="new disk")
    run = ended(zero, zero.client().call("tasks.run", name="gone")["run"])["run"]
    zero.stop()
    one = program(APP, STABLE_POOL, zero.folder).ready()
    assert one.status()["tasks"] == {}
    swap(one.config, STABLE, STABLE + task("a") + task("b"))
    reloaded(one)
    assert (state_of(one, "a")["state"], state_of(one, "a")["reason"]) == ("paused", "new disk")
    assert ended(one, one.client().call("tasks.run", name="b")["run"])["run"] == run + 1
    assert runs_of(one, "gone")[0]["outcome"] == "ok"
    one.stop()


def test_a_reload_that_fails_leaves_the_tasks_as_they_were(program: Start) -> None:
    """A mistake in a schedule refuses the whole file; the old tasks go on."""
    one = program(APP, STABLE_POOL + task("a", every="200ms")).ready()
    configure(one, ('every = "200ms"', 'schedule = "99 * * * *"'))
    since = one.mark()
    one.signal(signal.SIGHUP)
    assert "tasks.a.schedule" in outcome(one, since)["error"]
    one.wait_for("task.finished", since=one.mark())
    one.stop()


def test_the_zone_of_the_machine_is_read_at_a_start_and_at_a_reload_and_never_else(
    program: Start, tmp_path: Path
) -> None:
    """A file that is written just now neither holds up the master nor silences a task."""
    zone, zones = tmp_path / "zone", Path("/usr/share/zoneinfo")
    tokyo, berlin = (zones / name for name in ("Asia/Tokyo", "Europe/Berlin"))
    zone.write_bytes(tokyo.read_bytes())
    config = '[tasks.cron]\ntarget = "app:hello"\nschedule = "* * * * * *"\n'
    one = program(APP, STABLE_POOL + config, env={"TZ": str(zone)}).ready()
    zone.write_bytes(tokyo.read_bytes()[:-1])
    run = one.wait_for("task.started")["run"]
    one.wait_for("task.finished", run=run + 2)
    since = one.mark()
    one.signal(signal.SIGHUP)
    assert f"TZ={str(zone)!r}" in outcome(one, since)["error"]
    zone.write_bytes(berlin.read_bytes())
    since = one.mark()
    reloaded(one)
    assert "tasks.cron.zone: changed" in outcome(one, since)["changed"]
    one.wait_for("task.finished", since=one.mark())
    one.stop()


def test_a_reload_to_the_first_tasks_that_fails_does_not_stand_in_the_way_of_the_next(program: Start) -> None:
    """The master has locked the state file for it already."""
    one = program(APP, STABLE_POOL).ready()
    one.tracebacks_expected = True
    configure(one, ("app:idle", "app:missing"), (STABLE, STABLE + task("a")))
    since = one.mark()
    one.signal(signal.SIGHUP)
    assert outcome(one, since)["event"] == "reload.failed"
    assert one.status()["tasks"] == {}
    configure(one, ("app:missing", "app:idle"))
    reloaded(one)
    assert set(one.status()["tasks"]) == {"a"}
    one.stop()


def test_a_reload_to_tasks_whose_state_another_master_holds_is_refused(program: Start) -> None:
    """Nothing is changed, and it says what to do; once that one is gone, the same reload works."""
    one = program(APP, STABLE_POOL).ready()
    state = one.folder / "run/state"
    state.mkdir(mode=0o700)
    swap(one.config, STABLE, STABLE + task("a"))
    since = one.mark()
    with open(state / "config.sqlite-lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one.signal(signal.SIGHUP)
        error = outcome(one, since)["error"]
    assert "another master uses the state file" in error
    assert "stop it first" in error
    assert one.status()["tasks"] == {}
    reloaded(one)
    assert set(one.status()["tasks"]) == {"a"}
    one.stop()
