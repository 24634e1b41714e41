"""A task as the state file remembers it, and what is written once it is removed.

What was missed while nobody was there needs no word here: the due times after the
last that was dealt with have passed, and the task finds them so.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.decide.actions import Note
from supervisor.decide.run import INTERRUPTED, RETRY, RUNNING
from supervisor.decide.schedule import Schedule, signature
from supervisor.decide.standing import recalled
from supervisor.decide.task import Task
from supervisor.settings import TaskSettings
from supervisor.stored import RunRow, Stored, TaskRow

REMOVED = "removed"
GONE = "the master was gone"


def recall(settings: TaskSettings, schedule: Schedule, stored: Stored | None, wall: float) -> Task:
    """The task as it was, or a new one; a changed schedule counts from now."""
    if stored is None or stored.task["state"] == REMOVED:
        return Task(settings, schedule, wall)
    row = stored.task
    same = row["schedule"] == signature(settings)
    since = (row["anchor"], row["last_due"]) if same else None
    standing, cut = recalled(row).set_back(wall), interrupted(stored)
    if cut and cut["by"] == RETRY:
        standing = standing.postponed(wall)
    last = cut or stored.last_run
    return Task(settings, schedule, wall, standing=standing, since=since, last_run=last)


def interrupted(stored: Stored) -> RunRow | None:
    """The run that went on when the master died, if one did: nobody saw its end."""
    row = stored.last_run
    return {**row, "outcome": INTERRUPTED, "reason": GONE} if row and row["outcome"] == RUNNING else None


def cut_short(stored: Iterable[Stored]) -> list[RunRow]:
    """All such runs."""
    return [row for one in stored if (row := interrupted(one)) is not None]


def lost(row: RunRow) -> Note:
    """What people are told of it."""
    fields = {"task": row["task"], "run": row["run"], "by": row["by"], "reason": GONE}
    return Note("task.interrupted", None, fields)


def removed(row: TaskRow, wall: float) -> TaskRow:
    """It is no longer configured, and begins anew should it come back."""
    return {**row, "state": REMOVED, "changed_at": wall}
