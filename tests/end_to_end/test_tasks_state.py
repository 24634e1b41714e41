"""What is remembered of tasks outlives the master, and a state file in trouble is told, never guessed."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import run
from program import PATIENCE, Program, wait_gone
from reloading import swap
from tasked import APP, POOL, begin, pid_of, runs_of, state_of, task

Start = Callable[..., Program]
STATE = "run/state/config.sqlite"


def killed(one: Program) -> None:
    """kill -9 the master, and wait until all of its processes are gone."""
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)
    one.orphans_end()


def again(program: Start, one: Program, config: str) -> Program:
    """The next master in the same folder."""
    return program(APP, config, one.folder).ready()


def test_what_was_answered_outlives_a_kill_of_the_master(program: Start) -> None:
    """The pause with its reason and its end, at once after the reply."""
    config = POOL + task("a") + task("b")
    one = program(APP, config).ready()
    one.client().call("tasks.pause", names=["a"], reason="new disk", **{"for": 3600})
    killed(one)
    two = again(program, one, config)
    shown = state_of(two, "a")
    assert (shown["state"], shown["reason"]) == ("paused", "new disk")
    assert shown["paused_until"] is not None
    assert state_of(two, "b")["state"] == "running"
    two.stop()


def test_a_run_that_goes_on_when_the_master_is_killed_was_interrupted(program: Start) -> None:
    """Nobody saw its end, and it is not held against the task."""
    config = POOL + task("a", "patient")
    one = program(APP, config).ready()
    run = begin(one, "a")
    killed(one)
    two = again(program, one, config)
    assert two.wait_for("task.interrupted", run=run)["reason"] == "the master was gone"
    (row,) = runs_of(two, "a")
    assert (row["run"], row["outcome"], row["seconds"]) == (run, "interrupted", None)
    shown = state_of(two, "a")
    assert (shown["state"], shown["failures"], shown["running"]) == ("running", 0, None)
    assert two.client().call("tasks.run", name="a")["run"] == run + 1
    two.stop()


def test_an_errored_task_is_errored_after_a_rolling_restart_and_runs_once_resumed(program: Start) -> None:
    """USR2, exit 4, and the next master knows why."""
    config = POOL + task("bad", "fails", "pause_after_failures = 3", every="100ms")
    one = program(APP, config).ready()
    one.wait_for("task.errored", task="bad")
    one.signal(signal.SIGUSR2)
    one.wait(4)
    two = again(program, one, config)
    shown = state_of(two, "bad")
    assert (shown["state"], shown["reason"], shown["failures"]) == ("errored", "exit status 3", 3)
    assert two.cli("tasks", "resume", "bad").returncode == 0
    two.wait_for("task.started", task="bad", by="schedule")
    two.stop()


def test_every_keeps_its_phase_over_a_restart(program: Start) -> None:
    """The next run is due when it would have been."""
    config = POOL + task("a", every="1h")
    one = program(APP, config).ready()
    before = state_of(one, "a")["next_run"]
    one.stop()
    two = again(program, one, config)
    assert state_of(two, "a")["next_run"] == before
    two.stop()


@pytest.mark.parametrize(("missed", "runs"), [("skip", 0), ("once", 1)])
def test_what_was_missed_while_nobody_was_there_runs_once_or_not_at_all(
    program: Start, missed: str, runs: int
) -> None:
    """Due 100 times while the master was down."""
    config = POOL + task("a", more=f'missed = "{missed}"', every="1h")
    one = program(APP, config).ready()
    one.stop()
    with sqlite3.connect(one.folder / STATE) as database:
        database.execute("UPDATE tasks SET anchor = anchor - 360000 - 1800")
    database.close()
    two = again(program, one, config)
    if runs:
        event = two.wait_for("task.finished", task="a")
        assert event["by"] == "missed"
    else:
        assert two.wait_for("task.missed", task="a")["reason"]
    assert len(runs_of(two, "a")) == runs
    two.stop()


# -- a file in trouble at the start --------------------------------------------


def refused(program: Start, config: str, folder: Path) -> str:
    """A start that fails with 1: the one line that says why."""
    one = program(APP, config, folder)
    one.wait(1)
    (line,) = [line for line in one.noise if line]
    return line


def damage(state: Path) -> None:
    state.write_bytes(b"SQLite format 3\0" + b"garbage" * 1000)


def make_newer(state: Path) -> None:
    with sqlite3.connect(state) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


def make_a_folder(state: Path) -> None:
    state.mkdir()


def make_another_programs(state: Path) -> None:
    with sqlite3.connect(state) as database:
        database.execute("CREATE TABLE theirs (a)")
    database.close()


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (damage, "put back a copy, or move it away to start anew"),
        (make_newer, "newer version of supervisord-lite (format 99"),
        (make_a_folder, "it is no regular file; move it away"),
        (make_another_programs, "it holds the tables of another program; move it away"),
    ],
)
def test_a_state_file_that_cannot_be_used_refuses_the_start(
    program: Start, tmp_path: Path, trouble: Callable[[Path], None], words: str
) -> None:
    """Exit 1, one line that names the file and what to do; nothing was forked and the file is as it was."""
    state = tmp_path / STATE
    state.parent.mkdir(parents=True)
    trouble(state)
    before = state.read_bytes() if state.is_file() else b""
    line = refused(program, POOL + task("a"), tmp_path)
    assert line.startswith(f"supervisord-lite: state file {state}: ")
    assert words in line
    assert (state.read_bytes() if state.is_file() else b"") == before


def test_a_folder_for_the_state_that_cannot_be_made_refuses_the_start(program: Start, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/state").write_text("no folder")
    line = refused(program, POOL + task("a"), tmp_path)
    assert "run/state" in line


def test_two_masters_do_not_share_one_state_file(program: Start, tmp_path: Path) -> None:
    """Another configuration with the same name and folder: exit 1, the first one is not disturbed."""
    one = program(APP, POOL + task("a")).ready()
    other = tmp_path / "other.toml"
    sockets = one.config.read_text().replace("run/m.", "run/other.")
    other.write_text(sockets.replace("[master]", '[master]\nname = "config"'))
    done = run("start", "-c", str(other), cwd=tmp_path)
    assert done.returncode == 1
    assert "another master uses the state file" in done.stderr
    assert state_of(one, "a")["state"] == "running"
    one.stop()


def test_a_second_start_of_the_same_configuration_exits_with_100(program: Start) -> None:
    """That another master runs is the better answer than that it holds the state file."""
    one = program(APP, POOL + task("a")).ready()
    assert one.cli("start").returncode == 100
    one.stop()


# -- a file in trouble while the master runs -----------------------------------


def replace_the_file(one: Program) -> None:
    """As a careless restore of a backup does, in one step."""
    state = one.folder / STATE
    backup = state.with_suffix(".backup")
    damage(backup)
    backup.replace(state)


def test_what_cannot_be_stored_is_not_acknowledged_and_tasks_go_on_from_memory(program: Start) -> None:
    """The command is refused and changed nothing; a loud event; runs go on; mended, all is stored."""
    config = POOL + task("a") + task("tick", every="200ms")
    one = program(APP, config).ready()
    one.wait_for("task.finished", task="tick")
    replace_the_file(one)
    done = one.cli("tasks", "pause", "a", timeout=30)
    assert done.returncode == 1
    assert "nothing was changed: the state file cannot be written" in done.stderr
    assert "it was replaced by another file while in use" in done.stderr
    assert state_of(one, "a")["state"] == "running"
    loud = one.wait_for("task.unsaved")
    assert loud["level"] == "error"
    one.wait_for("task.finished", task="tick", since=one.events.index(loud))
    one.stop()


def test_the_death_of_the_process_that_writes_loses_nothing(program: Start) -> None:
    """kill -9 @store: the next one writes what had no answer."""
    one = program(APP, POOL + task("a")).ready()
    store = one.wait_for("inner.ready", worker="@store.0")["pid"]
    os.kill(store, signal.SIGSTOP)
    one.client().call("ping")
    os.kill(store, signal.SIGKILL)
    wait_gone(store)
    assert one.client().call("tasks.pause", names=["a"])["changed"] == ["a"]
    killed(one)
    two = again(program, one, POOL + task("a"))
    assert state_of(two, "a")["state"] == "paused"
    two.stop()


def test_requests_behind_one_that_waits_for_the_disk_are_answered_in_order(program: Start) -> None:
    """Several on one connection, of which the first is answered late; a half-closed client gets all."""
    one = program(APP, POOL + task("a")).ready()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(one.socket))
        requests = [
            {"jsonrpc": "2.0", "id": 1, "method": "tasks.pause", "params": {"names": ["a"]}},
            {"jsonrpc": "2.0", "id": 2, "method": "ping"},
            [
                {"jsonrpc": "2.0", "id": 3, "method": "tasks.resume", "params": {"all": True}},
                {"jsonrpc": "2.0", "id": 4, "method": "ping"},
            ],
        ]
        client.sendall(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
        client.shutdown(socket.SHUT_WR)
        with client.makefile() as replies:
            first, second, batch = (json.loads(line) for line in replies)
    assert (first["id"], first["result"]["changed"]) == (1, ["a"])
    assert (second["id"], second["result"]) == (2, "pong")
    assert [(reply["id"], reply["result"] == "pong") for reply in batch] == [(3, False), (4, True)]
    one.stop()


BATCH = [
    {"jsonrpc": "2.0", "id": 1, "method": "tasks.history", "params": {"name": "a"}},
    {"jsonrpc": "2.0", "id": 2, "method": "tasks.run", "params": {"name": "nobody"}},
    {"jsonrpc": "2.0", "id": 3, "method": "tasks.pause", "params": {"names": ["a"]}},
    {"jsonrpc": "2.0", "id": 4, "method": "tasks.history", "params": {"name": "a"}},
    {"jsonrpc": "2.0", "id": 5, "method": "ping"},
]


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_batch_of_what_is_answered_late_needs_nobody_to_wake_the_master(
    program: Start, half_closed: bool
) -> None:
    """Each of its requests is begun when the one before it is answered, and all is answered at once."""
    one = program(APP, POOL + task("a")).ready()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)  # an answer that is not true comes after 10 s
        client.connect(str(one.socket))
        client.sendall(json.dumps(BATCH).encode() + b"\n")
        if half_closed:
            client.shutdown(socket.SHUT_WR)
        with client.makefile() as replies:
            found = json.loads(replies.readline())
    assert [reply["id"] for reply in found] == [1, 2, 3, 4, 5]
    assert ["result" in reply for reply in found] == [True, False, True, True, True]
    one.stop()


# -- runs that wait for the one before them ------------------------------------


QUEUES = POOL + task("a", "patient", 'overlap = "queue"')


def queued(one: Program) -> tuple[int, int]:
    """A run that goes on, and one that waits for it."""
    first = begin(one, "a")
    found = one.client().call("tasks.run", name="a")
    assert found["queued"] is True
    return first, int(found["run"])


def test_a_queued_run_that_a_kill_cut_off_is_in_the_history_and_its_number_is_not_used_again(
    program: Start,
) -> None:
    """It was promised to somebody: both it and the run that went on are told."""
    one = program(APP, QUEUES).ready()
    first, second = queued(one)
    killed(one)
    two = again(program, one, QUEUES)
    assert two.wait_for("task.interrupted", run=first)["reason"] == "the master was gone"
    assert two.wait_for("task.skipped", run=second)["reason"] == "the master was gone"
    found = {row["run"]: row["outcome"] for row in runs_of(two, "a")}
    assert found == {first: "interrupted", second: "skipped"}
    assert begin(two, "a") == second + 1
    two.stop()


def test_a_queued_run_ends_with_the_stop_and_says_so(program: Start) -> None:
    one = program(APP, QUEUES).ready()
    _, second = queued(one)
    one.signal(signal.SIGUSR2)
    one.wait(4)
    assert one.wait_for("task.skipped", run=second)["reason"] == "the master is stopping"
    two = again(program, one, QUEUES)
    assert runs_of(two, "a")[0]["outcome"] == "skipped"
    two.stop()


def test_who_waits_for_a_queued_run_of_a_task_that_is_removed_is_told(program: Start) -> None:
    """It does not wait for ever."""
    one = program(APP, QUEUES + task("b")).ready()
    first = begin(one, "a")
    waits = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "tasks", "run", "a", "-c", str(one.config)],
        stderr=subprocess.PIPE,
        text=True,
    )
    one.wait_until(lambda: state_of(one, "a")["waiting"])
    swap(one.config, task("a", "patient", 'overlap = "queue"'), "")
    one.signal(signal.SIGHUP)
    _, said = waits.communicate(timeout=PATIENCE)
    assert (waits.returncode, "did not begin: the task was removed" in said) == (1, True)
    one.wait_for("reload.done")
    os.kill(pid_of(one, first), signal.SIGTERM)
    one.wait_for("task.interrupted", run=first)
    one.stop()
