"""When each waiting thing is next due: a heap beside a dict.

Setting one costs O(log n) and asking for the earliest O(1) amortised, so a turn
costs what changed and not how many workers there are.  Times are monotonic
seconds that the caller supplies.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

SPARE = 64  # replaced entries that are not worth tidying away

K = TypeVar("K", bound="int | str | tuple[str, int]")


class Deadlines(Generic[K]):
    """At most one deadline for each key."""

    def __init__(self) -> None:
        self._times: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._count = 0  # breaks ties, so that keys are never compared

    def set(self, key: K, time: float) -> None:
        """Replace the deadline of ``key``."""
        if self._times.get(key) == time:
            return
        self._times[key] = time
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, key))
        if len(self._heap) > 2 * len(self._times) + SPARE:
            self._heap = [entry for entry in self._heap if self._times.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def drop(self, key: K) -> None:
        """Forget ``key``; its entry in the heap is passed over later."""
        self._times.pop(key, None)

    def get(self, key: K) -> float | None:
        """The deadline of ``key``, if it has one."""
        return self._times.get(key)

    def earliest(self) -> float | None:
        """The next deadline of all."""
        while self._heap and self._times.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[K]:
        """Take out every key whose deadline has come, the earliest first."""
        keys = []
        while (time := self.earliest()) is not None and time <= now:
            key = heapq.heappop(self._heap)[2]
            del self._times[key]
            keys.append(key)
        return keys

    def __len__(self) -> int:
        return len(self._times)
