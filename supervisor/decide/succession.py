"""Whose place is to be taken over, and when that may be tried.

Slots by number: those that wait for an heir, in the order in which they were
wished for, so that slots whose workers wear out again and again keep no other
one waiting; those that are tried later; those whose heir is ready.  An entry may
be out of date: whoever takes it looks at the slot.  Knows nothing of workers.
"""

from __future__ import annotations

from collections import deque

from supervisor.decide.deadlines import Deadlines


class Succession:
    """The lists of one pool."""

    def __init__(self) -> None:
        self._due: deque[int] = deque()
        self._wished: set[int] = set()  # the same
        self._retries: Deadlines[int] = Deadlines()
        self._ready: list[int] = []

    def wish(self, index: int) -> None:
        """The holder of this slot is to be replaced."""
        if index not in self._wished:
            self._wished.add(index)
            self._due.append(index)

    def wish_all(self, indexes: list[int]) -> None:
        """Those of all these slots, the lowest first; what was wished before is forgotten."""
        self._due, self._wished = deque(sorted(indexes)), set(indexes)
        for index in indexes:
            self._retries.drop(index)

    def retry(self, index: int, at: float) -> None:
        """Not before then: the heir of this slot failed, or its holder is too young."""
        self._retries.set(index, at)

    def wake(self, now: float) -> None:
        """Those whose time has come are wished for again."""
        for index in self._retries.due(now):
            self.wish(index)

    def peek(self) -> int | None:
        """The next slot that waits for an heir."""
        return self._due[0] if self._due else None

    def take(self) -> None:
        """It is seen to, or is none any more."""
        self._wished.discard(self._due.popleft())

    def heir_ready(self, index: int) -> None:
        """The heir of this slot can take over."""
        self._ready.append(index)

    def take_ready(self) -> list[int]:
        """Take out the slots whose heirs are ready."""
        ready, self._ready = self._ready, []
        return ready

    def deadline(self) -> float | None:
        """When the next heir is tried again."""
        return self._retries.earliest()
