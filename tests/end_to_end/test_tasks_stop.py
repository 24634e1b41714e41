"""Tasks and the way down: runs are told, have the one deadline, and are told apart from failures."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from program import Program
from tasked import APP, POOL, begin, ended, pid_of, runs_of, state_of, task

Start = Callable[..., Program]


def test_a_stop_ends_a_run_and_calls_it_interrupted(program: Start) -> None:
    """TERM to the run, which saves its cursor; its report and its row; no failure after the next start."""
    config = POOL + task("a", "patient")
    one = program(APP, config).ready()
    run = begin(one, "a")
    report = one.stop()
    told = next(w for w in report["workers"] if w["worker"] == "tasks.a.0")
    assert (told["code"], told["killed"]) == (0, False)
    assert told["acknowledged_after"] is not None
    end = ended(one, run)
    assert (end["event"], end["output"]) == ("task.interrupted", ["began", "saved its cursor"])
    two = program(APP, config, one.folder).ready()
    assert (state_of(two, "a")["state"], state_of(two, "a")["failures"]) == ("running", 0)
    (row,) = runs_of(two, "a")
    assert (row["outcome"], row["code"], row["lines"]) == ("interrupted", 0, ["began", "saved its cursor"])
    two.stop()


def test_a_rolling_restart_ends_a_run_in_the_same_way(program: Start) -> None:
    """A run has no successor: it gets TERM, not USR2; the master leaves with 4."""
    one = program(APP, POOL + task("a", "patient")).ready()
    run = begin(one, "a")
    one.signal(signal.SIGUSR2)
    one.wait(4)
    assert (ended(one, run)["event"], ended(one, run)["code"]) == ("task.interrupted", 0)


def test_a_run_that_does_not_leave_is_killed_at_the_deadline_and_counts_as_cut(program: Start) -> None:
    """Exit 3, as for any worker; still it was interrupted and did not fail."""
    one = program(APP, POOL + task("a", "stubborn"), master='stop_timeout = "500ms"').ready()
    run = begin(one, "a")
    report = one.stop(3)
    assert next(w for w in report["workers"] if w["worker"] == "tasks.a.0")["killed"]
    assert ended(one, run)["event"] == "task.interrupted"


def test_a_forced_stop_kills_a_run_at_once(program: Start) -> None:
    """QUIT."""
    config = POOL + task("a", "stubborn")
    one = program(APP, config).ready()
    run = begin(one, "a")
    one.signal(signal.SIGQUIT)
    one.wait(3)
    assert ended(one, run)["event"] == "task.interrupted"
    two = program(APP, config, one.folder).ready()
    assert [row["outcome"] for row in runs_of(two, "a")] == ["interrupted"]
    two.stop()


def test_no_run_begins_once_a_stop_was_asked_for(program: Start) -> None:
    """Neither by its schedule nor by hand, also while a worker takes long to leave."""
    app = (
        APP
        + """
def slow(worker):
    worker.wait()
    while not os.path.exists("enough"):
        time.sleep(0.01)
"""
    )
    config = '[pools.slow]\ntarget = "app:slow"\n' + task("tick", every="100ms")
    one = program(app, config).ready()
    one.wait_for("task.finished")
    one.signal(signal.SIGTERM)
    stopping = one.events.index(one.wait_for("worker.acknowledged", worker="slow.0"))
    done = one.cli("tasks", "run", "tick")
    assert (done.returncode, "the master is stopping" in done.stderr) == (1, True)
    (one.folder / "enough").touch()
    one.wait(0)
    assert one.find("task.started", stopping) is None


def test_a_stop_does_not_wait_for_a_disk_beyond_its_deadline(program: Start) -> None:
    """The process that writes is stuck: what it lacks is lost, the stop is not."""
    one = program(APP, POOL + task("a", "patient"), master='stop_timeout = "1s"').ready()
    run = begin(one, "a")
    os.kill(one.wait_for("inner.ready", worker="@store.0")["pid"], signal.SIGSTOP)
    report = one.stop()
    assert ended(one, run)["event"] == "task.interrupted"
    assert report["seconds"] < 5


def test_kill_minus_term_of_a_run_by_a_person_is_no_failure(program: Start) -> None:
    """It was told to leave, and so it was not done by itself."""
    one = program(APP, POOL + task("a", "patient")).ready()
    for number, code in ((signal.SIGTERM, 0), (signal.SIGUSR2, 4)):
        run = begin(one, "a")
        os.kill(pid_of(one, run), number)
        end = ended(one, run)
        assert (end["event"], end["code"]) == ("task.interrupted", code)
    assert state_of(one, "a")["failures"] == 0
    one.stop()


def test_a_killed_master_takes_its_runs_along(program: Start) -> None:
    """By the death signal, as for any worker."""
    one = program(APP, POOL + task("a", "patient")).ready()
    run = begin(one, "a")
    pid = pid_of(one, run)
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)
    assert one.orphans_end()["tasks.a.0"] == 0
    assert not os.path.exists(f"/proc/{pid}")
