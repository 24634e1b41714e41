"""What its workers' exits and sizes teach a pool: how long to wait, and when to give up.

While a trial goes on, what fails is held against the generation that is tried
and not against the pool.  Knows settings and verdicts; knows no slot but its
history.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor.decide.actions import Action, Note
from supervisor.decide.generations import Generations
from supervisor.decide.restarts import Breaker, History, Verdict
from supervisor.decide.wear import by_memory
from supervisor.decide.worker import Worker
from supervisor.exits import WORKER_DONE, WORKER_REPLACE, End, explain


class Experience:
    """Of one pool."""

    def __init__(
        self,
        name: str,
        generations: Generations,
        random: Callable[[], float],
        tell: Callable[[Action], None],
    ) -> None:
        self.parked_for: str | None = None  # why nothing is started any more
        self.failure: str | None = None  # how the last that failed did
        self._name, self._generations, self._random, self._tell = name, generations, random, tell
        self.forget()

    def forget(self) -> None:
        """Other settings are wanted: they begin anew."""
        settings = self._generations.settings
        self.parked_for, self._breaker = None, Breaker(settings.max_restarts, settings.within)

    @property
    def parked(self) -> bool:
        """Given up."""
        return self.parked_for is not None

    def try_out(self, worker: Worker, verdict: Verdict, end: End, now: float, size: int) -> None:
        """What an exit means for a generation on trial.  A fork that failed says nothing of it."""
        trial = self._generations.trial
        if trial and worker.asked_at is None and end.error is None:
            reason = explain(end, worker.killed, worker.error)
            finished = verdict is Verdict.FINISHED and end.code in (WORKER_DONE, WORKER_REPLACE)
            failed = verdict is not Verdict.PLANNED and not finished
            trial.left(worker, reason, now, size, failed=failed, finished=finished)

    def learn(self, worker: Worker, history: History, verdict: Verdict, end: End, now: float) -> float:
        """Count an exit that nobody asked for; return the seconds until its slot may be filled again."""
        if worker.asked_at is not None:
            return 0.0
        settings = self._generations.settings
        if verdict is Verdict.FAILURE:
            self.failure = explain(end, worker.killed, worker.error)
        # A fork that failed is the machine's fault: it waits, but is not held against the program.
        # What fails while a trial goes on is the trial's matter: it may be what the reload is to mend.
        held_against = end.error is None and not (self.parked or self._generations.trial)
        if verdict is Verdict.FAILURE and held_against and self._breaker.failed(now):
            self.park(f"more than {settings.max_restarts} failures in {settings.within:g} s")
        return history.delay(verdict, worker.lived(now), settings.backoff, self._random)

    def weigh(self, worker: Worker, used: int) -> str | None:
        """So many bytes are the worker's: why it is worn by that, if it is and can be replaced."""
        reason, born_so, worker.measured = by_memory(worker, used), not worker.measured, True
        trial = self._generations.trial
        if self.parked:
            return None
        if reason is None or not born_so or (trial and worker.generation != trial.generation):
            return reason
        too_large = f"{worker.name} {reason} right after it was ready"
        if trial:
            trial.failure = trial.failure or too_large
        else:  # its successor would be as large
            self.park(f"{too_large}: raise the limit")
        return None

    def park(self, reason: str) -> None:
        """Give it up: nothing is started in it before it is scaled or reloaded."""
        self.parked_for = reason
        self._tell(Note("pool.parked", None, {"pool": self._name, "reason": reason}))
