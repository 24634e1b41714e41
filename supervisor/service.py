"""What the service manager (systemd) is told, and when.  sd_notify(3)

Reads the decision core's picture and the events; sends READY, RELOADING, STOPPING, STATUS,
WATCHDOG and EXTEND_TIMEOUT_USEC.  Silent where nobody listens, and then it
costs no wakeup.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from supervisor.decide.life import Life
from supervisor.status import summary

BEYOND = 15.0  # seconds after the stop's deadline that SIGKILL, helpers and on_exit may take
AGAIN = 5.0  # between two extensions of the service manager's own timeout


class Service:
    """``send`` takes sd_notify assignments; ``beat`` is the watchdog's interval in seconds, if one is set."""

    def __init__(
        self,
        life: Life,
        send: Callable[..., None],
        beat: float | None,
        now: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._life, self._send, self._beat, self._clock = life, send, beat, clock
        self._beat_at = None if beat is None else now
        self._extend_at: float | None = None
        self._ready = self._stopping = False
        self._summary = ""

    def hear(self, event: str, fields: Mapping[str, Any]) -> None:
        """An event that the service manager may care for."""
        if event == "master.ready":
            self._send(READY=1)
            self._ready = True
        elif event == "reload.started" and self._ready:
            # In one datagram: systemd takes the READY=1 that has a later time for the end of it.
            self._send(RELOADING=1, MONOTONIC_USEC=int(self._clock() * 1e6))
        elif event in ("reload.done", "reload.failed") and self._ready and self._life.stop is None:
            self._send(READY=1)
        elif event == "start.waiting":
            self._extend_at = 0.0
        elif event == "master.stopping" and not self._stopping:
            self._extend_at, self._stopping = 0.0, True
            self._send(STOPPING=1)
        elif event == "stop.report":
            self._send(STATUS=f"stopped after {fields['seconds']:.1f} s, exit status {fields['status']}")

    def deadline(self) -> float | None:
        """When `keep_told` is next due if nothing happens."""
        return min((t for t in (self._beat_at, self._extend_at) if t is not None), default=None)

    def keep_told(self, now: float) -> None:
        """Once a turn: what changed, and what is due.  Only a loop that turns sends WATCHDOG=1."""
        if self._beat is not None and self._beat_at is not None and now >= self._beat_at:
            self._beat_at = now + self._beat
            self._send(WATCHDOG=1)
        if self._extend_at is not None and now >= self._extend_at:
            self._extend(now)
        text = summary(self._life)
        if text != self._summary:
            self._summary = text
            self._send(STATUS=text)

    def _extend(self, now: float) -> None:
        """Ask for the time that is needed; what follows a wait for a socket is a start like any other."""
        until = self._needed_until()
        self._extend_at = None if until is None else now + AGAIN
        if until is not None:
            self._send(EXTEND_TIMEOUT_USEC=int((max(0.0, until - now) + BEYOND) * 1e6))

    def _needed_until(self) -> float | None:
        if stop := self._life.stop:
            return stop.deadline
        if self._life.opening.waiting:
            starts = (pool.settings.start_timeout for pool in self._life.pools.values())
            return self._life.opening.until + max(starts, default=0.0)
        return None
