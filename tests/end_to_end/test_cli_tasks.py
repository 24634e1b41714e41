"""What ``tasks`` prints and how it waits, whatever the master does."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from command import TIMEOUT, one_line, run
from stage import Stage
from test_cli_follow import following, on, on_a_terminal

from supervisor.control.protocol import REFUSED, Params, Refusal

RUN = 12  # what the stage answers


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(str(tmp_path / "stage.sock"))
    found.results |= {
        "tasks.run": {"run": RUN, "queued": False},
        "tasks.pause": {"changed": ["vacuum"], "unchanged": [], "until": None},
        "tasks.resume": {"changed": ["vacuum"], "unchanged": []},
        "tasks.list": {"vacuum": task(), "purge": task()},
        "tasks.history": {"runs": []},
    }
    yield found
    found.close()


def at(seconds: float) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


def task(state: str = "running", **more: Any) -> dict[str, Any]:
    return {
        "state": state,
        "reason": None,
        "error": None,
        "by": None,
        "paused_until": None,
        "next_run": at(245),
        "last_run": {"run": 7, "by": "schedule", "started_at": at(-70), "seconds": 4.1, "outcome": "ok"},
        "failures": 0,
        "running": None,
        "waiting": None,
        **more,
    }


def past_run(number: int, outcome: str = "ok", **more: Any) -> dict[str, Any]:
    found = {"run": number, "task": "vacuum", "by": "schedule", "started_at": 1_700_000_000.0, "seconds": 4.1}
    return {**found, "outcome": outcome, "code": 0, "signal": None, "lines": [], **more}


def event(name: str, **more: object) -> dict[str, object]:
    return {"event": f"task.{name}", "message": name, "task": "vacuum", "run": RUN, **more}


# -- list ----------------------------------------------------------------------


def test_list_fits_the_terminal_or_is_whole_where_there_is_none(stage: Stage) -> None:
    """And no reason can steer it."""
    stage.results["tasks.list"] = {
        "vacuum": task(),
        "purge": task("errored", error="exit status 1\x1b[2J " + "x" * 200, failures=3, next_run=None),
        "report": task("paused", reason="new disk", by="ann", paused_until=at(3601), next_run=None),
        "n" * 64: task(last_run=None, next_run=at(5 * 86400)),
        "sync": task(running={"run": 9, "started_at": at(-30)}, waiting="hand"),
        "slow": task(failures=1, last_run=past_run(3, "timed out", signal="SIGKILL", started_at=at(-7200))),
    }
    done = on(stage, "tasks", "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "x" * 200 in done.stdout
    shown = on_a_terminal(stage, "tasks", "list", NO_COLOR="1")[1]
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for words in (
        "in 4 min",
        "errored: exit status 1",
        "paused by ann until",
        "in 1 h: new disk",
        "never",
        "in 5 days",
        "runs for 3",
        "one more run waits",
        "failed 1 time in a row",
        "timed out 2h00m ago",
    ):
        assert words in done.stdout, done.stdout
        assert words in shown, shown
    for text in (done.stdout, shown):
        assert re.search(r"ok 1m1\ds ago", text), text  # some seconds may go by until it is looked at


def test_list_says_what_is_due_and_held_by_quiet(stage: Stage) -> None:
    """Not "now" for as long as that lasts."""
    stage.results["tasks.list"] = {
        "vacuum": task(next_run=at(-70), quiet=True),
        "purge": task("errored", error="exit status 1", next_run=at(-70), quiet=True),
        "report": task(quiet=True),
    }
    shown = on(stage, "tasks", "list").stdout
    assert (shown.count("due, held by quiet"), shown.count("in 4 min"), shown.count("now")) == (2, 1, 0)
    assert shown.count("the master is quiet: nothing that is due begins") == 1


def test_list_and_status_say_why_a_run_cannot_begin(stage: Stage) -> None:
    why = "cannot start: Too many open files"
    stage.results["tasks.list"] = {"vacuum": task(running={"run": 9, "started_at": at(-30), "reason": why})}
    shown = on(stage, "tasks", "list").stdout
    assert "in 4 min  cannot begin yet\n" in shown
    assert f"    run 9 cannot begin yet: {why}" in shown


def test_a_run_that_never_began_is_not_said_to_have_started(stage: Stage) -> None:
    stage.results["tasks.history"] = {"runs": [past_run(7, "skipped", seconds=None, reason="it stays due")]}
    shown = on(stage, "tasks", "history", "vacuum").stdout
    assert "not begun" in shown
    assert "2023" not in shown


def test_times_are_local_and_read_from_both_ways_of_writing_them(stage: Stage) -> None:
    """A number is seconds since the epoch."""
    night = datetime(2026, 1, 5, 3, 0, tzinfo=timezone.utc)
    stage.results["tasks.list"] = {
        "a": task(next_run=night.isoformat()),
        "b": task(next_run=night.timestamp()),
    }
    stage.results["tasks.list"]["c"] = task(next_run="2026-01-05T03:00:00.000Z")  # type: ignore[index]
    shown = on(stage, "tasks", "list", TZ="Europe/Berlin").stdout
    assert shown.count("2026-01-05 04:00") == 3
    assert on(stage, "tasks", "list", TZ="UTC").stdout.count("2026-01-05 03:00") == 3


def test_list_as_json_is_the_object_as_it_is(stage: Stage) -> None:
    assert json.loads(on(stage, "tasks", "list", "--json").stdout) == stage.results["tasks.list"]


def test_no_tasks_say_where_they_would_come_from(stage: Stage) -> None:
    stage.results["tasks.list"] = {}
    assert "[tasks.NAME]" in on(stage, "tasks", "list").stdout


def test_states_have_colours_on_a_terminal_and_only_there(stage: Stage) -> None:
    stage.results["tasks.list"] = {"a": task(), "b": task("errored", error="exit status 1")}
    drawn = on_a_terminal(stage, "tasks", "list")[1]
    assert "\x1b[32m" in drawn
    assert "\x1b[31m" in drawn
    assert "\x1b" not in on(stage, "tasks", "list").stdout


# -- pause and resume ----------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        (
            ["pause", "vacuum", "purge"],
            {"names": ["vacuum", "purge"], "all": False, "for": None, "reason": None},
        ),
        (
            ["pause", "--all", "--for", "1h30m", "--reason", "new disk"],
            {"names": [], "all": True, "for": 5400.0, "reason": "new disk"},
        ),
        (
            ["pause", "vacuum", "--for", "90"],
            {"names": ["vacuum"], "all": False, "for": 90.0, "reason": None},
        ),
        (["resume", "vacuum"], {"names": ["vacuum"], "all": False}),
        (["resume", "--all"], {"names": [], "all": True}),
    ],
)
def test_what_is_asked_for(stage: Stage, arguments: list[str], params: Params) -> None:
    done = on(stage, "tasks", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert stage.params == {f"tasks.{arguments[0]}": params}


def test_pause_tells_until_when_and_what_was_paused_already(stage: Stage) -> None:
    names = [f"t{n}" for n in range(12)]
    stage.results["tasks.pause"] = {"changed": names, "unchanged": ["purge"], "until": at(3601)}
    done = on(stage, "tasks", "pause", "--all", "--for", "1h")
    first, second = done.stdout.splitlines()
    assert first.startswith("paused until ")
    assert first.endswith("(in 1 h): t0, t1, t2, t3, t4, t5, t6, t7, t8, t9 and 2 more")
    assert second == "paused already, for no shorter time: purge"


def test_resume_tells_what_runs_again_and_what_did_anyway(stage: Stage) -> None:
    stage.results["tasks.resume"] = {"changed": ["vacuum"], "unchanged": ["purge"]}
    assert on(stage, "tasks", "resume", "--all").stdout == "running again: vacuum\nnot paused: purge\n"
    stage.results["tasks.resume"] = {"changed": [], "unchanged": []}
    assert on(stage, "tasks", "resume", "--all").stdout == "there are no tasks\n"


def test_changes_as_json_are_the_answer_as_it_is(stage: Stage) -> None:
    for command in ("pause", "resume"):
        shown = on(stage, "tasks", command, "vacuum", "--json").stdout
        assert json.loads(shown) == stage.results[f"tasks.{command}"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["pause"],
        ["pause", "vacuum", "--all"],
        ["pause", "vacuum", "--for", "soon"],
        ["pause", "vacuum", "--for", "0"],
        ["pause", "vacuum", "--for", "-1h"],
        ["pause", "vacuum", "--for", "11000d"],
        ["pause", "vacuum", "--reason", "x" * 1001],
        ["resume"],
        ["resume", "vacuum", "--all"],
        ["run"],
        ["history"],
        ["history", "vacuum", "-n", "0"],
        ["hsitory", "vacuum"],
    ],
)
def test_a_wrong_use_is_2_in_one_line_and_asks_nobody(stage: Stage, arguments: list[str]) -> None:
    done = run("tasks", *arguments, cwd=Path(stage.path).parent)
    assert done.returncode == 2, done
    assert "--help" in one_line(done.stderr)
    assert stage.asked == []


def test_tasks_alone_shows_what_there_is(tmp_path: Path) -> None:
    done = run("tasks", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    for command in ("list", "pause", "resume", "run", "history"):
        assert f"\n  {command} " in done.stderr


@pytest.mark.parametrize("command", ["pause", "resume", "run"])
def test_a_refusal_is_1_with_its_reason_in_one_line(stage: Stage, command: str) -> None:
    def refuse() -> None:
        raise Refusal(REFUSED, "nothing was changed: the state file cannot be written: make room")

    stage.script[f"tasks.{command}"] = refuse
    done = on(stage, "tasks", command, "vacuum")
    assert (done.returncode, done.stdout) == (1, "")
    assert "make room" in one_line(done.stderr)


def test_no_master_is_3(tmp_path: Path) -> None:
    for arguments in (["list"], ["pause", "--all"], ["run", "a"], ["history", "a"]):
        done = run("tasks", *arguments, "--socket", str(tmp_path / "none.sock"), cwd=tmp_path)
        assert done.returncode == 3
        assert one_line(done.stderr)


# -- run -----------------------------------------------------------------------


def test_run_prints_what_the_run_prints_and_is_0_when_it_went_well(stage: Stage) -> None:
    """Another run's lines and end are not ours."""
    stage.script["tasks.run"] = lambda: stage.events.extend(
        [
            event("output", run=11, lines=["not ours"]),
            event("failed", run=11, code=9),
            event("started"),
            event("output", lines=["one", "two\x1b[2J"]),
            event("output", lines=["three"]),
            event("finished", seconds=1.5, code=0, output=["two", "three"]),
        ]
    )
    done = on(stage, "tasks", "run", "vacuum")
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\ntwo [2J\nthree\n", "")
    assert stage.params["tasks.run"] == {"name": "vacuum"}


def test_lines_that_were_not_streamed_are_told_at_the_end(stage: Stage) -> None:
    stage.script["tasks.run"] = lambda: stage.events.append(event("finished", output=["last words"]))
    assert on(stage, "tasks", "run", "vacuum").stdout == "last words\n"


@pytest.mark.parametrize(
    ("end", "status", "words"),
    [
        (
            event("failed", code=7, reason="exit status 7", seconds=2.0),
            7,
            "run 12 failed after 2.0s: exit status 7",
        ),
        (event("failed", signal="SIGKILL", reason="SIGKILL"), 137, "failed: SIGKILL"),
        (event("failed", signal="SIGRTMIN+3", reason="SIGRTMIN+3"), 165, "failed: SIGRTMIN+3"),
        (event("failed", code=0, reason="timed out after 5 s"), 1, "timed out after 5 s"),
        (event("failed", code=None, reason="cannot execute 'x'"), 1, "cannot execute 'x'"),
        (event("interrupted", signal="SIGTERM", reason="stop"), 143, "was interrupted: stop"),
    ],
)
def test_run_has_the_status_of_the_run(stage: Stage, end: dict[str, object], status: int, words: str) -> None:
    """Never 0 for what did not go well; a signal is what a shell makes of it."""
    stage.script["tasks.run"] = lambda: stage.events.append(end)
    done = on(stage, "tasks", "run", "vacuum")
    assert done.returncode == status
    assert words in one_line(done.stderr)
    assert "tasks history vacuum" in done.stderr


def test_a_queued_run_is_waited_for(stage: Stage) -> None:
    stage.results["tasks.run"] = {"run": RUN, "queued": True}
    stage.script["tasks.run"] = lambda: stage.events.extend(
        [event("finished", run=RUN - 1), event("started"), event("finished")]
    )
    status, drawn = on_a_terminal(stage, "tasks", "run", "vacuum")
    assert status == 0
    assert "waits for the run that goes on" in drawn


DROPPED = {"event": "stream.dropped", "level": "warning", "message": "read too slowly"}
LEFT_OUT = "lines are left out here"


@pytest.mark.parametrize("drop", ["with a word", "without"])
@pytest.mark.parametrize(
    ("row", "status"), [({"outcome": "ok", "code": 0}, 0), ({"outcome": "failed", "code": 7}, 7)]
)
def test_a_run_whose_end_was_left_out_has_it_from_the_history(
    stage: Stage, row: dict[str, object], status: int, drop: str
) -> None:
    """With what it printed last: whoever reads only that is to have it."""
    stage.script["tasks.run"] = lambda: stage.drop(
        event("output", lines=["one"]), *([DROPPED] if drop == "with a word" else [])
    )
    stage.results["tasks.history"] = {"runs": [{"run": RUN, "lines": ["the last"], **row}]}
    done = on(stage, "tasks", "run", "vacuum")
    assert (done.returncode, done.stdout) == (status, "one\nthe last\n")
    assert LEFT_OUT in done.stderr
    assert "left meanwhile" not in done.stderr


@pytest.mark.parametrize("more", [{"running": {"run": RUN}}, {"waiting": "root"}])
def test_a_run_that_goes_on_when_events_were_left_out_is_followed_on(
    stage: Stage, more: dict[str, object]
) -> None:
    """Twice: its end comes by the third stream."""
    stage.results["tasks.list"] = {"vacuum": task(**more)}
    stage.script["tasks.run"] = lambda: stage.drop(event("output", lines=["one"]))

    def after() -> None:
        if stage.asked.count("tasks.list") == 1:
            stage.drop(event("output", lines=["two"]))
        else:
            stage.events += [event("output", lines=["three"]), event("failed", code=3)]

    stage.script["tasks.list"] = after
    done = on(stage, "tasks", "run", "vacuum")
    assert (done.returncode, done.stdout) == (3, "one\ntwo\nthree\n")
    assert done.stderr.count(LEFT_OUT) == 2


def test_an_end_that_no_disk_has_yet_is_told_by_the_master(stage: Stage) -> None:
    stage.script["tasks.run"] = stage.drop
    stage.results["tasks.history"] = {"runs": [past_run(RUN, "running", code=None)]}
    stage.results["tasks.list"] = {"vacuum": task(last_run=past_run(RUN, "failed", signal="SIGKILL"))}
    assert on(stage, "tasks", "run", "vacuum").returncode == 128 + 9


def test_an_end_that_nobody_knows_any_more_is_1_and_is_not_waited_for(stage: Stage) -> None:
    stage.script["tasks.run"] = stage.drop
    done = on(stage, "tasks", "run", "vacuum")
    assert done.returncode == 1
    assert "how run 12 ended was left out" in done.stderr


def test_no_wait_only_asks(stage: Stage) -> None:
    done = on(stage, "tasks", "run", "vacuum", "--no-wait")
    assert (done.returncode, done.stdout, stage.asked) == (0, "vacuum: run 12 begins\n", ["tasks.run"])
    stage.results["tasks.run"] = {"run": RUN, "queued": True}
    assert "when the run that goes on is over" in on(stage, "tasks", "run", "vacuum", "--no-wait").stdout


def test_a_run_that_could_not_be_stored_is_said_to_be_so(stage: Stage) -> None:
    """It runs all the same."""
    stage.results["tasks.run"] = {"run": RUN, "queued": False, "unsaved": "the disk is full"}
    stage.script["tasks.run"] = lambda: stage.events.append(event("finished"))
    done = on(stage, "tasks", "run", "vacuum")
    assert done.returncode == 0
    assert "the disk is full" in one_line(done.stderr)


def test_a_master_that_leaves_meanwhile_is_1(stage: Stage) -> None:
    stage.script["tasks.run"] = lambda: stage.leave(event("started"))
    done = on(stage, "tasks", "run", "vacuum")
    assert done.returncode in {1, 3}
    assert "supervisord-lite: " in done.stderr


def test_ctrl_c_ends_the_following_and_not_the_run(stage: Stage) -> None:
    with following(stage, "tasks", "run", "vacuum") as process:
        stage.script["tasks.run"] = lambda: stage.events.append(event("output", lines=["hello"]))
        assert process.stdout is not None
        assert process.stdout.readline() == "hello\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == -signal.SIGINT
        assert process.stderr is not None
        assert "it goes on; see 'supervisord-lite tasks history vacuum'" in process.stderr.read()
    assert set(stage.asked) <= {"tasks.run", "ping"}


# -- history -------------------------------------------------------------------


def test_history_is_a_line_a_run_and_what_went_wrong_with_its_last_lines(stage: Stage) -> None:
    """On a terminal within its columns, elsewhere whole."""
    stage.results["tasks.history"] = {
        "runs": [
            past_run(9, "running", seconds=None, code=None),
            past_run(8, "failed", code=3, lines=["one", "two", "three", "four\x1b[2J" + "x" * 100]),
            past_run(7, "timed out", signal="SIGKILL", code=None, seconds=3600.0, by="a-very-long-user-name"),
            past_run(6, lines=["fine"]),
        ]
    }
    done = on(stage, "tasks", "history", "vacuum", TZ="UTC")
    assert (done.returncode, done.stderr) == (0, "")
    assert "four [2J" + "x" * 100 in done.stdout
    assert "a-very-long-user-name" in done.stdout
    assert "\x1b" not in done.stdout
    lines = on_a_terminal(stage, "tasks", "history", "vacuum", TZ="UTC")[1].splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines] == ["RUN", "9", "8", "|", "|", "|", "7", "6"]
    assert "2023-11-14 22:13:20" in lines[1]
    assert lines[2].endswith("schedule    failed (status 3)")
    assert lines[6].endswith("1h00m  a-very-...  timed out (SIGKILL)")
    assert lines[7].split()[3:] == ["4.1s", "schedule", "ok"]
    assert stage.params["tasks.history"] == {"name": "vacuum", "limit": 20, "before": None}


def test_history_with_output_shows_all_lines_that_were_kept(stage: Stage) -> None:
    stage.results["tasks.history"] = {"runs": [past_run(6, lines=["a", "b", "c", "d"])]}
    assert on(stage, "tasks", "history", "vacuum", "--output", "-n", "3").stdout.count("| ") == 4
    assert stage.params["tasks.history"] == {"name": "vacuum", "limit": 3, "before": None}


def test_history_as_json_is_the_object_as_it_is(stage: Stage) -> None:
    stage.results["tasks.history"] = {"runs": [past_run(6)]}
    assert (
        json.loads(on(stage, "tasks", "history", "vacuum", "--json").stdout) == stage.results["tasks.history"]
    )


def test_no_history_is_said_and_of_no_task_it_is_1(stage: Stage) -> None:
    assert on(stage, "tasks", "history", "vacuum").stdout == "vacuum has not run yet\n"
    done = on(stage, "tasks", "history", "vacum")
    assert done.returncode == 1
    assert "'vacum'" in one_line(done.stderr)
    assert "vacuum, purge" in done.stderr


# -- completion ----------------------------------------------------------------
