"""Wait for readable files, signals and a deadline: one epoll, one place that blocks.

Knows epoll(7) and the signal wakeup fd; knows nothing of workers or requests.
A handler only notes the number of its signal, and the byte that Python's C
handler writes to the wakeup socket ends the wait.  The bytes themselves say
little: the socket may be full (100,000 signals at once), the notes never are.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterable
from types import FrameType
from typing import NamedTuple

from supervisor.unix.signals import handle

LONGEST = 20 * 86_400.0  # seconds of one wait: epoll_wait(2) counts milliseconds in an int, 24.8 days
READ = select.EPOLLIN
WRITE = select.EPOLLOUT


class Seen(NamedTuple):
    """One thing that happened: ``kind`` and ``key`` as given to `watch`, or a signal.

    For a signal, ``kind`` is ``"signal"`` and ``key`` its number.
    """

    kind: str
    key: int
    fd: int
    events: int


class Loop:
    """The only place where the master waits."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[str, int]] = {}
        self._noted: list[int] = []
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self.watch(self._woken.fileno(), "wakeup")

    def listen(self, signals: Iterable[int]) -> None:
        """From now on `poll` reports these signals, each at most once a turn."""
        # warn_on_full_buffer would write to stderr from inside the C handler.
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        handle(signals, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if number not in self._noted:  # kinds are never lost, floods never grow
            self._noted.append(number)

    def watch(self, fd: int, kind: str, key: int = 0, events: int = READ) -> None:
        """Report ``fd`` as ``(kind, key)`` while any of ``events`` holds (level-triggered)."""
        self._epoll.register(fd, events)
        self._watched[fd] = (kind, key)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events on a watched ``fd``; 0 for errors and hang-up only."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``; it must still be open.  It is not closed."""
        if self._watched.pop(fd, None) is not None:
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(fd)

    @staticmethod
    def now() -> float:
        """Seconds on the monotonic clock: the only clock that deadlines know."""
        return time.monotonic()

    def poll(self, deadline: float | None) -> list[Seen]:
        """Block until something happens or ``deadline`` (monotonic seconds) has passed.

        Signals come first; then what epoll reports, in its order.
        """
        timeout = -1.0 if deadline is None else min(LONGEST, max(0.0, deadline - self.now()))
        # maxevents bounds the turn: what is left is reported by the next one.
        # A signal after the deadline (CONT to a stopped process) makes Python return without having
        # looked (PEP 475), so look again: what has come must be heard before a deadline is judged.
        ready = self._epoll.poll(timeout, 256) or self._epoll.poll(0, 256)
        seen, order = [], b""
        for fd, events in ready:
            kind, key = self._watched.get(fd, ("forgotten", 0))
            if kind == "wakeup":
                order = self._drain()
            elif kind != "forgotten":
                seen.append(Seen(kind, key, fd, events))
        # Taken after the drain: a signal that comes between the two has left its byte behind.
        noted, self._noted = self._noted, []
        return [Seen("signal", number, -1, 0) for number in _the_last(noted, order)] + seen

    def _drain(self) -> bytes:
        data = bytearray()
        with contextlib.suppress(BlockingIOError):
            while chunk := self._woken.recv(4096):
                data += chunk
        return bytes(data)

    def close(self) -> None:
        """Close the loop's descriptors; signals keep their handlers."""
        signal.set_wakeup_fd(-1)
        self._epoll.close()
        self._woken.close()
        self._wake.close()


def _the_last(noted: list[int], order: bytes) -> list[int]:
    """Of TSTP and CONT the last one counts, but Python calls the handlers by number, CONT first.

    The bytes of these two are in the order of delivery, as each takes the other away while that is
    pending (signal(7)).  Those of others are not: what is delivered at once is handled backwards.
    So a byte counts also without a note: one that came after the drain was noted in the turn before,
    together with an earlier signal of its kind.
    """
    pair = (int(signal.SIGTSTP), int(signal.SIGCONT))
    told = [number for number in pair if number in order]
    if told:
        return [n for n in noted if n not in pair] + [max(told, key=order.rfind)]
    return [n for n in noted if n != pair[0] or pair[1] not in noted]


def close_inherited(keep: Iterable[int]) -> None:
    """Close every descriptor from 3 on that is not in ``keep``.

    close_range(2) does each gap in one call, so a high RLIMIT_NOFILE costs nothing.
    """
    low = 3
    for fd in sorted(keep):
        if fd >= low:
            os.closerange(low, fd)
            low = fd + 1
    os.closerange(low, 2**31 - 1)
