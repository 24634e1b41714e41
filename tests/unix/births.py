"""A child that is born as a worker, without a master: for tests of what `supervisor.child` makes of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from supervisor.child.birth import Birth
from supervisor.settings import MasterSettings, PoolSettings
from supervisor.unix.process import fork_all
from supervisor.unix.title import Title

SECONDS = 20.0  # only the safety net


class Born(NamedTuple):
    """How a child went: its wait status, what it sent to the master, what it told the log."""

    code: int
    sent: list[str]
    told: list[dict[str, Any]]

    @property
    def said(self) -> Any:
        """The one thing that `say` sent."""
        (one,) = self.sent
        return json.loads(one)


def make(folder: object, *, pool: dict[str, Any] | None = None, **more: Any) -> Birth:
    """One whose master works in ``folder``."""
    master = MasterSettings(
        name="m", socket="/s", state_dir="/d", working_dir=str(folder), pythonpath=(str(folder),)
    )
    settings = PoolSettings(**{"name": "web", "target": "app:run", **(pool or {})})
    wanted: dict[str, Any] = {
        "slot": 3,
        "generation": 7,
        "parent": os.getpid(),
        "notify_path": "/notify",
        "notify_fd": -1,
        "nofile": (256, 512),
        "title": Title(0, 0),
        "foreign": frozenset(),
    }
    return Birth(master=master, pool=settings, **(wanted | more))


def say(birth: Birth, what: Any) -> None:
    """From the child, by the master's socket."""
    os.write(birth.notify_fd, json.dumps(what).encode())


def bear(birth: Birth, run: Callable[[Birth, Callable[..., None]], int]) -> Born:
    """Fork one child that runs ``run(birth, tell)``; what came of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, tempfile.NamedTemporaryFile() as log:
        os.chmod(log.name, 0o666)  # who tells may have become somebody else
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.settimeout(SECONDS)
        there = birth if birth.notify_fd >= 0 else replace(birth, notify_fd=theirs.fileno())

        def tell(event: str, level: str | None = None, **fields: Any) -> None:
            with contextlib.suppress(OSError):  # as a worker's own voice: no failure ends it
                fd = os.open(log.name, os.O_WRONLY | os.O_APPEND)
                os.write(fd, json.dumps({"event": event, **fields}).encode() + b"\n")
                os.close(fd)

        (pid,) = fork_all([lambda: run(there, tell)])
        assert isinstance(pid, int)
        _, status = os.waitpid(pid, 0)
        ours.setblocking(False)
        sent = []
        try:
            while True:
                sent.append(ours.recv(1 << 20).decode())
        except BlockingIOError:
            pass
        told = [json.loads(line) for line in log]
    return Born(os.waitstatus_to_exitcode(status), sent, told)
