"""The unfinished lines that the drainer has in hand, where its death does not reach them.

A program that writes a line in pieces (Python does with PYTHONUNBUFFERED) is
often caught between two of them.  So what has no end yet is also noted in a
memory file of the master's, memfd_create(2): each pipe has its slot there.
"""

from __future__ import annotations

import os
import struct

from supervisor.inner.lines import LONGEST, Lines

_LENGTH = struct.Struct("i")
_SKIPPING = -1  # the line was cut already, and its end has not come
_SLOT = _LENGTH.size + LONGEST


class Rests:
    """One slot a pipe; a file that is full of holes costs only what is written."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def note(self, slot: int, lines: Lines) -> None:
        """Keep what ``lines`` holds; before its whole lines are written, so that none appears twice."""
        length = _SKIPPING if lines.skipping else len(lines.rest)
        os.pwrite(self._fd, _LENGTH.pack(length) + lines.rest, slot * _SLOT)

    def recall(self, slot: int) -> Lines:
        """What an earlier drainer had in hand."""
        lines = Lines()
        data = os.pread(self._fd, _SLOT, slot * _SLOT)
        if len(data) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data)
            lines.skipping = length == _SKIPPING
            lines.rest = data[_LENGTH.size :][: max(0, length)]
        return lines
