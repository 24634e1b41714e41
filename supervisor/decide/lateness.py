"""From lateness to stacks to SIGKILL: when each worker's patience ends, and what follows.

Each worker has one deadline, which means something else in each of its states:
readiness, the next heartbeat, its exit, the kill after its stacks, the next
kill.  Knows settings and times; `become` is how a state changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from supervisor.decide.actions import Action, Dump, Kill, Note
from supervisor.decide.deadlines import Deadlines
from supervisor.decide.worker import State, Worker

DUMP_SECONDS = 0.3  # how long before its SIGKILL a worker is asked for its stacks
KILL_AGAIN = 1.0  # a worker in an uninterruptible sleep may need more than one


class Lateness:
    """Who is late, and how far that has gone."""

    def __init__(self, become: Callable[[Worker, State], None]) -> None:
        self._become = become
        self._deadlines: Deadlines[int] = Deadlines()

    # -- what is waited for ----------------------------------------------------

    def expect_ready(self, worker: Worker) -> None:
        """From its birth, so from before the fork."""
        if not worker.dumped:
            self._deadlines.set(worker.id, worker.born_at + worker.settings.start_timeout)

    def extend(self, worker: Worker, until: float) -> None:
        """Its readiness may take so long; never shorter than before."""
        if worker.state is State.STARTING and not worker.dumped:
            self._deadlines.set(worker.id, max(until, self._deadlines.get(worker.id) or 0.0))

    def expect_beat(self, worker: Worker) -> None:
        """The next one, if it has a watchdog; else nothing any more."""
        if worker.settings.watchdog:
            self._deadlines.set(worker.id, worker.beaten_at + worker.settings.watchdog)
        else:
            self._deadlines.drop(worker.id)

    def expect_exit(self, worker: Worker, now: float, kill_at: float) -> None:
        """It was told, or says by itself that it leaves."""
        if worker.state is not State.KILLED:
            self._become(worker, State.STOPPING)
        if worker.dumped:
            self._kill_sooner(worker, kill_at)
            return
        # Told twice (TERM by hand, then the master's stop), the earlier end holds.
        worker.kill_at = kill_at if worker.kill_at is None else min(worker.kill_at, kill_at)
        margin = max(0.0, min(DUMP_SECONDS, (worker.kill_at - now) / 10))
        self._deadlines.set(worker.id, worker.kill_at - margin)

    def _kill_sooner(self, worker: Worker, kill_at: float) -> None:
        """It is being killed already; a stop may leave it less time, never more."""
        planned = self._deadlines.get(worker.id)
        if planned is not None and kill_at < planned:
            self._deadlines.set(worker.id, kill_at)

    def force(self, worker: Worker, reason: str) -> None:
        """SIGKILL now, without asking for stacks."""
        if worker.state is not State.KILLED:
            worker.killed, worker.dumped = reason, True
            self._deadlines.set(worker.id, 0.0)

    def thawed(self, worker: Worker, now: float) -> None:
        """The master did not run for a while, so it could hear nobody."""
        if worker.dumped:
            return
        if worker.state is State.READY and worker.settings.watchdog:
            worker.beaten_at = now
            self.expect_beat(worker)
        else:
            self.extend(worker, now + worker.settings.start_timeout)

    def forget(self, worker: Worker) -> None:
        """It is gone."""
        self._deadlines.drop(worker.id)

    def earliest(self) -> float | None:
        """When somebody is next late."""
        return self._deadlines.earliest()

    def due(self, now: float) -> list[int]:
        """Take out who is late."""
        return self._deadlines.due(now)

    # -- what follows ----------------------------------------------------------

    def overdue(self, worker: Worker, now: float) -> Iterator[Action]:
        """One step further."""
        if worker.dumped or worker.state is State.KILLED:
            return self._kill(worker, now)
        if worker.state is State.READY:
            return self._listen_for_beat(worker, now)
        began = worker.asked_at or worker.acknowledged_at
        if worker.state is State.STOPPING and began is not None and worker.kill_at is not None:
            return self._dump(worker, f"did not stop in {worker.kill_at - began:.1f} s", now)
        return self._dump(worker, f"not ready in {now - worker.born_at:.1f} s", now)

    def _listen_for_beat(self, worker: Worker, now: float) -> Iterator[Action]:
        if worker.beaten_at + (worker.settings.watchdog or 0.0) > now:
            self.expect_beat(worker)
        else:
            silent = f"no heartbeat for {now - worker.beaten_at:.1f} s"
            yield from self._dump(worker, silent, now, abort=True)

    def _dump(self, worker: Worker, reason: str, now: float, *, abort: bool = False) -> Iterator[Action]:
        worker.killed, worker.dumped = reason, True
        kill_at = now + DUMP_SECONDS if worker.kill_at is None else worker.kill_at
        self._deadlines.set(worker.id, max(kill_at, now + 1e-3))  # one turn at least
        yield Dump(worker.id, abort)

    def _kill(self, worker: Worker, now: float) -> Iterator[Action]:
        reason = worker.killed or "did not stop"
        if worker.state is not State.KILLED:
            self._become(worker, State.KILLED)
            yield Note("worker.killed", worker, {"reason": reason, "uptime": now - worker.born_at})
        self._deadlines.set(worker.id, now + KILL_AGAIN)
        yield Kill(worker.id, reason)
