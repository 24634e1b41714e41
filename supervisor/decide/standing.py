"""What people and failures have made of a task; whether it runs by itself follows from that.

A pause and an error are two facts, and a pause covers an error: so pausing an
errored task keeps why it is errored, and the end of the pause finds it so.  Each
function returns the next standing and changes nothing.  Knows no schedule, no
runs, and no clock but the wall time that it is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from supervisor.stored import TaskRow


class State(Enum):
    """Of a task, as people see it."""

    RUNNING = "running"  # its schedule is live
    PAUSED = "paused"
    ERRORED = "errored"


@dataclass(frozen=True)
class Pause:
    """Wanted by a person; ``until`` is None when only a person ends it."""

    reason: str | None = None
    until: float | None = None


@dataclass(frozen=True)
class Standing:
    """One task's."""

    pause: Pause | None = None
    error: str | None = None
    failures: int = 0  # in a row
    by: str | None = None  # who brought it into its state
    changed_at: float = 0.0

    @property
    def state(self) -> State:
        if self.pause:
            return State.PAUSED
        return State.RUNNING if self.error is None else State.ERRORED

    @property
    def reason(self) -> str | None:
        return self.pause.reason if self.pause else self.error

    # -- what people do --------------------------------------------------------

    def paused(self, pause: Pause, by: str | None, wall: float) -> Standing:
        """Also while it is paused: the last word counts."""
        return replace(self, pause=pause, by=by, changed_at=wall)

    def resumed(self, by: str | None, wall: float) -> Standing:
        """The pause, the error and the failures are all over."""
        if self.state is State.RUNNING:
            return self
        return Standing(by=by, changed_at=wall)

    def outlasts(self, until: float | None) -> bool:
        """It is paused already, and no sooner over than a pause until then (None: for good)."""
        if self.pause is None:
            return False
        return self.pause.until is None or (until is not None and self.pause.until > until)

    # -- what happens by itself ------------------------------------------------

    def pause_over(self, wall: float) -> Standing:
        """Whatever it was before shows again."""
        return replace(self, pause=None, by=None, changed_at=wall) if self.pause else self

    def succeeded(self, wall: float) -> Standing:
        """A run that counts went well: also the one trial of an errored task."""
        after = replace(self, error=None, failures=0)
        return replace(after, by=None, changed_at=wall) if self.state is State.ERRORED else after

    def failed(self, reason: str, limit: int, wall: float) -> Standing:
        """A run that counts failed; ``limit`` in a row are too many, and 0 means never."""
        after = replace(self, failures=self.failures + 1)
        if self.error is None and not 0 < limit <= after.failures:
            return after
        after = replace(after, error=reason)
        return after if self.pause else replace(after, by=None, changed_at=wall)

    def postponed(self, wall: float) -> Standing:
        """The one trial of an errored task came to nothing: it waits as long again."""
        return replace(self, changed_at=wall) if self.state is State.ERRORED else self

    def set_back(self, wall: float) -> Standing:
        """The clock stands before the last change: what is counted from there is as far away as it was."""
        by = self.changed_at - wall
        if by <= 0:
            return self
        until = self.pause.until if self.pause else None
        pause = replace(self.pause, until=until - by) if self.pause and until is not None else self.pause
        return replace(self, pause=pause, changed_at=wall)


def recalled(row: TaskRow) -> Standing:
    """As it was stored."""
    paused = row["state"] == State.PAUSED.value
    pause = Pause(row["reason"], row["paused_until"]) if paused else None
    return Standing(pause, row["error"], row["failures"], row["by"], row["changed_at"])
