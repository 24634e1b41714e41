"""Tasks that run by themselves and by hand: real schedules, real forks, real commands."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from program import Program, wait_gone
from tasked import APP, POOL, begin, ended, pid_of, runs_of, state_of, task

Start = Callable[..., Program]


def test_every_runs_first_after_one_interval_and_then_again(program: Start) -> None:
    """Each run has an event for its beginning, what it prints and its end, and stands in the history."""
    one = program(APP, POOL + task("tick", every="300ms") + task("rare", every="1h")).ready()
    shown = state_of(one, "rare")
    assert (shown["state"], shown["last_run"], shown["failures"], shown["running"]) == (
        "running",
        None,
        0,
        None,
    )
    first = one.wait_for("task.started", task="tick")
    began = one.find("master.started")
    assert began
    assert datetime.fromisoformat(first["due"]) - stamp(began["time"]) > timedelta(milliseconds=200)
    assert one.wait_for("task.output", run=first["run"])["lines"] == ["hello from tasks.tick.0"]
    done = one.wait_for("task.finished", run=first["run"])
    assert (done["outcome"], done["code"], done["by"]) == ("ok", 0, "schedule")
    second = one.wait_for("task.started", task="tick", run=first["run"] + 1)
    gap = datetime.fromisoformat(second["due"]) - datetime.fromisoformat(first["due"])
    assert gap
    assert gap % timedelta(milliseconds=300) == timedelta(0)  # more than one, where a run took longer
    one.wait_for("task.finished", run=second["run"])
    last = runs_of(one, "tick")[-1]
    assert (last["run"], last["outcome"], last["lines"]) == (first["run"], "ok", ["hello from tasks.tick.0"])
    one.stop()


def stamp(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_a_cron_schedule_with_seconds_comes_every_second(program: Start) -> None:
    """Due times are those of the wall clock, to the second."""
    config = '[tasks.cron]\ntarget = "app:hello"\nschedule = "* * * * * *"\ntimezone = "Asia/Kathmandu"\n'
    one = program(APP, POOL + config).ready()
    first = one.wait_for("task.started")["run"]
    dues = [one.wait_for("task.started", run=run)["due"] for run in (first, first + 1)]
    assert [datetime.fromisoformat(due).microsecond for due in dues] == [0, 0]
    assert datetime.fromisoformat(dues[1]) - datetime.fromisoformat(dues[0]) == timedelta(seconds=1)
    one.stop()


def test_only_tasks_and_no_pool_is_a_whole_configuration(program: Start) -> None:
    """A master that is nothing but cron is ready at once."""
    one = program(APP, task("tick", every="100ms")).ready()
    one.wait_for("task.finished")
    one.stop()


def test_a_run_is_a_worker_with_its_environment_hooks_and_options(program: Start) -> None:
    """It knows who it is, gets its options and env, and the hooks of all workers run around it."""
    app = (
        APP
        + """
def started(worker):
    print("hook", worker.id)


def shows(worker):
    names = ("SUPERVISOR_NAME", "SUPERVISOR_POOL", "SUPERVISOR_SLOT", "SUPERVISOR_WORKER", "OWN")
    print(*(os.environ[name] for name in names), worker.options["depth"], worker.generation)
"""
    )
    config = '[hooks]\non_worker_start = "app:started"\n'
    config += task("one", "shows", 'options = { depth = 7 }\nenv = { OWN = "x" }')
    one = program(app, POOL + config).ready()
    run = one.client().call("tasks.run", name="one")["run"]
    assert ended(one, run)["output"] == ["hook tasks.one.0", "config tasks.one 0 tasks.one.0 x 7 1"]
    one.stop()


def test_failures_in_a_row_make_it_errored_until_a_person_resumes_it(program: Start) -> None:
    """Errored, it does not run by itself; resumed, its failures are forgotten and it runs again."""
    config = task("bad", "fails", "pause_after_failures = 3", every="100ms")
    one = program(APP, POOL + config).ready()
    one.wait_for("task.errored", task="bad", failures=3)
    shown = state_of(one, "bad")
    assert (shown["state"], shown["reason"], shown["failures"]) == ("errored", "exit status 3", 3)
    assert shown["next_run"] is None
    assert [run["outcome"] for run in runs_of(one, "bad")] == ["failed"] * 3
    done = one.cli("tasks", "resume", "bad")
    assert (done.returncode, done.stdout) == (0, "running again: bad\n")
    event = one.wait_for("task.resumed", task="bad")
    assert (event["by"], event["reason"]) == (
        "root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
        "it was errored",
    )
    one.wait_for("task.started", task="bad", since=one.events.index(event))
    one.stop()


def test_a_trial_run_after_a_while_ends_the_error_if_it_goes_well(program: Start) -> None:
    """`retry_after`: one run by itself, which decides."""
    app = (
        APP
        + """
