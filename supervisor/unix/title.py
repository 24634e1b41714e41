"""The title that ``ps`` and ``top`` show.  proc(5), prctl(2)

The kernel reads a process's arguments from its own memory, so they can be
written over; their place is in /proc/self/stat.  A title that does not fit is
cut.  Where the place is not told, only the short name of ``top`` changes.
"""

from __future__ import annotations

import ctypes

from supervisor.unix.prctl import set_name

ARG_START, ARG_END = 45, 46  # fields of /proc/self/stat, from the state on
LONGEST_NAME = 15
MASTER = "master ("  # in place of a worker's name, none of which has a space


class Title:
    """The memory that held the arguments at the start; forked children have it at the same place."""

    def __init__(self, start: int, length: int) -> None:
        self._length = length
        self._memory = (ctypes.c_char * length).from_address(start) if length else None

    def set(self, text: str, name: str) -> None:
        """Show ``text`` in ``ps``, ``name`` in ``top``."""
        set_name(name.encode("utf-8", "replace")[:LONGEST_NAME])
        if self._memory is not None:
            # The last byte is no NUL: then the kernel takes the memory for one text that a NUL ends.
            data = text.encode("utf-8", "replace")[: self._length - 2]
            self._memory.raw = data.ljust(self._length - 1, b"\0") + b"."


def of_worker(name: str, worker: str) -> str:
    """``shop: web.0``: of the master ``name``."""
    return f"{name}: {worker}"


def of_master(name: str, file: str) -> str:
    """By it a master is told from others of the same name."""
    return of_worker(name, f"{MASTER}{file})")


def find() -> Title:
    """Where the arguments of this process are."""
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        start, end = int(fields[ARG_START]), int(fields[ARG_END])
    except (OSError, IndexError, ValueError):
        return Title(0, 0)
    return Title(start, max(0, end - start))
