"""One end of the channel between the master and a process that works for it.  unix(7)

A SOCK_SEQPACKET pair carries JSON objects, each with at most one descriptor.
Never blocks: what finds no room waits in order, and the loop says when there is
some.  Garbage is passed over.  Knows nothing of what is said.
"""

from __future__ import annotations

import array
import errno
import json
import os
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from supervisor.unix.loop import READ, WRITE, Loop

Message = dict[str, Any]

LONGEST = 64 * 1024  # bytes of one message
# The kernel doubles it.  It also bounds how many descriptors are in flight, since each rides on a
# message: of more than RLIMIT_NOFILE of them sendmsg(2) fails with ETOOMANYREFS.
_SEND_BUFFER = 64 * 1024
_MOST_FDS = 4  # one is expected; of more that come, the kernel would close those that find no room
_ANCILLARY = socket.CMSG_SPACE(_MOST_FDS * 4)
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel:
    """Messages to and from the other end; `closed` once that is gone."""

    def __init__(self, loop: Loop, end: socket.socket, kind: str) -> None:
        """Have ``loop`` watch ``end`` as ``kind``; from now on it is ours to close."""
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.closed = False
        self._loop, self._end, self._kind = loop, end, kind
        self._queue: deque[tuple[bytes, int | None]] = deque()
        self._events = READ
        loop.watch(end.fileno(), kind)

    def send(self, message: Message, fd: int | None = None) -> None:
        """Send now or when there is room; ``fd`` stays the caller's and must be open until then."""
        if self.closed:
            return
        self._queue.append((json.dumps(message, separators=(",", ":")).encode(), fd))
        if len(self._queue) == 1:
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        while self._queue and not self.closed and self._sent(*self._queue[0]):
            self._queue.popleft()
        self._watch()

    def _sent(self, data: bytes, fd: int | None) -> bool:
        rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        try:
            self._end.sendmsg([data], rights, socket.MSG_NOSIGNAL)
        except OSError as error:
            self.closed = error.errno not in _FULL
            return False
        return True

    def _watch(self) -> None:
        events = READ | WRITE if self._queue else READ
        if events != self._events and not self.closed:
            self._loop.change(self._end.fileno(), events)
            self._events = events

    def receive(self, most: int = 256) -> Iterator[tuple[Message, int | None]]:
        """What has come, at most so many; a descriptor is the caller's to close."""
        for _ in range(most):
            try:
                data, ancillary, _, _ = self._end.recvmsg(LONGEST, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it left without reading all of ours; what it said before can still be read
            except OSError:
                data, ancillary = b"", []
            fds = _fds(ancillary)
            if not data:
                self.closed = True
                return
            message = _read(data)
            for fd in fds[1:] if message is not None else fds:
                os.close(fd)
            if message is not None:
                yield message, fds[0] if fds else None

    def finish(self, seconds: float) -> None:
        """Wait for room, at most ``seconds``, until all is sent."""
        if self.closed:
            return
        poll = select.poll()
        poll.register(self._end, select.POLLOUT)
        deadline = time.monotonic() + seconds
        self.flush()
        while self._queue and not self.closed and (left := deadline - time.monotonic()) > 0:
            poll.poll(left * 1000)
            self.flush()

    def close(self) -> None:
        """Close this end; the other one reads all that was sent, then the end."""
        self._loop.forget(self._end.fileno())
        self._end.close()
        self._queue.clear()
        self.closed = True


def _fds(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return list(found)


def _read(data: bytes) -> Message | None:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
