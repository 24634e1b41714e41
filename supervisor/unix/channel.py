"""One end of the channel between the master and a process that works for it.  unix(7)

A SOCK_SEQPACKET pair carries JSON objects, some with descriptors.  Never blocks:
what finds no room waits in order, and the loop says when there is some.  Garbage
is passed over.  Knows nothing of what is said.
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
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from supervisor.unix.descriptors import MOST_SENT, close_received, received
from supervisor.unix.loop import READ, WRITE, Loop

Message = dict[str, Any]

LONGEST = 256 * 1024  # bytes of one message; more than a socket takes (wmem_default, about 200 KiB)
# Messages, and bytes, that are read at once: a flood cannot hold the loop.  Both are more than a socket
# holds (wmem_max, 208 KiB), so what is there at the begin is read.
MOST, MOST_BYTES = 1024, 1024 * 1024
# The kernel doubles it.  It also bounds how many descriptors are in flight, since each rides on a
# message: of more than RLIMIT_NOFILE of them sendmsg(2) fails with ETOOMANYREFS.
_SEND_BUFFER = 64 * 1024
_ANCILLARY = socket.CMSG_SPACE(MOST_SENT * 4)
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})


class _Waiting(NamedTuple):
    """A message that has not been sent."""

    data: bytes
    fds: Sequence[int]
    ours: bool  # they are ours to close

    def done(self) -> None:
        """It was sent, or it never will be."""
        if self.ours:
            close_all(self.fds)


class Channel:
    """Messages to and from the other end; `closed` once that is gone."""

    def __init__(self, loop: Loop, end: socket.socket, kind: str) -> None:
        """Have ``loop`` watch ``end`` as ``kind``; from now on it is ours to close."""
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.closed = False
        self._loop, self._end = loop, end
        self._theirs: int | None = None  # the child's end, until it has been forked
        self._queue: deque[_Waiting] = deque()
        self._events = READ
        loop.watch(end.fileno(), kind)

    @classmethod
    def to_child(cls, loop: Loop, kind: str) -> tuple[Channel, int]:
        """A new channel, and the descriptor that the child is to have: call `sealed` after the fork."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = cls(loop, ours, kind)
        channel._theirs = theirs.detach()
        return channel, channel._theirs

    def sealed(self) -> None:
        """The child has its end: with a copy of it here, its death would not be the end of file."""
        if self._theirs is not None:
            os.close(self._theirs)
            self._theirs = None

    @property
    def waiting(self) -> int:
        """So many messages have found no room yet."""
        return len(self._queue)

    def send(self, message: Message, fds: Sequence[int] = (), *, ours: bool = False) -> None:
        """Send now or when there is room.

        Until then ``fds`` must be open: they stay the caller's, or, if they are ``ours`` from now
        on, they are closed then.
        """
        waiting = _Waiting(json.dumps(message, separators=(",", ":")).encode(), fds, ours)
        if self.closed:
            waiting.done()
            return
        self._queue.append(waiting)
        if len(self._queue) == 1:
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        while self._queue and not self.closed and self._sent(self._queue[0]):
            self._queue.popleft().done()
        self._watch()

    def _sent(self, waiting: _Waiting) -> bool:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", waiting.fds))]
        try:
            self._end.sendmsg([waiting.data], rights if waiting.fds else [], socket.MSG_NOSIGNAL)
        except OSError as error:
            self.closed = error.errno not in _FULL
            return False
        return True

    def _watch(self) -> None:
        events = READ | WRITE if self._queue else READ
        if events != self._events and not self.closed:
            self._loop.change(self._end.fileno(), events)
            self._events = events

    def messages(self) -> list[Message]:
        """What has come from somebody who has no descriptors to give: they are closed."""
        messages = []
        for message, fd in self.receive():
            messages.append(message)
            close_received(() if fd is None else (fd,))
        return messages

    def last(self) -> list[Message]:
        """All that came until now.

        From here on the other side's send(2) fails: what it could send, we have read.
        """
        self._end.shutdown(socket.SHUT_RD)
        return self.messages()

    def receive(self) -> Iterator[tuple[Message, int | None]]:
        """What has come, at most `MOST` and `MOST_BYTES`; a descriptor is the caller's to close."""
        left = MOST_BYTES
        for _ in range(MOST):
            if left <= 0:
                return
            try:
                data, ancillary, _, _ = self._end.recvmsg(LONGEST, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it left without reading all of ours; what it said before can still be read
            except OSError:
                data, ancillary = b"", []
            fds = received(ancillary)
            if not data:
                self.closed = True
                self._loop.forget(self._end.fileno())  # end of file is readable without end
                return
            left -= len(data)
            message = _read(data)
            close_received(fds[1:] if message is not None else fds)
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
        self.sealed()
        while self._queue:
            self._queue.popleft().done()
        self.closed = True


def close_all(fds: Iterable[int]) -> None:
    """Close each of these descriptors."""
    for fd in fds:
        os.close(fd)


def _read(data: bytes) -> Message | None:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
