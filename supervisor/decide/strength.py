"""Whether a pool has as many ready workers as it is to have, and whether it ever had.

Tells each change once.  Knows counts; knows nothing of why somebody is missing.
"""

from __future__ import annotations

from supervisor.decide.actions import Note
from supervisor.decide.crew import Crew
from supervisor.decide.slots import Slots

PARKED = "is parked, so nobody who leaves is replaced"


class Strength:
    """Of one pool."""

    def __init__(self, name: str, crew: Crew, slots: Slots) -> None:
        self.degraded: bool | None = None  # None until it was complete once
        self._name, self._crew, self._slots = name, crew, slots

    @property
    def complete(self) -> bool:
        """Every slot is ready or has finished."""
        return self._crew.up + self._slots.finished >= self._slots.size

    @property
    def never(self) -> bool:
        """It has not been complete yet."""
        return self.degraded is None

    def watch(self, *, full: bool) -> None:
        """Tell when that changes."""
        if self._slots.size == 0:
            return
        if full and self.degraded is not False:
            self._become("pool.ready", degraded=False)
        elif not full and self.degraded is False:
            self._become("pool.degraded", degraded=True)

    def _become(self, event: str, *, degraded: bool) -> None:
        self.degraded = degraded
        fields: dict[str, object] = {"pool": self._name, "ready": self._crew.up, "desired": self._slots.size}
        if degraded and self.complete:  # then it is not for want of workers
            fields["reason"] = PARKED
        self._crew.tell(Note(event, None, fields))