def once(worker):
    if not os.path.exists("failed"):
        open("failed", "w").close()
        sys.exit(1)
"""
    )
    one = program(app, POOL + task("once", "once", 'retry_after = "200ms"', every="400ms")).ready()
    one.wait_for("task.errored", task="once")
    trial = one.wait_for("task.started", task="once", by="retry")
    assert one.wait_for("task.finished", run=trial["run"])
    assert one.wait_for("task.resumed", task="once")["by"] == "retry"
    one.stop()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("print('all is well')", 0, ""),
        ("sys.exit(7)", 7, "failed after"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + 9, "SIGKILL"),
        ("raise RuntimeError('no disk')", 1, "failed after"),
    ],
)
def test_run_wait_streams_the_output_and_exits_with_its_status(
    program: Start, body: str, status: int, words: str
) -> None:
    """As if the program had been started in this shell."""
    app = APP + f"\n\ndef own(worker):\n    print('line one', flush=True)\n    {body}\n"
    one = program(app, POOL + task("own", "own")).ready()
    one.tracebacks_expected = "raise" in body
    done = one.cli("tasks", "run", "own")
    assert done.returncode == status
    assert done.stdout.splitlines()[0] == "line one"
    assert words in done.stderr
    one.stop()


def test_run_of_what_runs_already_is_refused_or_waits_as_overlap_says(program: Start) -> None:
    """With "skip" it exits 1 and says so; with "queue" it begins when the other one is over."""
    config = POOL + task("skips", "patient") + task("queues", "patient", 'overlap = "queue"')
    one = program(APP, config).ready()
    first = begin(one, "skips")
    done = one.cli("tasks", "run", "skips")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"skips runs already (run {first}); it is configured not to overlap" in done.stderr
    waited_for = begin(one, "queues")
    asked = one.client().call("tasks.run", name="queues")
    assert asked["queued"] is True
    os.kill(pid_of(one, waited_for), signal.SIGKILL)
    second = one.wait_for("task.output", run=asked["run"], lines=["began"])
    assert one.events.index(ended(one, waited_for)) < one.events.index(second)
    one.stop()


def test_a_run_that_takes_too_long_is_told_and_then_killed_with_all_that_it_began(program: Start) -> None:
    """TERM at `timeout`; KILL after the master's stop_timeout; its helper goes with it."""
    app = (
        APP
        + """
def hangs(worker):
    import subprocess
    helper = subprocess.Popen(["sleep", "1000"])
    print(helper.pid, flush=True)
    stubborn(worker)
"""
    )
    config = POOL + task("hangs", "hangs", 'timeout = "300ms"')
    one = program(app, config, master='stop_timeout = "1s"').ready()
    run = one.client().call("tasks.run", name="hangs")["run"]
    helper = int(one.wait_for("task.output", run=run)["lines"][0])
    told = one.wait_for("worker.stopping", worker="tasks.hangs.0")
    assert told["reason"] == "it takes longer than 0.3 s"
    assert one.wait_for("worker.stack", worker="tasks.hangs.0")["stack"]
    end = ended(one, run)
    assert (end["event"], end["outcome"], end["signal"]) == ("task.failed", "timed out", "SIGKILL")
    assert end["reason"] == "timed out after 0.3 s"
    wait_gone(helper)
    assert state_of(one, "hangs")["state"] == "running"  # by hand: it changes no state
    one.stop()


