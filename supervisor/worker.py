"""The `Worker` that a target is given: what it may ask and what it may tell.

Everything here is cheap enough for a hot loop and never fails because the
master is slow or gone.  What is told is only noted; the attendant (see
`child.attendant`) sends it on, at most a few times a second.
"""

from __future__ import annotations

import os
import select
import time
from _thread import RLock  # `threading` makes every fork of the master dearer: it is left out until needed
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # a sync worker has no use for it, and it is large
    import asyncio
    import socket

BEATS = 4  # heartbeats sent per watchdog interval, at most
LONGEST_PAUSE = 86_400.0  # seconds; poll(2) takes no more than 24 days at once
LONGEST_TEXT = 1000  # characters of a status that are worth a message


class Link(Protocol):
    """The way to the master."""

    def send(self, **fields: object) -> bool:
        """Try to send one message without blocking; false if it did not get through."""

    def poke(self) -> None:
        """Have what was noted sent soon."""


class Worker:
    """One worker's life, as its own code sees it."""

    def __init__(
        self,
        id: str,
        *,
        generation: int,
        options: Mapping[str, Any],
        link: Link,
        watchdog: float | None = None,
        sockets: Mapping[str, socket.socket] | None = None,
    ) -> None:
        self.id = id  #: ``POOL.SLOT``
        pool, _, slot = id.rpartition(".")
        self.pool, self.slot = pool, int(slot)
        self.generation = generation  #: rises with each reload
        self.options = options  #: the pool's ``options`` table
        self.sockets = sockets or {}  #: name to listening socket
        self.stopping = False  #: take no new work, finish what is in hand
        self.quiet = False  #: take no new work for now
        self.stop_reason: str | None = None  #: ``"stop"`` after TERM, ``"replace"`` after USR2
        self._link = link
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watchdog = watchdog
        self._beat_due = 0.0
        self._job = _Job(self)
        self._lock = RLock()  # a signal handler of the program's may come back in
        self._unready = False  # ``ready`` was called and did not get through
        self._jobs = self._in_flight = 0
        self._text: str | None = None
        self._noted = False  # something waits to be sent, and the attendant knows

    # -- what it may ask -------------------------------------------------------

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep for ``seconds`` (None: without end), or until a stop; true when stopping.

        One poll(2) without wakeups in between; with a watchdog it also beats,
        since a worker that waits is alive.
        """
        end = None if seconds is None else time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        while not self.stopping:
            self.beat()
            left = None if end is None else max(0.0, end - time.monotonic())
            poll.poll(self._pause(left))
            if end is not None and time.monotonic() >= end:
                break
        return self.stopping

    def _pause(self, left: float | None) -> float | None:
        """Milliseconds to wait at once, rounded up so that no wait is cut to zero."""
        times = [t for t in (left, self._watchdog and self._watchdog / 2) if t is not None]
        return min(*times, LONGEST_PAUSE) * 1000 + 1 if times else None

    async def stopped(self) -> None:
        """Return when a stop was asked for; for ``async`` targets."""
        import asyncio  # here: a sync worker has no use for it

        loop = asyncio.get_running_loop()
        while not self.stopping:
            self.beat()
            waiter = asyncio.Event()
            event = os.dup(self._event)  # a loop watches a descriptor once: several may await
            loop.add_reader(event, waiter.set)
            try:
                await _within(waiter, self._watchdog and self._watchdog / 2)
            finally:
                loop.remove_reader(event)
                os.close(event)

    def fileno(self) -> int:
        """A descriptor that is readable once stopping, for select, poll and epoll.  Do not read it."""
        return self._event

    # -- what it may tell ------------------------------------------------------

    def ready(self) -> None:
        """Say that it is up; needed only where the pool has ``ready = "notify"``."""
        if not self._link.send(READY=1):  # no room now: the attendant goes on trying
            self._unready = True
            self._note()

    def beat(self) -> None:
        """Say that it is alive; costs a clock reading, and nothing without a watchdog."""
        if self._watchdog is None:
            return
        now = time.monotonic()
        if now >= self._beat_due and self._link.send(WATCHDOG=1):
            self._beat_due = now + self._watchdog / BEATS

    def status(self, text: str) -> None:
        """Say in one line what it does; shown by ``supervisord-lite status``."""
        said = str(text)[:LONGEST_TEXT]
        with self._lock:
            self._text = said
        self._note()

    def job(self) -> _Job:
        """``with worker.job():`` counts one job, in flight until the block ends."""
        return self._job

    # -- for the attendant -----------------------------------------------------

    def _note(self) -> None:
        if not self._noted:
            self._noted = True
            self._link.poke()

    def _take_news(self) -> dict[str, object]:
        """What was noted since the last time."""
        self._noted = False  # first: what is noted from now on pokes again
        with self._lock:
            jobs, in_flight, text, self._text = self._jobs, self._in_flight, self._text, None
            ready, self._unready = self._unready, False
        news: dict[str, object] = {"READY": 1} if ready else {}
        if jobs or in_flight:
            news |= {"X_JOBS": jobs, "X_IN_FLIGHT": in_flight}
        if text is not None:
            news["STATUS"] = text
        return news

    def _stop(self, reason: str) -> None:
        self.stop_reason, self.stopping = reason, True
        os.eventfd_write(self._event, 1)


class _Job:
    """The one context manager that `Worker.job` hands out; it keeps no state of a job."""

    __slots__ = ("_worker",)

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __enter__(self) -> None:
        worker = self._worker
        with worker._lock:
            worker._in_flight += 1
        if not worker._noted:
            worker._note()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        worker = self._worker
        with worker._lock:
            worker._in_flight -= 1
            worker._jobs += 1
        if not worker._noted:
            worker._note()


async def _within(event: asyncio.Event, seconds: float | None) -> None:
    import asyncio

    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:  # its own class on 3.10
        return
