"""What is remembered of a stop while it goes on, and what its report says.

Knows how firm the request is, the one deadline, and when each phase began.
It decides the exit status; `life` walks through the phases.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any

from supervisor.decide.worker import Worker
from supervisor.exits import End, Exit


class Firmness(IntEnum):
    """A stop only ever gets firmer."""

    GAVE_UP = 1
    RESTART = 2
    STOP = 3
    FORCE = 4


class Phase(Enum):
    """The stop, from top to bottom; none is entered twice."""

    ANNOUNCE = "announce"
    ON_STOP = "on_stop"
    DRAIN_DELAY = "drain_delay"
    TERMINATE = "terminate"
    KILL = "kill"
    HELPERS = "helpers"
    ON_EXIT = "on_exit"
    DONE = "done"


@dataclass
class Farewell:
    """How one worker left during the stop."""

    worker: Worker
    gone_at: float | None = None
    end: End = field(default_factory=End)

    def report(self, began: float) -> dict[str, Any]:
        """One entry of ``stop.report``; times count from when the worker was told."""
        worker, end = self.worker, self.end
        told = began if worker.asked_at is None else worker.asked_at
        return {
            "worker": worker.name,
            "pid": worker.pid,
            "acknowledged_after": _since(told, worker.acknowledged_at),
            "gone_after": _since(told, self.gone_at),
            "code": end.code,
            "signal": end.signal_name,
            "killed": self.killed,
            "in_flight": worker.in_flight,
        }

    @property
    def killed(self) -> bool:
        """We had to SIGKILL it: one that still left by itself at the last moment does not count."""
        return self.worker.killed is not None and self.end.code is None


@dataclass
class Stopping:
    """One stop."""

    firmness: Firmness
    reason: str
    began: float
    deadline: float
    half: float  # phases before `terminate` end here, so that workers are always told
    phase: Phase = Phase.ANNOUNCE
    phase_began: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    farewells: dict[int, Farewell] = field(default_factory=dict)
    stuck: bool = False  # something survived SIGKILL

    def enter(self, phase: Phase, now: float) -> tuple[str, float]:
        """Leave the present phase for ``phase``; return the left one's name and seconds."""
        name, seconds = self.phase.value, now - self.phase_began
        self.seconds[name] = round(seconds, 6)
        self.phase, self.phase_began = phase, now
        return name, seconds

    @property
    def cut(self) -> bool:
        """Work was cut: somebody had to be SIGKILLed."""
        return self.stuck or any(f.killed for f in self.farewells.values())

    def status(self, broken: Exit | None) -> int:
        """The exit status; ``broken`` is that of a master that could not go on."""
        if broken is not None:
            return broken
        match self.firmness:
            case Firmness.FORCE:
                return Exit.CUT
            case Firmness.STOP:
                return Exit.CUT if self.cut else Exit.STOPPED
            case Firmness.RESTART:
                return Exit.RESTART_CUT if self.cut else Exit.RESTART
            case Firmness.GAVE_UP:
                return Exit.GAVE_UP

    def report(self, now: float, status: int) -> dict[str, Any]:
        """The fields of ``stop.report``."""
        return {
            "reason": self.reason,
            "status": int(status),
            "seconds": round(now - self.began, 6),
            "phases": self.seconds,
            "workers": [f.report(self.began) for f in self.farewells.values()],
        }


def _since(then: float, time: float | None) -> float | None:
    return None if time is None else round(max(0.0, time - then), 6)
