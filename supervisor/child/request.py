"""What a template is asked and what it answers: one message each, with descriptors.  recvmsg(2)

Knows the wire, whose other side is `unix.templates`; how a worker is forked is
`template`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import dataclass

LONGEST = 4096  # bytes of a request
MOST_FDS = 2


@dataclass(frozen=True)
class Request:
    """One worker to be forked; ``error`` is why it cannot be."""

    number: int
    slot: int
    stdout: int | None = None
    stderr: int | None = None
    error: str | None = None

    def close(self) -> None:
        """Close its descriptors in this process."""
        for fd in (self.stdout, self.stderr):
            if fd is not None:
                os.close(fd)


def receive(channel: socket.socket) -> Request | None:
    """Wait for the next request; None when the master is gone, or wants no more."""
    data, fds, flags, _ = socket.recv_fds(channel, LONGEST, MOST_FDS, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    message = json.loads(data)
    number, slot, names = message["number"], message["slot"], message["fds"]
    if flags & socket.MSG_CTRUNC or len(fds) != len(names):  # the kernel found no room for all of them
        for fd in fds:
            os.close(fd)
        return Request(number, slot, error="cannot take its stdout and stderr: too many open files")
    return Request(number, slot, **dict(zip(names, fds, strict=True)))


def answer(channel: socket.socket, number: int, outcome: int | str) -> bool:
    """Tell the pid, or why there is none; false if the master will never know."""
    key = "pid" if isinstance(outcome, int) else "error"
    with contextlib.suppress(OSError):  # EPIPE: it has closed its end
        channel.send(json.dumps({"number": number, key: outcome}).encode(), socket.MSG_NOSIGNAL)
        return True
    return False
