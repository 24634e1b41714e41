"""A worker's way to its master: one inherited datagram socket.  unix(7)

A full queue or a master that is gone is an answer, not an error; only the last words wait.
Knows the wire and nothing of what is told.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

from supervisor.unix.notify import form, send_within

LAST_SECONDS = 1.0  # longer than a busy master takes; one that is stopped must not keep a worker


class MasterLink:
    """Sends to the master; pokes the attendant of this process."""

    def __init__(self, sender: socket.socket, wake_fd: int) -> None:
        self._sender, self._wake_fd = sender, wake_fd

    def send(self, **fields: object) -> bool:
        """Try once; true unless the queue is full.

        A master that is gone (ECONNREFUSED) will not hear it ever: that counts as sent.
        """
        try:
            self._sender.send(form(**fields), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def send_last(self, fields: Mapping[str, object], seconds: float = LAST_SECONDS) -> None:
        """Wait a moment for room: a stop has all workers tell at once, and nobody will ask again."""
        with contextlib.suppress(OSError):  # it is gone
            send_within(seconds, self._sender, form(**fields))

    def poke(self) -> None:
        """Wake the attendant."""
        with contextlib.suppress(OSError):
            os.write(self._wake_fd, b"\0")
