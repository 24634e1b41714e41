"""Web servers that people run, as docs/programs.md has them: served by, reloaded, broken, killed, stopped."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from load import Visitor, answer
from program import Program, wait_gone
from psutil import Process
from recipes import cook, ended, need
from reloading import fails, least, pids, swap, works

pytestmark = pytest.mark.long
Start = Callable[..., Program]

SERVERS = ["gunicorn", "uvicorn", "nginx", "node"]
LEAVES = {"uvicorn": (None, "SIGTERM")}  # it ends by the signal that it has obeyed
KEEPS = ("node",)  # as it is written there, it loses no request of a connection that is kept either
BROKEN = {
    "gunicorn": ("shop.py", "def app(", "def app)("),
    "uvicorn": ("shop.py", "import os", "import os, no_such_module"),
    "nginx": ("nginx.conf", "listen ", "lisn "),
    "node": ("server.js", "const server", "const const server"),
}


def ask(address: tuple[str, int]) -> str:
    """What it says to a new client."""
    with socket.create_connection(address, timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        return answer(client)[1]


@contextmanager
def visited(address: tuple[str, int], *, keeps: bool = False) -> Iterator[Visitor]:
    """One request after the other, by a new connection unless it may be kept."""
    visitor = Visitor(address, keeps)
    thread: threading.Thread = visitor.begin()
    try:
        yield visitor
    finally:
        visitor.end()
        thread.join()


def pool_of(one: Program) -> str:
    """The name of its only pool."""
    (name,) = one.status()["pools"]
    return str(name)


@pytest.fixture(params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    need(request.param)
    return str(request.param)


def test_it_serves_while_it_is_reloaded_and_leaves_in_order(
    program: Start, tmp_path: Path, name: str
) -> None:
    """As many as before are ready all the time, then all are new; each leaves as its recipe says."""
    one, address = cook(program, tmp_path, name)
    pool = pool_of(one.ready())
    before = pids(one, pool)
    with visited(address, keeps=name in KEEPS) as visitor:
        works(one)
    assert least(one, pool) == len(before)
    after = pids(one, pool)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert set(visitor.answered) == {f"hello from {name}"}
    if name != "uvicorn":  # as its recipe says
        assert visitor.failed == []
    assert ask(address) == f"hello from {name}\n"
    assert ended(one) == dict.fromkeys(after, LEAVES.get(name, (0, None)))


def test_a_mistake_of_today_leaves_that_of_yesterday_serving(
    program: Start, tmp_path: Path, name: str
) -> None:
    """The reload fails by the exit of the first new one; nobody who served has noticed."""
    one, address = cook(program, tmp_path, name)
    one.tracebacks_expected = True
    before = pids(one.ready(), pool := pool_of(one))
    assert ask(address)  # what it was made of has been read
    file, good, bad = BROKEN[name]
    swap(tmp_path / file, good, bad)
    with visited(address) as visitor:
        assert "exit status 1" in fails(one)
    assert visitor.failed == []
    assert pids(one, pool) == before
    swap(tmp_path / file, bad, good)
    works(one)
    assert ask(address) == f"hello from {name}\n"
    one.stop()


def test_one_that_is_killed_takes_its_children_along_and_is_replaced(
    program: Start, tmp_path: Path, name: str
) -> None:
    """Those that it forked are ended with it; what is asked meanwhile waits in the socket."""
    one, address = cook(program, tmp_path, name)
    pool = pool_of(one.ready())
    assert ask(address)
    pid = one.worker(f"{pool}.0")
    children = Process(pid).children(recursive=True)
    assert children or name not in ("nginx", "gunicorn")
    mark = one.mark()
    os.kill(pid, signal.SIGKILL)
    assert one.wait_for("worker.failed", since=mark, worker=f"{pool}.0")["signal"] == "SIGKILL"
    for child in children:
        wait_gone(child.pid)
    one.wait_for("worker.ready", since=mark, worker=f"{pool}.0")
    assert ask(address) == f"hello from {name}\n"
    one.stop()
