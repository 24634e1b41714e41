"""Whether an exit was planned, how long to wait before the next try, when to give up.

Knows one slot's history and one pool's failures; knows nothing of the workers
that are alive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from supervisor.exits import WORKER_DONE, WORKER_REPLACE, End
from supervisor.settings import Backoff, PoolSettings

DOUBLINGS = 60  # beyond this the cap has long been reached, and floats stay finite
JITTER = 0.25  # a delay is up to this share shorter, so that slots do not march in step


class Verdict(Enum):
    """What an exit means."""

    PLANNED = "planned"  # replace it
    FAILURE = "failure"  # replace it, after backoff
    FINISHED = "finished"  # this slot has done what it was for


def judge(end: End, lived: float, asked: bool, settings: PoolSettings) -> Verdict:  # noqa: PLR0911  # one rule of the contract a line
    """What the exit of one worker means; ``lived`` is seconds since it was ready, else 0."""
    if asked:
        return Verdict.PLANNED
    if end.error is not None:
        return Verdict.FAILURE  # it has not had its one life yet
    if settings.restart == "never":
        return Verdict.FINISHED
    if end.code == WORKER_REPLACE and settings.command is None:  # to a program it may mean anything
        return Verdict.PLANNED
    if end.code == WORKER_DONE:
        if settings.restart == "on-failure":
            return Verdict.FINISHED
        if lived >= settings.backoff.reset_after:
            return Verdict.PLANNED
    return Verdict.FAILURE


def backoff(failures: int, settings: Backoff, random: Callable[[], float]) -> float:
    """Seconds to wait after the n-th quick failure in a row: doubling, capped, with jitter."""
    whole = min(settings.max, settings.initial * 2.0 ** min(failures - 1, DOUBLINGS))
    return whole * (1 - JITTER * random())


@dataclass
class History:
    """What one slot has been through."""

    failures: int = 0  # quick ones in a row
    replacements: int = 0  # quick "replace me" exits in a row

    def delay(self, verdict: Verdict, lived: float, settings: Backoff, random: Callable[[], float]) -> float:
        """Seconds until the slot may be filled again."""
        if lived >= settings.reset_after:
            self.failures = self.replacements = 0
            return 0.0
        if verdict is Verdict.PLANNED:
            self.replacements += 1
            # The first early "replace me" is taken at its word; a loop of them is not.
            return backoff(self.replacements - 1, settings, random) if self.replacements > 1 else 0.0
        self.failures += 1
        return backoff(self.failures, settings, random)


@dataclass
class Breaker:
    """Opens when more than ``limit`` failures fall within ``within`` seconds."""

    limit: int | None
    within: float
    failures: deque[float] = field(default_factory=deque)

    def failed(self, now: float) -> bool:
        """Count one failure; true when that is one too many."""
        if self.limit is None:
            return False
        self.failures.append(now)
        while self.failures[0] <= now - self.within:
            self.failures.popleft()
        if len(self.failures) <= self.limit:
            return False
        self.failures.clear()
        return True
