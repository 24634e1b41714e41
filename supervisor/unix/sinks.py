"""Where a worker's stdout and stderr go that it does not simply have from the master.

Knows what the master's own descriptors are; the pipes are made in `drains`, and
what comes through them is written by a process of its own, see `inner.sinks`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Literal

from supervisor.settings import Output
from supervisor.streams import Kept, is_kept

STDOUT, STDERR = 1, 2


@dataclass(frozen=True)
class Terminal:
    """The terminal at the master's own descriptor ``fd``, shared by all: lines get a prefix.

    Or the file there, for workers who must not have it themselves: their lines are passed on as they are.
    """

    fd: int


@dataclass(frozen=True)
class Told:
    """The master itself, which makes events of the lines: of what has no file of its own."""


Sink = Output | Terminal | Told


def kept_from(fd: int) -> Kept:
    """From whom the master's descriptor ``fd`` (1 or 2) is kept, though they inherit it: they get a pipe.

    A terminal from all: each line gets a name.  A file from other users: who has it open for writing
    can empty it (ftruncate(2), also with O_APPEND), and with `start --daemon` it is the log.
    """
    if os.isatty(fd):
        return "all"
    return "others" if stat.S_ISREG(os.fstat(fd).st_mode) else ""


def sink_of(
    setting: Literal["inherit", "null"] | Output, fd: int, *, other_user: bool = False
) -> Sink | None:
    """Where a worker's descriptor ``fd`` (1 or 2) is drained to; None where it needs no drainer."""
    if isinstance(setting, Output):
        return setting
    if setting == "null" or not is_kept(kept_from(fd), other_user=other_user):
        return None
    return Terminal(STDOUT if _is_same(fd, STDOUT) else fd)


def _is_same(fd: int, other: int) -> bool:
    """Then stdout and stderr share one pipe, so their lines stay in order."""
    one, two = os.fstat(fd), os.fstat(other)
    if os.isatty(fd):
        return os.isatty(other) and one.st_rdev == two.st_rdev
    return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)
