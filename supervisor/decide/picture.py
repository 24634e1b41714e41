"""One task as ``status`` and ``tasks list`` show it; times are still seconds since the epoch."""

from __future__ import annotations

from typing import Any

from supervisor.decide.run import Run
from supervisor.decide.standing import State
from supervisor.decide.task import Task
from supervisor.stored import RunRow


def picture(task: Task, *, quiet: bool) -> dict[str, Any]:
    """Plain data.  Of a paused task the next run is not known: its end may change it.

    While the master is ``quiet`` nothing begins by itself, also what is due.
    """
    standing = task.standing
    return {
        "state": standing.state.value,
        "reason": standing.reason,
        "error": standing.error,
        "by": standing.by,
        "since": standing.changed_at,
        "paused_until": standing.pause.until if standing.pause else None,
        "next_run": None if standing.state is State.PAUSED else task.moment(),
        "last_run": _ended(task.last_run),
        "failures": standing.failures,
        "running": _running(task.run) if task.run else None,
        "waiting": None if task.waiting is None else task.waiting.by,
        "quiet": quiet,
    }


def _running(run: Run) -> dict[str, Any]:
    """Also one that could not be forked yet, with the reason."""
    fields = {"run": run.number, "by": run.want.by, "started_at": run.started_at, "pid": run.pid}
    return {**fields, "reason": run.trouble}


def _ended(row: RunRow | None) -> dict[str, Any] | None:
    """The last run, also while it goes on; without what it printed, which the history shows."""
    return None if row is None else {key: value for key, value in row.items() if key not in ("task", "lines")}
