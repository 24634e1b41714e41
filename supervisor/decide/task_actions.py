"""What a plan of the tasks can hold, beside `Note`.

Imperatives, carried out by the master in their order: what is to be stored
stands before what would have to be done twice if it were lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.decide.actions import Note
from supervisor.settings import TaskSettings
from supervisor.stored import Row


@dataclass(frozen=True)
class StartRun:
    """Begin a run.  Comes back as the facts ``started`` and ``ended``, or ``ended`` alone."""

    task: str
    run: int
    by: str
    settings: TaskSettings


@dataclass(frozen=True)
class StopRun:
    """End a run: its stop signal, and later KILL.  Comes back as the fact ``ended``."""

    task: str
    run: int
    reason: str


@dataclass(frozen=True)
class Save:
    """Write all these rows or none.  Comes back as the fact ``saved`` or ``unsaved``."""

    token: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Ask:
    """Read from the history.  Comes back as the fact ``answered`` or ``unsaved``."""

    token: int
    question: Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """Answer a command: with its result, or with why it was refused."""

    request: Any  # as it was given with the command
    result: Mapping[str, Any] | None = None
    error: str | None = None


TaskAction = StartRun | StopRun | Save | Ask | Reply | Note
