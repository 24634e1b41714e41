"""Workers of a master that was killed, as long as they still hold an address.  proc(5)

The kernel's tables tell the listeners of an address, /proc tells who has them
open.  A worker is known by its user and by what the contract gives it: the
master's name in its title, or in the environment of its program.  Where its
master has the listener open as well, that one lives, and nothing is left over.
They are only looked at: to wait for them, or not, is decided elsewhere.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from supervisor.unix.addresses import Address
from supervisor.unix.title import MASTER, of_worker

_LISTENS_TCP = "0A"  # TCP_LISTEN, net/tcp_states.h
_LISTENS_UNIX = 0x10000  # __SO_ACCEPTCON, linux/net.h


@dataclass(frozen=True)
class Leftovers:
    """Of the masters that had this ``name``, with workers of these users."""

    name: str
    uids: Collection[int]

    def at(self, address: Address) -> list[str] | None:
        """Who of them holds ``address``, in words; None where it is somebody else, wholly or in part.

        Nobody at all: it has just become free, or whoever is bound there does not listen.
        """
        inodes = _listeners(address)
        holders, living, known = self._holders(inodes)
        strangers = inodes - known
        if living or (strangers and strangers & _listeners(address)):  # who has gone meanwhile is none
            return None
        return holders

    def _holders(self, inodes: set[int]) -> tuple[list[str], bool, set[int]]:
        """Workers in words, whether a master is among those who hold it, and what all of them hold."""
        workers, living, known = [], False, set[int]()
        for pid in _processes() if inodes else ():
            if (title := self._worker(pid)) and (held := inodes & _sockets(pid)):
                known |= held
                living = living or title.startswith(MASTER)
                workers.append(f"{title} (pid {pid})")
        return workers, living, known

    def _worker(self, pid: int) -> str:
        """``POOL.SLOT``, ``master (FILE)``, or nothing for a process that has nothing to do with us."""
        try:
            if os.stat(f"/proc/{pid}").st_uid not in self.uids:
                return ""
            title, opening = _read(pid, "cmdline").partition("\0")[0], of_worker(self.name, "")
            if title.startswith(opening):
                return title.removeprefix(opening)
            pairs = (text.partition("=") for text in _read(pid, "environ").split("\0"))
        except OSError:  # it is gone, or may not be looked at
            return ""
        variables = {name: value for name, _, value in pairs}
        ours = variables.get("SUPERVISOR_NAME") == self.name
        return variables.get("SUPERVISOR_WORKER", "") if ours else ""


def _processes() -> Iterable[int]:
    own = os.getpid()
    try:
        return [pid for name in os.listdir("/proc") if name.isdigit() and (pid := int(name)) != own]
    except OSError:  # no /proc
        return []


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
        return file.read()


def _sockets(pid: int) -> set[int]:
    """The inodes of the sockets that a process has open."""
    found = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            kind, _, number = os.readlink(f"/proc/{pid}/fd/{fd}").partition(":[")
            if kind == "socket":
                found.add(int(number.rstrip("]")))
    except OSError:
        return found
    return found


def _listeners(address: Address) -> set[int]:
    """The inodes of the sockets that listen where ``address`` is, or in its way."""
    there = _unix_listeners() if address.kind == "unix" else _tcp_listeners(address.kind == "tcp6")
    where = Address(address.kind, address.where.partition("%")[0], address.port)
    plain = address if address.kind == "unix" else where  # the kernel's table has no scopes
    try:
        return {inode for other, inode in there if other == plain or other.clashes(plain)}
    except OSError:  # no /proc, or no such protocol
        return set()


def _tcp_listeners(six: bool) -> Iterator[tuple[Address, int]]:
    with open("/proc/net/tcp6" if six else "/proc/net/tcp", encoding="ascii") as table:
        next(table)
        for line in table:
            fields = line.split()
            if fields[3] != _LISTENS_TCP:  # the listeners stand first: tcp_seek_last_pos() in the kernel
                return
            host, _, port = fields[1].partition(":")
            yield Address("tcp6" if six else "tcp4", _host(host), int(port, 16)), int(fields[9])


def _host(digits: str) -> str:
    """An address as the table has it: 32 bits at a time, in this machine's order of bytes."""
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _unix_listeners() -> Iterator[tuple[Address, int]]:
    """Also those whose file is gone or replaced: the table keeps the path."""
    with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as table:
        next(table)
        for line in table:
            fields = line.rstrip("\n").split(maxsplit=7)
            if len(fields) > 7 and int(fields[3], 16) & _LISTENS_UNIX:  # noqa: PLR2004  # it has a path
                yield Address("unix", fields[7]), int(fields[6])
