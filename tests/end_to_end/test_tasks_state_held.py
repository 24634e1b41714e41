"""The state file has one writer, also where a master was killed and the next one starts at once."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing

from program import Program
from tasked import APP, POOL, runs_of, state_of, task

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
