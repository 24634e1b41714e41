"""A task as the state file remembers it, and what is written once it is removed.

What was missed while nobody was there needs no word here: the due times after the
last that was dealt with have passed, and the task finds them so.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.decide.actions import Note
from supervisor.decide.run import INTERRUPTED, QUEUED, RETRY, never
from supervisor.decide.schedule import Schedule, signature
from supervisor.decide.standing import recalled
from supervisor.decide.task import Task
from supervisor.settings import TaskSettings
from supervisor.stored import RunRow, Stored, TaskRow

REMOVED = "removed"
GONE = "the master was gone"
TOLD = ("task", "run", "by", "due", "reason")


def recall(settings: TaskSettings, schedule: Schedule, stored: Stored | None, wall: float) -> Task:
    """The task as it was, or a new one; a changed schedule counts from now."""
    if stored is None or stored.task["state"] == REMOVED:
        return Task(settings, schedule, wall)
    row = stored.task
    same = row["schedule"] == signature(settings)
    since = (row["anchor"], _dealt_with(stored, wall)) if same else None
    standing, cut = recalled(row).set_back(wall), {run["run"]: run for run in cut_short([stored])}
    if any(run["by"] == RETRY for run in cut.values()):
        standing = standing.postponed(wall)
    last = stored.last_run and cut.get(stored.last_run["run"], stored.last_run)
    return Task(
        settings,
        schedule,
        wall,
        standing=standing,
        since=since,
        last_run=last,
        last_fired=_fired(stored.last_fired, *since) if since else stored.last_fired,
    )


def _dealt_with(stored: Stored, wall: float) -> float | None:
    """Up to which due time: the row of a run may be there without that of its task, see `orders`.

    What is still to come had its run before the clock was set back, and comes anew.
    """
    last_due, fired = stored.task["last_due"], stored.last_fired
    known = stored.task["anchor"] if last_due is None else last_due
    return fired if fired is not None and known < fired <= wall else last_due


def _fired(fired: float | None, anchor: float, last_due: float | None) -> float | None:
    """The last due time that had a run, of those that are dealt with."""
    return None if fired is None else min(fired, anchor if last_due is None else last_due)


def cut_short(stored: Iterable[Stored]) -> list[RunRow]:
    """The runs that went on when the master died, whose end nobody saw; and those that waited."""
    return [_cut(row) for one in stored for row in one.unfinished]


def _cut(row: RunRow) -> RunRow:
    return never(row, GONE) if row["outcome"] == QUEUED else {**row, "outcome": INTERRUPTED, "reason": GONE}


def told(row: RunRow) -> Note:
    """What people are told of a run that was interrupted, or skipped, without its end."""
    fields = {key: value for key, value in row.items() if key in TOLD}
    return Note("task.interrupted" if row["outcome"] == INTERRUPTED else "task.skipped", None, fields)


def removed(row: TaskRow, wall: float) -> TaskRow:
    """It is no longer configured, and begins anew should it come back."""
    return {**row, "state": REMOVED, "changed_at": wall}
