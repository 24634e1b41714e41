"""What becomes known of a new generation in one pool, until it is trusted or given up.

Knows the pool's new workers while the reload goes on; knows nothing of other pools.
"""

from __future__ import annotations

from supervisor.decide.worker import Worker

EARLY = 2  # times its size: so many "replace me" right after readiness are no accident any more
# Of `stable_after`, from when old ones may be told to leave.  All of it would make the reload of a few quick
# workers take twice `stable_after`; half of it still finds, with two workers and the default, what fails half
# a second after its readiness.
WHILE_ROLLING = 0.5


class Trial:
    """One generation on trial."""

    def __init__(self, generation: int, stable_after: float) -> None:
        self.generation = generation
        self.failure: str | None = None
        self._stable_after = stable_after
        self._ready: dict[int, float] = {}  # who serves, and since when; the first is the oldest
        self._early = 0
        self._done_at: float | None = None  # when the first has done what it was for
        self._stood_at: float | None = None  # when the first had been ready for long enough
        self._rolls_since: float | None = None  # when old ones could be told to leave, if the first had stood

    def ready(self, worker: Worker, now: float) -> None:
        """One of its workers serves."""
        if worker.generation == self.generation:
            self._ready[worker.id] = now

    def forget(self, worker: Worker) -> None:
        """It leaves, so it serves no more."""
        self._ready.pop(worker.id, None)

    def left(
        self, worker: Worker, reason: str, now: float, size: int, *, failed: bool, finished: bool
    ) -> None:
        """One of its workers is gone without having been asked."""
        since = self._ready.pop(worker.id, None)
        if worker.generation != self.generation:
            return
        if finished and not failed:
            self._done_at = now if self._done_at is None else self._done_at
            return
        early = since is None or now - since < self._stable_after
        self._early += early
        if self.failure is None and (failed or self._early > EARLY * size + 1):
            self.failure = f"{worker.name} (generation {worker.generation}): {reason}"

    def stable_at(self) -> float | None:
        """When the first of those who serve has been ready for long enough; None while nobody is."""
        since = next(iter(self._ready.values()), None)
        return self._done_at if since is None else since + self._stable_after

    def stood(self, now: float) -> bool:
        """Whether the first has been ready for long enough; that holds, whatever becomes of it later."""
        at = self.stable_at()
        if self._stood_at is None and at is not None and at <= now:
            self._stood_at = at
        return self._stood_at is not None

    def roll(self, now: float, *, in_place: bool) -> None:
        """Old workers may be told to leave; ``in_place`` of the first of them one is yet to stand."""
        stood = self.stood(now)
        self._rolls_since = now if stood or not in_place else None

    def watched_until(self) -> float:
        """Until the last has been ready for long enough, or for part of that since it began to roll."""
        last = next(reversed(self._ready.values()), None)
        if last is None:
            return 0.0
        began = (self._rolls_since, self._stood_at, self.stable_at())
        while_rolling = next(t for t in began if t is not None) + self._stable_after * WHILE_ROLLING
        return min(last + self._stable_after, while_rolling)
