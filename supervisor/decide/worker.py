"""What the decision core remembers of one worker.

State and wish, no behaviour but questions.  The pid and what the worker tells
of itself are kept as words for reports; nothing is decided by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from supervisor.settings import PoolSettings


class State(Enum):
    """A worker that is gone is not in the dict."""

    FORKING = "forking"  # planned; the fork has not come back as a fact
    STARTING = "starting"  # forked, not ready yet
    READY = "ready"
    STOPPING = "stopping"  # asked to leave, or said by itself that it leaves
    KILLED = "killed"  # sent SIGKILL, not reaped yet


@dataclass(slots=True)
class Worker:
    """One life in a slot.  All times are monotonic seconds."""

    id: int
    pool: str
    slot: int
    generation: int
    born_at: float  # when its start was planned, so before the fork
    settings: PoolSettings  # those of its generation
    state: State = State.FORKING
    pid: int | None = None
    ready_at: float | None = None
    beaten_at: float = 0.0
    asked_at: float | None = None
    replace: bool = False  # a successor will come
    acknowledged_at: float | None = None
    kill_at: float | None = None  # when SIGKILL follows; a stack dump comes shortly before
    dumped: bool = False
    killed: str | None = None  # why we killed it
    quiet: bool = False
    jobs: int | None = None
    in_flight: int | None = None
    text: str | None = None  # its last STATUS=
    error: str | None = None  # its last X_ERROR=: why it cannot start
    worn: str | None = None  # why it is to be replaced though it works
    measured: bool = False  # its memory has been read once
    halts: int = 0  # how often it was found stopped (SIGSTOP)

    @property
    def name(self) -> str:
        """``POOL.SLOT``."""
        return f"{self.pool}.{self.slot}"

    @property
    def leaving(self) -> bool:
        """On its way out, so no longer part of the pool's strength."""
        return self.state in (State.STOPPING, State.KILLED)

    @property
    def answers_stops(self) -> bool:
        """It can acknowledge a stop: a target does, of commands those that speak sd_notify."""
        return self.settings.command is None or self.settings.ready == "notify"

    def lived(self, now: float) -> float:
        """Seconds since it was ready; 0 if it never was."""
        return 0.0 if self.ready_at is None else now - self.ready_at
