"""The state file is held by another program, or by what is left of a master that was killed."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing

from program import Program
from tasked import APP, POOL, ended, runs_of, state_of, task

Start = Callable[..., Program]
STATE = "run/state/config.sqlite"
PAUSE = b'{"jsonrpc": "2.0", "id": 1, "method": "tasks.pause", "params": {"names": ["a"]}}\n'


def written(program: Start, config: str) -> Program:
    """A master whose @store is at work."""
    one = program(APP, config).ready()
    one.client().call("tasks.pause", names=["a"])
    one.client().call("tasks.resume", names=["a"])
    return one


def locked(one: Program) -> sqlite3.Connection:
    """Another program that holds up whoever would write."""
    database = sqlite3.connect(one.folder / STATE, isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    return database


def kill(one: Program) -> None:
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)


def test_what_a_killed_master_still_writes_is_written_before_the_next_one_reads(program: Start) -> None:
    """Its @store holds the lock as long as it lives: a start that would not know of it is refused."""
    config = POOL + task("a")
    one = written(program, config)
    store = one.wait_for("inner.ready", worker="@store.0")["pid"]
    with socket.socket(socket.AF_UNIX) as client, closing(locked(one)):
        client.connect(str(one.socket))
        client.sendall(PAUSE)
        one.client().call("ping")
        one.signal(signal.SIGSTOP)  # it would continue a process of its own
        os.kill(store, signal.SIGSTOP)
        kill(one)
    refused = program(APP, config, one.folder)
    refused.wait(1)
    assert any("or what is left of one" in line for line in refused.noise)
    os.kill(store, signal.SIGCONT)
    two = program(APP, config, one.folder).ready()
    one.orphans_end()
    with closing(sqlite3.connect(one.folder / STATE)) as database:
        assert database.execute("SELECT state FROM tasks").fetchone() == (state_of(two, "a")["state"],)
    two.stop()


def test_a_start_right_after_a_kill_of_the_master_waits_for_what_is_left_of_it(program: Start) -> None:
    """Another program has the file locked, so that @store cannot be done at once."""
    config = POOL + task("a")
    one = written(program, config)
    with closing(locked(one)):
        one.client().call("tasks.run", name="a")
        kill(one)
        two = program(APP, config, one.folder)
        one.orphans_end()
    two.ready()
    assert len(runs_of(two, "a")) <= 1
    two.stop()


# -- until the stop ------------------------------------------------------------


def unsaved(one: Program) -> int:
    """A run whose rows could not be written, and that is told."""
    run = int(one.client().call("tasks.run", name="a")["run"])
    ended(one, run)
    one.wait_for("task.unsaved")
    return run


def test_what_could_not_be_stored_is_shown_as_long_as_that_is_so_and_told_at_the_end(program: Start) -> None:
    """In `status`, in `tasks list`, and the last word but one is how much is lost."""
    one = written(program, POOL + task("a"))
    with closing(locked(one)):
        unsaved(one)
        shown = one.status()["tasks"]["a"]["not_stored"]
        assert (shown["changes"] > 0, "keeps it locked" in shown["reason"]) == (True, True)
        for command in (("status",), ("tasks", "list")):
            (line,) = [line for line in one.cli(*command).stdout.splitlines() if "not stored since" in line]
            assert "another program keeps it locked" in line
        one.stop()
    *_, lost, leaving = (
        event for event in one.events if event["event"] in ("task.unsaved", "master.exiting")
    )
    assert (leaving["event"], lost["lost"] > 0) == ("master.exiting", True)
    assert "the state file could not be written, " in lost["message"]


def test_what_can_be_stored_again_by_the_stop_is_stored_in_it(program: Start) -> None:
    """It is tried then, however long ago it failed last."""
    config = POOL + task("a")
    one = written(program, config)
    with closing(locked(one)):
        run = unsaved(one)
    one.stop()
    assert one.find("task.stored")
    two = program(APP, config, one.folder).ready()
    assert [(row["run"], row["outcome"]) for row in runs_of(two, "a")] == [(run, "ok")]
    assert "not_stored" not in state_of(two, "a")
    two.stop()
