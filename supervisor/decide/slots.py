"""Which places of a pool may be filled now, and which must wait.

A slot is a worker's stable number.  Knows vacancies, backoff and what each slot
has been through; knows nothing of the workers themselves but who holds a slot.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from supervisor.decide.deadlines import Deadlines
from supervisor.decide.restarts import History


@dataclass(slots=True)
class Slot:
    """A place that one worker at a time fills."""

    worker: int | None = None
    lives: int = 0
    waiting: bool = False  # in backoff
    finished: bool = False  # its worker has done what it was for
    history: History = field(default_factory=History)

    @property
    def restarts(self) -> int:
        """How often a worker was replaced here."""
        return max(0, self.lives - 1)


class Slots:
    """Slots 0..size-1, and those above that still have somebody to wait for."""

    def __init__(self) -> None:
        self.size = 0
        self.finished = 0
        self._slots: dict[int, Slot] = {}
        self._backoffs: Deadlines[int] = Deadlines()
        self._vacant: list[int] = []  # heap; may name a slot twice, or one that is gone

    def __getitem__(self, index: int) -> Slot:
        return self._slots[index]

    def __iter__(self) -> Iterator[tuple[int, Slot]]:
        return iter(sorted(self._slots.items()))

    def resize(self, size: int) -> list[int]:
        """Want so many; return the workers that are in slots beyond."""
        for index in range(self.size, size):
            self._slots.setdefault(index, Slot())
            self._open(index)
        surplus = [self._shut(index) for index in range(size, self.size)]
        self.size = size
        return [worker for worker in surplus if worker is not None]

    def vacated(self, index: int, *, finished: bool, retry_at: float | None) -> None:
        """The worker of this slot is gone; fill it again at ``retry_at``, ``None`` for now."""
        slot = self._slots[index]
        slot.worker = None
        if index >= self.size:
            del self._slots[index]
        elif finished:
            slot.finished = True
            self.finished += 1
        elif retry_at is not None:
            slot.waiting = True
            self._backoffs.set(index, retry_at)
        else:
            self._open(index)

    def revive(self) -> None:
        """Forget what happened: every empty slot may be filled at once."""
        for index, slot in self._slots.items():
            if slot.worker is None and not slot.finished:
                slot.waiting, slot.history = False, History()
                self._backoffs.drop(index)
                self._open(index)

    def vacancies(self, now: float, most: int) -> Iterator[int]:
        """Take the next slots to fill, the lowest first."""
        for index in self._backoffs.due(now):
            self._slots[index].waiting = False
            self._open(index)
        while most > 0 and self._vacant:
            index = heapq.heappop(self._vacant)
            if self._fillable(index):
                most -= 1
                yield index

    def deadline(self) -> float | None:
        """When the next backoff ends."""
        return self._backoffs.earliest()

    def retry_at(self, index: int) -> float | None:
        """When the backoff of this slot ends, if it is in one."""
        return self._backoffs.get(index)

    def _fillable(self, index: int) -> bool:
        slot = self._slots.get(index)
        if slot is None or index >= self.size:
            return False
        return slot.worker is None and not slot.waiting and not slot.finished

    def _open(self, index: int) -> None:
        heapq.heappush(self._vacant, index)

    def _shut(self, index: int) -> int | None:
        slot = self._slots[index]
        self.finished -= slot.finished
        self._backoffs.drop(index)
        slot.finished = slot.waiting = False
        if slot.worker is None:
            del self._slots[index]
        return slot.worker
