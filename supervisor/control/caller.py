"""One connection as the master sees it: lines that came in, bytes that are to go out.

Knows one non-blocking socket and its two buffers; `server` decides when to
read, what to answer and how long to wait.
"""

from __future__ import annotations

import contextlib
import socket

from supervisor.control.protocol import LINE_LIMIT, Reply
from supervisor.unix.loop import READ

IDLE = 5.0  # seconds for a complete request to come, and for its reply to be taken


class Caller:
    """One connection: what came and is not answered, what is to go out, what it is owed."""

    def __init__(self, key: int, connection: socket.socket, now: float, uid: int) -> None:
        self.key, self.uid = key, uid
        self.connection = connection
        self.received = bytearray()
        self.pending = bytearray()
        self.deadline: float | None = now + IDLE
        self.ended = False  # nothing more will come from it
        self.reply: Reply | None = None  # to its last line, while a part of it is not known yet
        self.leaving = False  # to be closed once `pending` is gone
        self.follows = self.streaming = False  # it asked for the events; it has its reply to that
        self.interest = READ

    def next_line(self) -> bytes | None:
        """Take one complete line; at the end of input what is left counts as one."""
        end = self.received.find(b"\n")
        if end < 0 and not (self.ended and self.received):
            return None
        line = bytes(self.received if end < 0 else self.received[:end])
        del self.received[: len(line) + 1]
        return line

    def receive(self) -> None:
        """Read once.  Plain recv(2): descriptors that come along are discarded by the kernel."""
        try:
            data = self.connection.recv(LINE_LIMIT)
        except BlockingIOError:
            return
        except OSError:  # ECONNRESET: it left without reading; what it asked for still counts
            data = b""
        self.received += data
        self.ended = not data

    def flush(self) -> None:
        """Send what the kernel takes now."""
        with contextlib.suppress(BlockingIOError):
            while self.pending:
                del self.pending[: self.connection.send(self.pending)]
