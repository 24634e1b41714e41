"""Who holds an address, by the kernel's tables: workers of a killed master, or others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.unix.addresses import parse
from supervisor.unix.leftovers import Leftovers

OURS = Leftovers("shop", {os.geteuid()})
WORKER = {"SUPERVISOR_NAME": "shop", "SUPERVISOR_WORKER": "web.0"}
HOLDS = "import sys; print(flush=True); sys.stdin.read()"


@contextmanager
def holder(listener: socket.socket, environ: dict[str, str]) -> Iterator[int]:
    """A process with this environment that has the listener open, and has begun."""
    command = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(
        command, env=environ, pass_fds=[listener.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.communicate()


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0", "unix:http.sock"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    bind = request.param
    families = {"1": socket.AF_INET, "[": socket.AF_INET6, "u": socket.AF_UNIX}
    with socket.socket(families[bind[0]]) as found:
        where = {"1": ("127.0.0.1", 0), "[": ("::1", 0), "u": str(tmp_path / "http.sock")}[bind[0]]
        found.bind(where)
        found.listen()
        yield found


def bound(listener: socket.socket) -> str:
    """As `bind` has it."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def test_a_worker_of_a_master_that_is_gone_is_named(listener: socket.socket) -> None:
    """By what the contract gives it: of every kind of address."""
    address = parse(bound(listener))
    with holder(listener, WORKER) as pid:
        listener.close()
        assert OURS.at(address) == [f"web.0 (pid {pid})"]
    assert OURS.at(address) == []


@pytest.mark.parametrize(
    "environ",
    [{}, WORKER | {"SUPERVISOR_NAME": "other"}, {"SUPERVISOR_NAME": "shop"}],
    ids=["nobody of ours", "of another master", "no worker"],
)
def test_whoever_else_holds_it_is_a_stranger(listener: socket.socket, environ: dict[str, str]) -> None:
    address = parse(bound(listener))
    with holder(listener, environ):
        listener.close()
        assert OURS.at(address) is None


def test_a_user_of_no_pool_is_a_stranger(listener: socket.socket) -> None:
    """Whatever it calls itself."""
    address = parse(bound(listener))
    with holder(listener, WORKER):
        listener.close()
        assert Leftovers("shop", {os.geteuid() + 1}).at(address) is None


def test_one_listener_in_the_way_that_is_a_strangers_is_enough() -> None:
    """All of the machine is wanted: an old worker on one address, somebody else on another."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    everywhere = parse(f"0.0.0.0:{port}")
    with holder(listener, WORKER) as pid, socket.socket() as other:
        listener.close()
        assert OURS.at(everywhere) == [f"web.0 (pid {pid})"]
        other.bind(("127.77.7.7", port))
        other.listen()
        assert OURS.at(everywhere) is None


def test_nobody_at_all(tmp_path: Path) -> None:
    assert OURS.at(parse("127.66.6.6:9")) == []
    assert OURS.at(parse(f"unix:{tmp_path}/nothing.sock")) == []