def test_a_run_that_leaves_when_its_time_is_over_has_timed_out_all_the_same(program: Start) -> None:
    """Exit 0 after TERM does not make it a success; by its schedule, it turns errored."""
    one = program(APP, POOL + task("slow", "patient", 'timeout = "200ms"', every="200ms")).ready()
    failed = one.wait_for("task.failed", task="slow")
    assert (failed["outcome"], failed["code"], failed["output"][-1]) == ("timed out", 0, "saved its cursor")
    one.wait_for("task.errored", task="slow")
    one.stop()


def test_a_maintenance_window_is_one_command_and_over_by_itself(program: Start) -> None:
    """`pause --all --for`: nothing runs by itself meanwhile, by hand it does; then all go on."""
    config = POOL + task("a", every="200ms") + task("b", every="200ms")
    one = program(APP, config).ready()
    one.wait_for("task.finished", task="a")
    done = one.cli("tasks", "pause", "--all", "--for", "2s", "--reason", "new disk")
    assert done.returncode == 0
    assert re.fullmatch(r"paused until \S+( \S+)? \((in [12] s|now)\): a, b\n", done.stdout)
    one.wait_for("task.paused", task="b")
    since = one.mark()
    assert (state_of(one, "a")["state"], state_of(one, "a")["reason"]) == ("paused", "new disk")
    assert ended(one, one.client().call("tasks.run", name="a")["run"])["outcome"] == "ok"
    assert state_of(one, "a")["state"] == "paused"
    over = one.wait_for("task.resumed", task="a", since=since)
    assert (over["by"], over["reason"]) == (None, "its pause is over")
    by_itself = [e for e in one.events[since : one.events.index(over)] if e.get("by") == "schedule"]
    assert [e for e in by_itself if e["event"] == "task.started"] == []
    one.wait_for("task.started", task="b", since=one.events.index(over))
    one.stop()


def test_an_errored_task_that_is_paused_keeps_the_reason_of_its_error(program: Start) -> None:
    one = program(APP, POOL + task("bad", "fails", every="100ms")).ready()
    one.wait_for("task.errored", task="bad")
    assert one.cli("tasks", "pause", "bad", "--reason", "I look into it").returncode == 0
    shown = state_of(one, "bad")
    assert (shown["state"], shown["reason"], shown["error"]) == ("paused", "I look into it", "exit status 3")
    one.stop()


def test_while_it_is_quiet_nothing_begins_by_itself(program: Start) -> None:
    """A run by hand is what a person wants, and begins; un-quiet, the schedule is live again."""
    one = program(APP, POOL + task("tick", every="300ms")).ready()
    one.wait_for("task.finished", task="tick")
    one.signal(signal.SIGTSTP)
    since = one.events.index(one.wait_for("master.quiet"))
    ended(one, one.client().call("tasks.run", name="tick")["run"])
    one.wait_until(
        lambda: datetime.fromisoformat(state_of(one, "tick")["next_run"]) < datetime.now().astimezone()
    )
    assert [e["by"] for e in one.events[since:] if e["event"] == "task.started"] != ["schedule"]
    assert one.find("task.started", since, by="schedule") is None
    one.signal(signal.SIGCONT)
    one.wait_for("task.started", since=since, by="schedule")
    one.stop()


def test_a_task_that_floods_and_one_that_dies_touch_nobody_else(program: Start) -> None:
    """100 MB of output is bounded and counted; another task and the pool go on, and so does the master."""
    app = (
        APP
        + """
def floods(worker):
    line = "x" * 1000 + chr(10)
    for _ in range(100_000):
        sys.stdout.write(line)


def dies(worker):
    os.abort()
"""
    )
    config = POOL + task("floods", "floods") + task("dies", "dies") + task("tick", every="200ms")
    one = program(app, config).ready()
    one.tracebacks_expected = True  # faulthandler says where it was aborted
    flood = one.client().call("tasks.run", name="floods")["run"]
    assert ended(one, one.client().call("tasks.run", name="dies")["run"])["signal"] == "SIGABRT"
    assert ended(one, flood)["outcome"] == "ok"
    assert one.wait_for("output.lost")["dropped"] > 0
    said = sum(len(e["lines"]) for e in one.events if e["event"] == "task.output" and e["run"] == flood)
    assert 0 < said < 20_000
    one.wait_for("task.finished", task="tick", since=one.mark())
    assert one.status()["pools"]["idle"]["ready"] == 1
    one.stop()


