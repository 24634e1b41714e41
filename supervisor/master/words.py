"""What workers say in the log by themselves: only what a worker may say, in its own name, in bounds.

The kernel named the sender, so who speaks is not asked of it.  Knows which
events those are, and counts; a flood costs the log some lines a second, and
one that tells how many were left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.allowance import Allowance
from supervisor.log import LEVELS

# Event to its fields.  The other events are the master's alone.
MAY_SAY: dict[str, dict[str, Any]] = {
    "worker.error": {"reason": str, "traceback": str},
    "hook.failed": {"hook": str, "traceback": str},
    "hook.timeout": {"hook": str, "seconds": float | int},
}
AT_ONCE, A_SECOND = 64.0, 1.0  # events of one worker: so many, and then so many more


@dataclass
class _Speaker:
    """A worker, and its room in the log."""

    identity: Mapping[str, Any]
    room: Allowance
    left_out: int = 0

    def may_speak(self, now: float) -> bool:
        may = self.room.take(1, now)
        self.left_out += not may
        return may


class Words:
    """Hears all workers; ``tell`` writes into the log."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell
        self._speakers: dict[int, _Speaker] = {}  # those who have said something, and live

    def hear(self, worker: int, identity: Mapping[str, Any], text: str, now: float) -> None:
        """Number ``worker`` wants this in the log."""
        speaker = self._speakers.setdefault(worker, _Speaker(identity, Allowance(AT_ONCE, A_SECOND, now)))
        # The room first: to read what a flood brings would be work enough to hold up the loop.
        if speaker.may_speak(now) and (said := _read(text)):
            self._tell_left_out(speaker)
            event, level, fields = said
            self._tell(event, level, **identity, **fields)

    def forget(self, worker: int) -> None:
        """It is gone."""
        if speaker := self._speakers.pop(worker, None):
            self._tell_left_out(speaker)

    def _tell_left_out(self, speaker: _Speaker) -> None:
        if speaker.left_out:
            self._tell("worker.flooded", **speaker.identity, count=speaker.left_out)
            speaker.left_out = 0


def _read(text: str) -> tuple[str, str | None, dict[str, Any]] | None:
    """Event, level and fields; None for what no worker may say."""
    try:
        said = json.loads(text)
        event, level = said["event"], said["level"]
        kinds = MAY_SAY[event]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    fields = {name: said[name] for name, kind in kinds.items() if isinstance(said.get(name), kind)}
    return event, level if level in LEVELS else None, fields
