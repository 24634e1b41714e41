"""A forked worker with a Python target: the sockets that it has, and what the master hears of a failure."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from births import Born, bear, make

from supervisor.child import birth as birth_
from supervisor.child import callable as callable_
from supervisor.child.birth import Birth
from supervisor.settings import Hooks

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

NUMBERS = itertools.count()


def lived(folder: Path, source: str, **more: Any) -> Born:
    """A worker whose module has this source, from its first instruction to its end."""
    name = f"module_{os.getpid()}_{next(NUMBERS)}"
    (folder / f"{name}.py").write_text(source)
    pool = {"target": f"{name}:run", **more.pop("pool", {})}

    def run(birth: Birth, tell: Callable[..., None]) -> int:
        sender = socket.socket(fileno=os.dup(birth.notify_fd))
        there = make(folder, pool=pool, notify_fd=sender.fileno(), parent=os.getppid(), **more)
        return callable_.live(there, sender, Hooks(), tell)

    sys.path.insert(0, str(folder))
    try:
        born = bear(make(folder), run)
    finally:
        sys.path.remove(str(folder))
    return born._replace(sent=[line.replace(name, "app") for line in born.sent if line])


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import nope", "cannot load app:run: ModuleNotFoundError: No module named 'nope'"),
        ("\nx = (", "cannot load app:run: SyntaxError: '(' was never closed (app.py, line 2)"),
        ("raise SystemExit('no database')", "cannot load app:run: SystemExit: no database"),
        ("raise ValueError('a\\nb')", "cannot load app:run: ValueError: a"),
        ("raise ValueError", "cannot load app:run: ValueError"),
    ],
)
def test_what_cannot_be_imported_is_one_line_to_the_master(tmp_path: Path, source: str, error: str) -> None:
    """The log has the whole traceback."""
    born = lived(tmp_path, source)
    assert (born.code, born.sent) == (1, [f"X_ERROR={error}"])
    assert "Traceback" in born.told[0]["traceback"]


def test_the_line_to_the_master_is_a_short_one(tmp_path: Path) -> None:
    (line,) = lived(tmp_path, "raise ValueError('x' * 999)").sent
    assert "ValueError: xxx" in line
    assert len(line) < 320


@pytest.mark.parametrize(
    ("source", "error", "code"),
    [
        ("def run(): 1 / 0", "app:run raised: ZeroDivisionError: division by zero", 1),
        ("import sys\ndef run(): sys.exit('no queue')", "no queue", 1),
    ],
)
def test_what_a_target_raises_is_one_line_to_the_master(
    tmp_path: Path, source: str, error: str, code: int
) -> None:
    born = lived(tmp_path, source)
    assert (born.code, born.sent) == (code, ["READY=1", f"X_ERROR={error}"])


def test_a_start_hook_that_fails_is_named_to_the_master(tmp_path: Path) -> None:
    source = (
        "from supervisor import on_worker_start\n@on_worker_start\ndef connect(worker): 1 / 0\ndef run(): ..."
    )
    born = lived(tmp_path, source)
    assert (born.code, born.sent) == (
        1,
        ["X_ERROR=hook app:connect failed: ZeroDivisionError: division by zero"],
    )


def test_sockets_are_there_by_name_and_accept(tmp_path: Path) -> None:
    """Of the right family, blocking, and not inherited by what the target starts."""
    source = """
import os, socket, subprocess
def run(worker):
    assert list(worker.sockets) == ["http", "local"]
    http, local = worker.sockets.values()
    assert (http.fileno(), local.fileno()) == (3, 4) and http.getblocking()
    assert (http.family, local.family) == (socket.AF_INET6, socket.AF_UNIX)
    connection, _ = http.accept()
    inherited = subprocess.run(["ls", "/proc/self/fd"], close_fds=False, capture_output=True).stdout.split()
    connection.sendall(b" ".join(inherited))
"""
    path = tmp_path / "s"
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as http,
        socket.socket(socket.AF_UNIX) as local,
        socket.socket(socket.AF_INET6) as client,
    ):
        local.bind(str(path))
        local.listen()
        client.connect(http.getsockname())
        born = lived(tmp_path, source, listeners=(("http", http.fileno()), ("local", local.fileno())))
        assert (born.code, born.sent) == (0, ["READY=1"]), born
        assert client.recv(1000) == b"0 1 2 3", "3 is the folder that it reads"


def test_too_few_descriptors_are_told_as_what_they_are(tmp_path: Path) -> None:
    born = lived(tmp_path, "def run(): ...", pool={"limits": {"nofile": 5}})
    assert born.code == 1
    assert born.sent, born
    assert born.sent[0].startswith("X_ERROR=cannot start web.3: [Errno 24] Too many open files; its limits")
    assert "{ nofile = 5 }" in born.sent[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            MemoryError(),
            "out of memory; its limits are { as = 1234567890123 }: raise the one that is too low",
        ),
        (OSError(errno.ENOSPC, "no room"), "[Errno 28] no room"),
    ],
)
def test_what_is_refused_very_early_is_told_like_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    """Before it has left the master, where there is neither a thread nor a handler yet."""

    def refused(_: object) -> None:
        raise error

    monkeypatch.setattr(birth_, "be_somebody", refused)
    born = lived(tmp_path, "def run(): ...", pool={"limits": {"as": 1234567890123}})
    assert born.code == 1
    assert [told.partition(" in pools.")[0] for told in born.sent] == [
        f"X_ERROR=cannot start web.3: {expected}"
    ]
