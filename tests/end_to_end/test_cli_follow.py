"""What the client commands print and how they wait, whatever the master does."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from command import TIMEOUT, environment, one_line, run
from stage import Stage, pool, report, worker


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(str(tmp_path / "stage.sock"))
    yield found
    found.close()


def on(stage: Stage, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, "--socket", stage.path, cwd=Path(stage.path).parent, **more)


def test_status_fits_the_terminal_or_is_whole_where_there_is_none(stage: Stage) -> None:
    """And nothing that a worker says can steer it."""
    stage.status["pools"]["web"]["workers"][0]["status"] = "\x1b[2Jevil\nline " + "x" * 200
    failed = {
        "code": None,
        "signal": "SIGKILL",
        "reason": "SIGKILL, not sent by supervisord-lite",
        "at": None,
    }
    gone = worker("web.2", "backoff", pid=None, restarts=3, last_exit=failed, status="starts again in 2.0 s")
    stage.status["pools"]["web"]["workers"].append(gone)
    done = on(stage, "status")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "x" * 200 in done.stdout
    shown = on_a_terminal(stage, "status", NO_COLOR="1")[1]
    assert max(len(line) for line in shown.splitlines()) <= 80
    for words in (
        "shop: running",
        "up 3m12s",
        "2 of 2 ready",
        "24 MiB",
        "2 in flight",
        "starts again in 2.0 s",
        "not sent by",
    ):
        assert words in done.stdout
        assert words in shown


def test_status_as_json_is_the_object_as_it_is(stage: Stage) -> None:
    assert json.loads(on(stage, "status", "--json").stdout) == stage.status


def test_stop_follows_to_the_report_and_is_0_if_all_work_was_finished(stage: Stage) -> None:
    stage.script["stop"] = lambda: stage.leave(report(0), {"event": "master.exiting"})
    done = on(stage, "stop")
    assert done.returncode == 0
    assert "all work finished" in done.stdout
    assert "phase terminate" in done.stderr
    assert stage.params["stop"] == {"force": False}


def test_stop_is_1_and_names_who_was_killed_if_work_was_cut(stage: Stage) -> None:
    stage.script["stop"] = lambda: stage.leave(report(3, "web.1"), {"event": "master.exiting"})
    done = on(stage, "stop")
    assert done.returncode == 1
    assert "web.1 (pid 7) killed after 30s, never acknowledged, 3 in flight" in done.stderr


def test_a_forced_stop_is_0_though_work_was_cut(stage: Stage) -> None:
    stage.script["stop"] = lambda: stage.leave(report(3, "web.1"), {"event": "master.exiting"})
    done = on(stage, "stop", "--force")
    assert done.returncode == 0
    assert "web.1" in done.stdout
    assert stage.params["stop"] == {"force": True}


def test_a_stream_that_breaks_without_a_report_is_1(stage: Stage) -> None:
    stage.script["stop"] = stage.leave
    done = on(stage, "stop")
    assert done.returncode == 1
    assert "without a report" in done.stderr


def test_a_stop_is_followed_on_where_events_were_left_out(stage: Stage) -> None:
    def leave() -> None:
        if stage.asked.count("status") == 2:  # the first look is before the end of the stream is seen
            stage.leave(report(0), {"event": "master.exiting"})

    stage.script |= {"stop": stage.drop, "status": leave}
    status, drawn = on_a_terminal(stage, "stop")
    assert status == 0
    assert "lines are left out here" in drawn
    assert "all work finished" in drawn


@pytest.mark.parametrize("command", ["stop", "restart", "reload", "quiet", "unquiet"])
def test_no_wait_only_asks(stage: Stage, command: str) -> None:
    assert on(stage, command, "--no-wait").returncode == 0
    assert stage.asked == [command]


def test_restart_waits_for_the_next_master(stage: Stage) -> None:
    following: list[Stage] = []

    def leave() -> None:
        stage.leave(report(4), {"event": "master.exiting"})
        threading.Thread(target=start_again).start()

    def start_again() -> None:
        stage.finished()
        following.append(Stage(stage.path))
        following[0].status |= {"pid": 2, "state": "starting"}
        following[0].script["status"] = ready

    def ready() -> None:
        if following[0].asked.count("status") == 2:
            following[0].status["state"] = "running"

    stage.script["restart"] = leave
    done = on(stage, "restart")
    following[0].close()
    assert done.returncode == 0
    assert "now pid 2" in done.stdout


def test_a_restart_that_became_a_stop_is_1(stage: Stage) -> None:
    stage.script["restart"] = lambda: stage.leave(report(0), {"event": "master.exiting"})
    done = on(stage, "restart")
    assert done.returncode == 1
    assert "stopped instead" in done.stderr


def test_quiet_waits_until_every_worker_is(stage: Stage) -> None:
    workers = stage.status["pools"]["web"]["workers"]

    def begin() -> None:
        stage.status["state"] = "quiet"
        stage.script["status"] = one_more

    def one_more() -> None:
        if stage.asked.count("status") > 1:
            workers[stage.asked.count("status") - 2]["state"] = "quiet"
        if stage.asked.count("status") == 3:
            del stage.script["status"]

    stage.script["quiet"] = begin
    done = on(stage, "quiet")
    assert done.returncode == 0
    assert stage.asked == ["quiet", "status", "status", "status"]


def test_scale_waits_for_exactly_so_many_ready_workers(stage: Stage) -> None:
    def scaled() -> None:
        stage.status["pools"]["web"] = pool("ready", 3, [worker(f"web.{n}", "ready") for n in range(3)])

    stage.script["scale"] = scaled
    done = on(stage, "scale", "web", "3")
    assert (done.returncode, done.stdout) == (0, "web: 3 ready\n")


def test_scale_of_a_parked_pool_is_1(stage: Stage) -> None:
    stage.status["pools"]["web"]["state"] = "parked"
    done = on(stage, "scale", "web", "3")
    assert done.returncode == 1
    assert "parked" in one_line(done.stderr)


def test_a_wait_ends_when_the_master_leaves_meanwhile(stage: Stage) -> None:
    stage.script["scale"] = lambda: stage.leave(report(0))
    done = on(stage, "scale", "web", "5")
    assert done.returncode in {1, 3}
    assert one_line(done.stderr)


def test_events_end_with_the_master_and_are_the_objects_as_they_are(stage: Stage) -> None:
    with following(stage, "events", "--json") as process:
        event = {"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "a", "message": "caf\u00e9"}
        streaming(stage)
        stage.events.append(dict(event))
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == event
        stage.events.append({"event": "master.exiting", "message": "bye"})
        assert json.loads(process.stdout.readline())["event"] == "master.exiting"
        stage.close()
        assert process.wait(TIMEOUT) == 0


TWO_THREADS = """Thread 0x1 (most recent call first):
  File "a.py", line 1 in a

