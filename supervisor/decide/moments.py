"""Moments of the wall clock as monotonic deadlines.

The wall clock stands ``offset`` seconds from the monotonic one.  It drifts: then a
moment is looked at again until it is really there, and never comes early.  It
is set, or the machine sleeps: then every moment has to be told anew.  Knows
nothing of what the moments are for.
"""

from __future__ import annotations

from supervisor.decide.deadlines import Deadlines

JUMP = 1.0  # seconds by which the clock is off before all moments are told anew
TICK = 0.001  # a moment that is not there yet is looked at again so much later


class Moments:
    """At most one for each name."""

    def __init__(self, now: float, wall: float) -> None:
        self.now, self._offset = now, wall - now
        self._told_with = self._offset
        self._deadlines: Deadlines[str] = Deadlines()

    @property
    def wall(self) -> float:
        """What the wall clock shows, as far as it was told."""
        return self.now + self._offset

    def clock(self, now: float, wall: float) -> bool:
        """How both clocks stand; true when every moment has to be told anew."""
        self.now, self._offset = now, wall - now
        if abs(self._offset - self._told_with) <= JUMP:
            return False
        self._told_with = self._offset
        return True

    def set(self, name: str, moment: float | None) -> None:
        """Wait for this wall time, and for no other one."""
        if moment is None:
            self._deadlines.drop(name)
        elif moment <= self.wall:
            self._deadlines.set(name, self.now)
        else:
            self._deadlines.set(name, max(moment - self._offset, self.now + TICK))

    def earliest(self) -> float | None:
        """The next deadline, monotonic."""
        return self._deadlines.earliest()

    def due(self) -> list[str]:
        """Take out whatever may have come."""
        return self._deadlines.due(self.now)
