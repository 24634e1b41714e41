"""What becomes known of a new generation in one pool, until it is trusted or given up.

Knows the pool's new workers while the reload goes on; knows nothing of other pools.
"""

from __future__ import annotations

from supervisor.decide.worker import Worker

EARLY = 2  # times its size: so many "replace me" right after readiness are no accident any more


class Trial:
    """One generation on trial."""

    def __init__(self, generation: int, stable_after: float) -> None:
        self.generation = generation
        self.failure: str | None = None
        self._stable_after = stable_after
        self._ready: dict[int, float] = {}  # who serves, and since when; the first is the oldest
        self._early = 0
        self._done_at: float | None = None  # when the first has done what it was for
        self._stood = False  # the first has been ready for long enough

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
        self._stood = self._stood or (at is not None and at <= now)
        return self._stood

    def all_stand_at(self) -> float:
        """When the last of those who serve will have been ready for long enough."""
        since = next(reversed(self._ready.values()), None)
        return 0.0 if since is None else since + self._stable_after
