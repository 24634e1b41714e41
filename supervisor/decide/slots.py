"""Which places of a pool may be filled now, and which must wait.

A slot is a worker's stable number.  One worker holds it; for the time of a
replacement its heir is in it too, and those that were relieved until they are
gone.  Knows vacancies, backoff and what each slot has been through; knows
nothing of the workers themselves but who is where.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from supervisor.decide.deadlines import Deadlines
from supervisor.decide.restarts import History


@dataclass(slots=True)
class Slot:
    """A place that one worker holds."""

    worker: int | None = None
    heir: int | None = None  # to take the place over once it is ready
    former: set[int] = field(default_factory=set)  # relieved, not gone yet
    lives: int = 0
    waiting: bool = False  # in backoff
    finished: bool = False  # its worker has done what it was for
    fulfilled: bool = False  # its heir has, before it could take over
    history: History = field(default_factory=History)

    @property
    def restarts(self) -> int:
        """How often a worker was replaced here."""
        return max(0, self.lives - 1)

    @property
    def empty(self) -> bool:
        """Nobody is in it."""
        return self.worker is None and self.heir is None and not self.former

    def members(self) -> Iterator[int]:
        """All who are in it, who holds it first."""
        yield from (id for id in (self.worker, self.heir) if id is not None)
        yield from sorted(self.former)


class Slots:
    """Slots 0..size-1, and those above that still have somebody to wait for."""

    def __init__(self) -> None:
        self.size = 0
        self.finished = 0
        self.heirs = self.formers = 0  # in all slots
        self._slots: dict[int, Slot] = {}
        self._backoffs: Deadlines[int] = Deadlines()
        self._vacant: list[int] = []  # heap; may name a slot twice, or one that is gone

    def __getitem__(self, index: int) -> Slot:
        return self._slots[index]

    def __iter__(self) -> Iterator[tuple[int, Slot]]:
        return iter(sorted(self._slots.items()))

    def get(self, index: int) -> Slot | None:
        """The slot of that number, if it is still there."""
        return self._slots.get(index)

    def resize(self, size: int) -> list[int]:
        """Want so many; return the workers that are in slots beyond and not leaving yet."""
        for index in range(self.size, size):
            if self._slots.setdefault(index, Slot()).worker is None:
                self._open(index)
        surplus = [id for index in range(size, self.size) for id in self._shut(index)]
        self.size = size
        return surplus

    def hold(self, index: int, worker: int) -> Slot:
        """This worker holds the slot now."""
        slot = self._slots[index]
        slot.worker = worker
        slot.lives += 1
        return slot

    def inherit(self, index: int, worker: int) -> Slot:
        """This worker is to take the slot over."""
        slot = self._slots[index]
        slot.heir = worker
        slot.lives += 1
        self.heirs += 1
        return slot

    def relieve(self, index: int) -> int | None:
        """The heir holds the slot now; return who did before."""
        slot = self._slots[index]
        before, slot.worker, slot.heir = slot.worker, slot.heir, None
        self.heirs -= 1
        if before is not None:
            slot.former.add(before)
            self.formers += 1
        return before

    def fulfil(self, index: int) -> int | None:
        """Nobody is to come after the one who holds the slot; return who that is."""
        slot = self._slots[index]
        before, slot.worker, slot.fulfilled = slot.worker, None, False
        if before is not None:
            slot.former.add(before)
            self.formers += 1
        self._wait(index, slot, finished=True, retry_at=None)
        return before

    def disown(self, index: int) -> int | None:
        """The heir is not to take over; it leaves as one that was relieved."""
        slot = self._slots[index]
        heir, slot.heir = slot.heir, None
        if heir is not None:
            slot.former.add(heir)
            self.heirs -= 1
            self.formers += 1
        return heir

    def vacated(self, index: int, worker: int, *, finished: bool, retry_at: float | None) -> bool:
        """This worker is gone.  If it held the slot, fill it again at ``retry_at``, ``None`` for now.

        True where the heir has taken it over by that.
        """
        slot = self._slots[index]
        if worker in slot.former:
            slot.former.discard(worker)
            self.formers -= 1
        elif slot.heir == worker:
            slot.heir, slot.fulfilled = None, finished
            self.heirs -= 1
        else:
            slot.worker, finished = None, finished or slot.fulfilled
            if slot.heir is not None:
                self.relieve(index)
                return True
            self._wait(index, slot, finished=finished, retry_at=retry_at)
        if index >= self.size and slot.empty:
            del self._slots[index]
        return False

    def _wait(self, index: int, slot: Slot, *, finished: bool, retry_at: float | None) -> None:
        if index >= self.size:
            return
        if finished:
            slot.finished, slot.fulfilled = True, False
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

    def reopen(self, index: int) -> None:
        """It was taken to be filled, and could not be."""
        self._open(index)

    def _fillable(self, index: int) -> bool:
        slot = self._slots.get(index)
        if slot is None or index >= self.size:
            return False
        return slot.worker is None and not slot.waiting and not slot.finished

    def _open(self, index: int) -> None:
        heapq.heappush(self._vacant, index)

    def _shut(self, index: int) -> list[int]:
        slot = self._slots[index]
        self.finished -= slot.finished
        self._backoffs.drop(index)
        slot.finished = slot.fulfilled = slot.waiting = False
        staying = [id for id in (slot.worker, slot.heir) if id is not None]
        if slot.empty:
            del self._slots[index]
        return staying
