"""One run of a task: why there is one, and how it went.

Knows what is written of it; knows nothing of schedules or of what follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from supervisor.exits import End, explain
from supervisor.settings import TaskSettings
from supervisor.stored import RunRow

RUNNING, OK, FAILED, TIMED_OUT, INTERRUPTED = "running", "ok", "failed", "timed out", "interrupted"
QUEUED = "queued"  # of a run by hand that waits for the one before it
SKIPPED = "skipped"  # of a run that never began
SCHEDULE, MISSED, RETRY = "schedule", "missed", "retry"


class Before(NamedTuple):
    """How far due times had been dealt with."""

    anchor: float  # of the schedule that this is about
    last_due: float | None
    last_fired: float | None


@dataclass(frozen=True)
class Want:
    """A run that is to be."""

    by: str
    due: float | None = None  # the due time that it is for
    hand: bool = False  # a person wants it: it changes no state and needs none
    run: int | None = None  # its number, where somebody was told it already,
    asked_at: float = 0.0  # and when
    before: Before | None = None  # when it was not wanted yet, where it is for a due time

    @property
    def trial(self) -> bool:
        """The one that an errored task is given by itself."""
        return self.by == RETRY and not self.hand


@dataclass
class Run:
    """One that goes on."""

    number: int
    want: Want
    settings: TaskSettings  # as they were when it began
    started_at: float  # wall
    pid: int | None = None
    late: bool = False  # it had its time, and was told to stop
    counts: bool = True  # its task is still the one that it began for
    trouble: str | None = None  # why it could not be forked yet

    def told(self) -> dict[str, Any]:
        """What people are told of it when it begins."""
        return {"task": self.settings.name, "run": self.number, "by": self.want.by, "due": self.want.due}

    def unborn(self, what: str) -> str:
        """Why it will not begin, while the master is so."""
        why = f"the master is {what}, and it had not begun"
        why += f": {self.trouble}" if self.trouble else ""
        return why if self.want.hand or not self.counts else f"{why}; it stays due"

    def row(self) -> RunRow:
        """What is written when it begins."""
        return {
            **waiting_row(self.settings.name, self.want, self.number, self.started_at),
            "outcome": RUNNING,
        }


@dataclass(frozen=True)
class Ended:
    """How one ended."""

    outcome: str
    end: End
    seconds: float | None = None
    lines: tuple[str, ...] = ()
    why: str | None = None  # in words, where the end alone says too little

    def judged(self, run: Run) -> Ended:
        """One that was stopped because it took too long did not end well, whatever it says."""
        late = run.late and self.outcome != INTERRUPTED
        return replace(self, outcome=TIMED_OUT) if late else self

    def reason(self, run: Run) -> str:
        """One clause that says why it failed."""
        if self.outcome == TIMED_OUT and run.settings.timeout is not None:
            never = self.end.error or run.trouble
            return f"timed out after {run.settings.timeout:g} s" + (f": {never}" if never else "")
        if self.why is not None:
            return self.why
        return explain(self.end, None) if self.end != End() else self.outcome

    def told(self, run: Run) -> tuple[str, dict[str, Any]]:
        """The event for people, and what it says."""
        fields = {"run": run.number, "by": run.want.by, "seconds": self.seconds, "outcome": self.outcome}
        fields |= {"code": self.end.code, "signal": self.end.signal_name, "output": list(self.lines)}
        names = {OK: "task.finished", INTERRUPTED: "task.interrupted"}
        reason = None if self.outcome == OK else self.reason(run)
        return names.get(self.outcome, "task.failed"), {**fields, "reason": reason}

    def row(self, run: Run) -> RunRow:
        """What is written when it ends."""
        return {
            **run.row(),
            "seconds": self.seconds,
            "outcome": self.outcome,
            "code": self.end.code,
            "signal": self.end.signal_name,
            "reason": None if self.outcome == OK else self.reason(run),
            "lines": list(self.lines),
        }


def waiting_row(task: str, want: Want, number: int, wall: float) -> RunRow:
    """What is written of a run that is to be, and was promised to somebody."""
    return {
        "run": number,
        "task": task,
        "by": want.by,
        "due": want.due,
        "started_at": wall,
        "seconds": None,
        "outcome": QUEUED,
        "code": None,
        "signal": None,
        "reason": None,
        "lines": [],
    }


def never(row: RunRow, reason: str) -> RunRow:
    """The same, and it is not to be any more."""
    return {**row, "outcome": SKIPPED, "reason": reason}
