"""Which workers have served long enough: by age, by jobs, by memory.

A worker that is worn works on until its successor is ready.  Knows settings,
ages and what workers told or were measured to use; replacing is `Pool`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from supervisor.decide.deadlines import Deadlines
from supervisor.decide.worker import State, Worker

AGE_JITTER = 0.1  # a worker leaves up to this share earlier, so that those of one age do not leave together
FIRST_LOOK = 1.0  # seconds after readiness: what is too large by then was born too large
LOOK_AGAIN = 5.0  # seconds between two readings of a pool's memory
MIB = 1 << 20


class Wear:
    """What wears the workers of one pool."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._ages: Deadlines[int] = Deadlines()
        self._looks: Deadlines[int] = Deadlines()

    def ready(self, worker: Worker, now: float) -> None:
        """It begins to serve."""
        if age := worker.settings.max_age:
            self._ages.set(worker.id, now + age * (1 - AGE_JITTER * self._random()))
        if worker.settings.max_memory:
            self._looks.set(worker.id, now + FIRST_LOOK)

    def forget(self, worker: Worker) -> None:
        """It leaves, or is gone."""
        self._ages.drop(worker.id)
        self._looks.drop(worker.id)

    def earliest(self) -> float | None:
        """When somebody comes of age or is to be measured."""
        return min(
            (t for t in (self._ages.earliest(), self._looks.earliest()) if t is not None), default=None
        )

    def aged(self, workers: Mapping[int, Worker], now: float) -> list[Worker]:
        """Those who have come of age; told once."""
        return [workers[id] for id in self._ages.due(now) if id in workers]

    def to_measure(self, workers: Mapping[int, Worker], now: float) -> list[int]:
        """Whose memory is to be read now; again after a while."""
        due = [id for id in self._looks.due(now) if id in workers]
        for id in due:
            self._looks.set(id, now + LOOK_AGAIN)
        return due


def by_jobs(worker: Worker) -> str | None:
    """Why it is worn, if it has done enough."""
    limit = worker.settings.max_jobs
    if limit is None or worker.jobs is None or worker.jobs < limit:
        return None
    return f"did {worker.jobs} jobs, max_jobs is {limit}"


def by_age(worker: Worker) -> str:
    return f"has served for max_age, {worker.settings.max_age:g} s"


def by_memory(worker: Worker, used: int) -> str | None:
    """Why it is worn, if it uses too much."""
    limit = worker.settings.max_memory
    if limit is None or used <= limit or worker.state is not State.READY:
        return None
    return f"uses {used / MIB:.0f} MiB PSS, max_memory is {limit / MIB:.0f} MiB"
