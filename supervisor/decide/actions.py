"""The things a plan can hold.

Imperatives are carried out by the master; `Note` is something that people want
to read about.  A worker is named by its number in `decide`, never by its pid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from supervisor.decide.worker import Worker


@dataclass(frozen=True)
class Start:
    """Fork a worker.  Comes back as the fact ``started`` or ``exited``."""

    worker: int
    pool: str
    slot: int
    generation: int


@dataclass(frozen=True)
class Stop:
    """Ask a worker to drain: USR2 where a successor will come, else TERM; then CONT."""

    worker: int
    replace: bool


@dataclass(frozen=True)
class Quiet:
    """Tell a worker to take no new work (TSTP), or to take work again (CONT)."""

    worker: int
    on: bool


@dataclass(frozen=True)
class Continue:
    """Have a worker of the master's own go on that somebody has stopped (CONT)."""

    worker: int


@dataclass(frozen=True)
class Dump:
    """Have a worker say what it is at, before it is killed: a target writes its Python stacks.

    A command gets ABRT, if ``abort``; else only the kernel is asked.
    """

    worker: int
    abort: bool = False


@dataclass(frozen=True)
class Measure:
    """Read the memory of these workers.  Comes back as the fact ``measured``."""

    workers: tuple[int, ...]


@dataclass(frozen=True)
class Kill:
    """SIGKILL a worker and its process group."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Sweep:
    """End the helpers that outlived their workers: TERM, or KILL.

    Comes back as the fact ``alone`` once the master has no child left.
    """

    kill: bool


@dataclass(frozen=True)
class KillGroup:
    """SIGKILL what is left of a dead worker's process group; it had TERM before."""

    group: int


@dataclass(frozen=True)
class Run:
    """Run one of the master's own hooks.  Comes back as the fact ``hook_ended``."""

    moment: str
    index: int


@dataclass(frozen=True)
class Listen:
    """Try once more to open the listening sockets.

    Comes back as a fact of the `Opening`: ``opened``, ``taken`` or ``refused``.
    """


@dataclass(frozen=True)
class Prepare:
    """Take what the reader of this generation found, and open what it needs.

    Comes back as the fact ``prepared`` or ``refused``.
    """

    generation: int


@dataclass(frozen=True)
class Commit:
    """This generation holds from now on: close what only the old one had."""

    generation: int


@dataclass(frozen=True)
class Undo:
    """This generation is given up: close what only it had."""

    generation: int


@dataclass(frozen=True)
class Note:
    """Something happened that people want to read about: one event."""

    event: str
    worker: Worker | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finish:
    """Leave with this exit status; nothing is left to do."""

    status: int


Action = (
    Start
    | Stop
    | Quiet
    | Continue
    | Dump
    | Measure
    | Kill
    | Sweep
    | KillGroup
    | Run
    | Listen
    | Prepare
    | Commit
    | Undo
    | Note
    | Finish
)
