"""Listeners under test, and what the kernel says of their sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from supervisor.settings import SocketSettings
from supervisor.unix.sockets import Listeners


def wanted(**binds: str) -> dict[str, SocketSettings]:
    return {name: SocketSettings(name, bind) for name, bind in binds.items()}


def port(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as copy:
        found: int = copy.getsockname()[1]
        return found


def option(fd: int, level: int, name: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as copy:
        return copy.getsockopt(level, name)


def backlog(fd: int) -> int:
    """What the kernel has: tcpi_sacked of a listening socket, see tcp(7) and `ss -l`."""
    with socket.socket(fileno=os.dup(fd)) as copy:
        info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    found: int = struct.unpack_from("8B6I", info)[8 + 5]
    return found


def answers(address: str | tuple[str, int]) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
        return client.connect_ex(address) == 0


class Bench:
    """Listeners under test, with their warnings."""

    def __init__(self, folder: Path) -> None:
        self.warnings: list[str] = []
        self.listeners = Listeners({}, self.warnings.append)
        self.path = str(folder / "web.sock")
        self.unix = f"unix:{self.path}"

    def have(self, **binds: str) -> dict[str, int]:
        return self.have_settings(wanted(**binds))

    def have_settings(self, settings: dict[str, SocketSettings]) -> dict[str, int]:
        self.listeners.commit(self.listeners.prepare(settings))
        return dict(self.listeners.fds(list(settings)))


@contextlib.contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    """No test leaves a descriptor or the file of a socket."""
    before = set(os.listdir("/proc/self/fd"))
    found = Bench(folder)
    yield found
    found.listeners.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert not os.path.lexists(found.path)
