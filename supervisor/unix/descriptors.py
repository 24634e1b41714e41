"""Which descriptor stands at which number in a new process.  dup(2), fcntl(2), sd_listen_fds(3)

What gets sockets by LISTEN_FDS expects them at 3, 4, ... without a gap.  Knows
numbers only; what they are for is the caller's.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Sequence

FIRST = 3  # SD_LISTEN_FDS_START
MOST_SENT = 253  # with one message: SCM_MAX_FD.  For which there is no room, the kernel closes
_NO_LINGER = struct.pack("ii", 0, 0)


def line_up(fds: Sequence[int], others: Iterable[int], *, inheritable: bool) -> dict[int, int]:
    """Have ``fds`` at 3, 4, ..., and ``others`` anywhere behind; where each of all these is now.

    Whatever lies in the way changes places with what belongs there, so in no
    order of numbers one is overwritten that is still needed: dup2(2) closes
    without a word.  One more descriptor is used at a time: the limit may be low.
    """
    now = {fd: fd for fd in (*others, *fds)}
    for place, fd in enumerate(fds, FIRST):
        if now[fd] != place:
            _put(fd, place, now)
        os.set_inheritable(place, inheritable)
    return now


def _put(fd: int, place: int, now: dict[int, int]) -> None:
    before = now[fd]
    in_the_way = next((other for other, at in now.items() if at == place), None)
    spare = None if in_the_way is None else fcntl.fcntl(place, fcntl.F_DUPFD_CLOEXEC, place)
    os.dup2(before, place)
    now[fd] = place
    if in_the_way is None or spare is None:
        os.close(before)
    else:
        os.dup2(spare, before, inheritable=False)
        os.close(spare)
        now[in_the_way] = before


def silence(number: int) -> None:
    """Have /dev/null as 1 or 2."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, number)
    os.close(null)


def received(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came along with a message; ``ancillary`` as from ``recvmsg``."""
    found = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return list(found)


def close_received(fds: Iterable[int]) -> None:
    """Close descriptors that another process has sent, and wait for nothing that it has set.

    With SO_LINGER the close(2) of a connection's last copy waits for the peer, also where the
    socket does not block: as long as the sender likes.  socket(7)
    """
    for fd in fds:
        with contextlib.suppress(OSError):  # ENOTSOCK, as a rule
            borrowed = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
            try:
                borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            finally:
                borrowed.detach()
        os.close(fd)
