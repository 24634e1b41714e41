"""What is remembered of tasks from one life of the master to the next: the rows.

Plain data that passes between the decisions, the process that writes the state
file, and whoever shows it.  Times are seconds since the epoch (UTC); `None`
stands where there is nothing to say.  Knows nothing of SQL and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

KEPT_RUNS = 1000  # of each task: no more are kept, and no more can be asked for


class TaskRow(TypedDict):
    """One task; its key is `task`.  A later row of the same key replaces it whole."""

    task: str
    state: str  # "running", "paused", "errored"; "removed": it is no longer configured since `changed_at`
    reason: str | None  # why it is paused or errored
    error: str | None  # why it is, or was before it was paused, errored
    by: str | None  # who brought it into this state
    paused_until: float | None  # the pause is over by itself then
    failures: int  # in a row
    anchor: float  # since when this schedule holds; the zero of `every`
    last_due: float | None  # due times up to this one have been dealt with
    schedule: str  # as configured when this was written, to notice that it was changed
    changed_at: float  # when it came into this state


class RunRow(TypedDict):
    """One run; its key is `run`.  Written before it begins, and replaced whole when it ends."""

    run: int  # rises over all tasks, and over restarts
    task: str
    by: str  # "schedule", "missed", "retry", or who asked for it
    due: float | None  # the due time that it is for
    started_at: float
    seconds: float | None  # how long it took; None while it runs, and where nobody saw its end
    outcome: (
        str  # "running", "ok", "failed", "timed out", "interrupted"; before it begins: "queued", "skipped"
    )
    code: int | None
    signal: str | None  # by name
    reason: str | None  # why it did not go well, or was interrupted
    lines: list[str]  # the last ones that it printed


Row = TaskRow | RunRow
Key = tuple[str, Any]


@dataclass(frozen=True)
class Stored:
    """What the state file holds of one task when the master starts."""

    task: TaskRow
    last_run: RunRow | None = None
    next_run: int = 1  # above the number of every run in the file; the same for each task
    unfinished: tuple[RunRow, ...] = ()  # runs that went on, or waited, when the last master ended
    last_fired: float | None = None  # the due time of the newest run that was for one


def key(row: Row) -> Key:
    """What a row replaces."""
    run = row.get("run")
    return ("task", row["task"]) if run is None else ("run", run)
