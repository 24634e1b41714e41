"""What the service manager is told of a reload: the datagrams, in their order.  sd_notify(3)"""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from program import Program
from reloading import STABLE, code, configure, fails, hup, works

Start = Callable[..., Program]
Message = dict[str, str]

WAITS = """
    def run(worker):
        worker.wait()
"""
CONFIG = f"""
    [pools.a]
    target = "app:run"
    workers = 2
    {STABLE}
"""


class Manager:
    """A service manager that only listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(20)
        self.heard: list[Message] = []

    def until(self, **wanted: str) -> Message:
        """Take in messages, up to the one that has these assignments."""
        while True:
            lines = self.socket.recv(65536).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            self.heard.append(message)
            if wanted.items() <= message.items():
                return message

    def marks(self) -> list[str]:
        """What changed the unit's state."""
        marks = ("READY", "RELOADING", "STOPPING")
        return [name for message in self.heard for name in message if name in marks]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path / "manager")
    yield found
    found.socket.close()


def start(program: Start, manager: Manager) -> Program:
    one = program(WAITS, CONFIG, env={"NOTIFY_SOCKET": str(manager.path)}).ready()
    manager.until(READY="1")
    return one


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_reload_that_works_is_told_at_both_ends(program: Start, manager: Manager) -> None:
    """RELOADING=1 and its MONOTONIC_USEC in one datagram, READY=1 when all is new."""
    one = start(program, manager)
    before = now()
    works(one)
    told = manager.until(RELOADING="1")
    assert before <= int(told["MONOTONIC_USEC"]) <= now()
    assert "READY" not in told
    manager.until(READY="1")
    one.stop()
    manager.until(STOPPING="1")
    assert manager.marks() == ["READY", "RELOADING", "READY", "STOPPING"]


@pytest.mark.parametrize("broken", ["code", "configuration"])
def test_a_reload_that_fails_is_told_at_both_ends_too(program: Start, manager: Manager, broken: str) -> None:
    """The service is as ready as before; the status tells that the reload failed."""
    one = start(program, manager)
    one.tracebacks_expected = True
    if broken == "code":
        code(one, "raise RuntimeError('first line\\nSTOPPING=1')\n")
    else:
        configure(one, ("workers = 2", "wokers = 2"))
    fails(one)
    manager.until(RELOADING="1")
    manager.until(READY="1")
    one.stop()
    manager.until(STOPPING="1")
    assert manager.marks() == ["READY", "RELOADING", "READY", "STOPPING"]


def test_reloads_that_merge_are_told_one_after_the_other(program: Start, manager: Manager) -> None:
    one = start(program, manager)
    for _ in range(100):
        one.signal(signal.SIGHUP)
    one.wait_for("reload.done")
    one.wait_until(lambda: one.status()["state"] == "running")
    one.stop()
    manager.until(STOPPING="1")
    marks = manager.marks()
    pairs = (len(marks) - 2) // 2
    assert 1 <= pairs <= 3
    assert marks == ["READY", *["RELOADING", "READY"] * pairs, "STOPPING"]


def test_a_stop_during_a_reload_is_told_once_and_ready_is_not(program: Start, manager: Manager) -> None:
    one = start(program, manager)
    mark = hup(one)
    one.wait_for("reload.started", since=mark)
    one.stop()
    manager.until(STOPPING="1")
    assert manager.marks() == ["READY", "RELOADING", "STOPPING"]
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.until(READY="1")


def test_hup_is_heard_as_soon_as_ready_is_told(program: Start, manager: Manager) -> None:
    """A `systemctl reload` right after the start must not end the master by the signal's default."""
    one = program(WAITS, CONFIG, env={"NOTIFY_SOCKET": str(manager.path)})
    manager.until(READY="1")
    found = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{one.process.pid}/status").read_text())
    assert found
    assert int(found[1], 16) >> (signal.SIGHUP - 1) & 1
    one.ready().stop()


def test_a_reload_before_ready_is_not_told(program: Start, manager: Manager, tmp_path: Path) -> None:
    """A unit that is activating has no reload: the first that is told is READY=1."""
    os.mkfifo(tmp_path / "gate")
    app = """
        def run(worker):
            print("AT THE GATE", flush=True)
            open("gate").close()
            worker.ready()
            worker.wait()
    """
    one = program(app, f'{CONFIG}    ready = "notify"\n', env={"NOTIFY_SOCKET": str(manager.path)})
    one.wait_until(lambda: one.noise.count("AT THE GATE") == 2)  # both have imported the old code
    code(one, WAITS.replace("worker.wait", "worker.ready(); worker.wait"))
    mark = hup(one)
    one.wait_for("reload.started", since=mark)
    with open(tmp_path / "gate", "w"):  # they are both there, and read until this is closed
        one.ready()
    one.wait_for("reload.done")
    one.stop()
    manager.until(STOPPING="1")
    assert manager.marks()[0] == "READY"


def test_a_manager_that_has_gone_disturbs_nothing(program: Start, manager: Manager) -> None:
    """It had its READY=1; a reload after that has nobody to tell, and says no word of it."""
    one = start(program, manager)
    manager.socket.close()
    works(one)
    one.stop()
    assert not [e for e in one.events if e["level"] in ("warning", "error")], one.log()
