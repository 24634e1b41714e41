"""A worker's way to its master: one inherited datagram socket.  unix(7)

Never blocks: a full queue or a master that is gone is an answer, not an error.
Knows the wire and nothing of what is told.
"""

from __future__ import annotations

import contextlib
import os
import socket

from supervisor.unix.notify import form


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

    def poke(self) -> None:
        """Wake the attendant."""
        with contextlib.suppress(OSError):
            os.write(self._wake_fd, b"\0")