Current thread 0x2 (most recent call first):
  File "b.py", line 2 in b
"""
NO_STACKS = "it wrote no stacks; its process state is S"


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        (TWO_THREADS, 'busy here:\n    File "b.py", line 2 in b\n'),
        (NO_STACKS, f"busy here:\n    {NO_STACKS}\n"),
        ("", ""),
    ],
)
def test_where_a_straggler_was_busy_is_told_whole_or_not_at_all(stage: Stage, stack: str, said: str) -> None:
    event = {"event": "worker.stack", "message": "web.1 was busy here:", "stack": stack}
    stage.script["stop"] = lambda: stage.leave(event, report(0), {"event": "master.exiting"})
    _, before, after = on(stage, "stop").stderr.partition("web.1 was ")
    assert before + after == ("web.1 was " + said if said else "")


def test_events_go_on_where_some_were_left_out_and_say_so_there(stage: Stage) -> None:
    with following(stage, "events", "--json") as process:
        assert process.stdout is not None
        for number in range(2):
            streaming(stage)
            stage.drop({"event": "a", "message": str(number)})
            assert json.loads(process.stdout.readline())["message"] == str(number)
            gap = json.loads(process.stdout.readline())
            assert gap["event"] == "stream.dropped"
            assert set(gap) == {"time", "level", "event", "message"}
        stage.close()
        assert process.wait(TIMEOUT) == 1
        assert process.stderr is not None
        assert "left meanwhile" in one_line(process.stderr.read())


def test_a_status_that_is_watched_goes_on_where_events_were_left_out(stage: Stage) -> None:
    with following(stage, "status", "--watch", "--json") as process:
        assert process.stdout is not None
        for generation in range(2, 5):
            stage.status["generation"] = generation
            streaming(stage)
            stage.drop()
            while json.loads(process.stdout.readline())["generation"] < generation:
                pass
        stage.close()
        assert process.wait(TIMEOUT) == 3


@pytest.mark.parametrize("arguments", [["events"], ["status", "--watch"], ["status", "--watch", "--json"]])
def test_ctrl_c_ends_what_has_no_end_with_0_and_without_a_word(stage: Stage, arguments: list[str]) -> None:
    with following(stage, *arguments) as process:
        streaming(stage)
        stage.events.append(
            {"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "a", "message": "hello"}
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@contextlib.contextmanager
def following(stage: Stage, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", *arguments, "--socket", stage.path],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def streaming(stage: Stage) -> None:
    """Wait until somebody follows the events."""
    arrived = threading.Event()
    while not any(client.streaming for client in list(stage.server._clients.values())):
        arrived.wait(0.005)


def on_a_terminal(stage: Stage, *arguments: str, options: Sequence[str] = (), **more: str) -> tuple[int, str]:
    """Run the command on a terminal of 80 columns; its status and all it drew."""
    master, slave = pty.openpty()
    options = options or ("--socket", stage.path)
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", *arguments, *options],
        env=environment(TERM="xterm", **more),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    drawn = b""
    with contextlib.suppress(OSError):  # EIO: the last one has closed it
        while chunk := os.read(master, 65536):
            drawn += chunk
    os.close(master)
    return process.wait(TIMEOUT), drawn.decode()


def test_status_has_colours_on_a_terminal_but_not_against_NO_COLOR(stage: Stage) -> None:
    assert "\x1b[32m" in on_a_terminal(stage, "status")[1]
    assert "\x1b" not in on_a_terminal(stage, "status", NO_COLOR="1")[1]


def test_stop_shows_on_a_terminal_who_is_left_and_the_time_that_is(stage: Stage) -> None:
    soon = datetime.now(timezone.utc) + timedelta(seconds=25)

    def begin() -> None:
        stage.status |= {"state": "stopping", "stop_deadline": soon.isoformat()}
        stage.script["status"] = leave

    def leave() -> None:
        if stage.asked.count("status") == 3:
            stage.leave(report(0), {"event": "master.exiting"})

    stage.script["stop"] = begin
    status, drawn = on_a_terminal(stage, "stop")
    assert status == 0
    assert "2 workers left (web.0 with 2 in flight" in drawn
    assert "until SIGKILL" in drawn
    assert drawn.rstrip().endswith("all work finished")
