"""The listening sockets of a start, as long as workers of an earlier master hold one of them.

No event tells that an address has become free: a worker that drains closes its
listener long before it leaves.  So it is tried again from time to time, until
those workers have had their whole `stop_timeout`.  Knows words and times;
nothing of sockets or processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from supervisor.decide.actions import Action, Listen, Note

AGAIN_SECONDS = 0.25
SLACK_SECONDS = 2.0  # a worker that needs all of its `stop_timeout` kills itself only then


class Opening:
    """Whether the sockets are open, and until when that is waited for."""

    def __init__(self, patience: float) -> None:
        self.address: str | None = None  # what is waited for
        self.holders: Sequence[str] = ()  # who has it, in words
        self.until = 0.0
        self.failed: str | None = None  # why they never will be
        self._patience, self._began, self._again_at = patience, 0.0, 0.0
        self._news: list[Action] = []

    def taken(self, address: str, holders: Sequence[str], error: str, now: float) -> None:
        """Fact: somebody who will be gone soon has this address; at the end of all patience, a failure."""
        if self.address is None:
            self._began, self.until = now, now + self._patience + SLACK_SECONDS
        if self.address != address:
            fields = {"address": address, "holders": list(holders) or None, "seconds": self.until - now}
            self._news.append(Note("start.waiting", None, fields))
        self.address, self.holders = address, holders
        self._again_at = min(now + AGAIN_SECONDS, self.until)
        if now >= self.until:
            held = f"; still held by {', '.join(holders)} of a master that is gone" if holders else ""
            self.failed = f"{error}{held}"

    def opened(self, now: float) -> None:
        """Fact: all of them are."""
        if self.address is not None:
            fields = {"address": self.address, "seconds": now - self._began}
            self._news.append(Note("start.waited", None, fields))
        self.address = None

    def refused(self, error: str) -> None:
        """Fact: one of them cannot be had, by waiting neither."""
        self.failed = error

    @property
    def waiting(self) -> bool:
        """They are not open, and will be tried again."""
        return self.address is not None and self.failed is None

    def deadline(self) -> float | None:
        """When `plan` will next have something to say if nothing happens."""
        return self._again_at if self.waiting else None

    def plan(self, now: float) -> Iterator[Action]:
        """Try again."""
        news, self._news = self._news, []
        yield from news
        if self.waiting and now >= self._again_at:
            self._again_at = now + AGAIN_SECONDS
            yield Listen()