def test_a_command_that_is_not_there_fails_and_says_why(program: Start) -> None:
    config = '[tasks.a]\ncommand = ["no-such-program"]\nevery = "1d"\n'
    one = program(APP, POOL + config).ready()
    end = ended(one, one.client().call("tasks.run", name="a")["run"])
    assert (end["code"], end["outcome"]) == (127, "failed")
    assert "no-such-program" in end["reason"]
    one.stop()


def test_what_is_not_there_is_answered_by_name(program: Start) -> None:
    one = program(APP, POOL + task("a")).ready()
    for words in (("pause", "b"), ("resume", "b"), ("run", "b"), ("history", "b")):
        done = one.cli("tasks", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert "'b'" in done.stderr
        assert "a" in done.stderr
    one.stop()


def test_without_tasks_there_is_no_state_file_and_commands_say_so(program: Start) -> None:
    """Who uses no tasks pays nothing for them: no file, no process."""
    one = program(APP, POOL).ready()
    assert one.cli("tasks", "list").stdout == "no tasks: the configuration has no [tasks.NAME]\n"
    done = one.cli("tasks", "pause", "--all")
    assert (done.returncode, "there are no tasks" in done.stderr) == (1, True)
    assert one.find("inner.started", worker="@store.0") is None
    assert not (one.folder / "run/state").exists()
    one.stop()


def test_status_has_tasks_in_its_tree_and_its_object(program: Start) -> None:
    one = program(APP, POOL + task("a", "patient") + task("b")).ready()
    run = begin(one, "a")
    shown = one.status()["tasks"]
    assert set(shown) == {"a", "b"}
    assert {"state", "reason", "next_run", "last_run", "failures", "running"} <= set(shown["a"])
    assert shown["a"]["running"]["run"] == run
    assert datetime.fromisoformat(shown["b"]["next_run"]).utcoffset() is not None
    tree = one.cli("status").stdout
    assert "2 tasks: 2 running" in tree
    assert f"a: runs now (run {run})" in tree
    one.stop()


def test_what_is_due_in_months_does_not_trouble_the_master(program: Start) -> None:
    """A wait longer than the kernel can count in milliseconds; also where nothing else is waited for."""
    config = task("far", every="60d") + '[tasks.yearly]\ntarget = "app:hello"\nschedule = "0 0 29 2 *"\n'
    one = program(APP, config).ready()
    one.wait_for("inner.ready", worker="@store.0")
    assert one.client().call("tasks.pause", all=True, **{"for": 86400 * 300})["changed"] == ["far", "yearly"]
    assert ended(one, one.client().call("tasks.run", name="far")["run"])["outcome"] == "ok"
    one.stop()


def test_a_target_that_leaves_with_4_by_itself_has_failed(program: Start) -> None:
    """Nobody told it to: for a task it is a status like any other."""
    app = APP + "\n\ndef four(worker):\n    sys.exit(4)\n"
    one = program(app, POOL + task("a", "four", every="100ms")).ready()
    assert one.wait_for("task.failed", task="a")["code"] == 4
    one.wait_for("task.errored", task="a")
    one.stop()


def test_lines_that_are_left_out_are_told_to_who_waits_for_the_run(program: Start) -> None:
    """Its status is right all the same."""
    app = (
        APP
        + """
def floods(worker):
    for _ in range(20):
        sys.stdout.write(("x" * 1000 + chr(10)) * 1000)
    sys.exit(5)
"""
    )
    one = program(app, POOL + task("floods", "floods")).ready()
    done = one.cli("tasks", "run", "floods", timeout=60)
    assert done.returncode == 5
    assert " dropped" in done.stderr or "lines are left out" in done.stderr
    one.stop()
