"""Questions to a process of our own and its answers: a pair of SOCK_SEQPACKET sockets.  unix(7)

Unlike `channel`, it tells the asker at once when there is no room, and its end is
exact: each side knows of every message whether the other one has it.  Our end
never blocks.  Knows the bytes (JSON) and the descriptors that go along; what is
said is the callers' matter.
"""

from __future__ import annotations

import array
import json
import socket
from collections.abc import Iterable
from typing import Any

from supervisor.unix.loop import READ, WRITE, Loop

LONGEST = 256 * 1024  # bytes of a message; more than a socket takes (wmem_default, about 200 KiB)
MOST = 1024  # messages read at once: a flood cannot hold the loop


class Dialogue:
    """Both ends, until the child has its own: after the fork comes `sealed`."""

    def __init__(self, loop: Loop, kind: str) -> None:
        self._loop = loop
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._ended = False  # end of file was read
        loop.watch(self._ours.fileno(), kind)

    @property
    def theirs(self) -> int:
        """The descriptor of the end that the child is to have."""
        return self._theirs.fileno()

    def sealed(self) -> None:
        """The child has its end: with a copy of it here, its death would not be the end of file."""
        self._theirs.close()

    def send(self, message: object, fds: Iterable[int] = ()) -> bool:
        """False when there is no room now.  What nobody will ever hear counts as sent."""
        rights = array.array("i", fds)
        along = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        try:
            self._ours.sendmsg([json.dumps(message).encode()], along, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            return True
        return True

    def want_room(self, wanted: bool) -> None:
        """Report also when there is room again."""
        if not self._ended:
            self._loop.change(self._ours.fileno(), READ | WRITE if wanted else READ)

    def received(self) -> list[Any]:
        """The messages that are there; what is no JSON is passed over."""
        messages: list[Any] = []
        for _ in range(MOST):
            try:
                data = self._ours.recv(LONGEST)
            except ConnectionResetError:  # it left without having read all: what it said comes after
                continue
            except OSError:
                break
            if not data:
                self._end()
                break
            messages += _parsed(data)
        return messages

    def close(self) -> list[Any]:
        """End it; the messages that had come through until then.

        From the shutdown on, the other side's send(2) fails: what it could send, we read here.
        """
        self._ours.shutdown(socket.SHUT_RD)
        messages = self.received()
        self._end()
        self._ours.close()
        self._theirs.close()
        return messages

    def _end(self) -> None:
        """End of file is readable without end: look no more."""
        self._ended = True
        self._loop.forget(self._ours.fileno())


def _parsed(data: bytes) -> list[Any]:
    try:
        return [json.loads(data)]
    except (ValueError, RecursionError):  # the latter for deep nesting
        return []
