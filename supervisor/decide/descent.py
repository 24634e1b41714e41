"""The way down: the phases of a stop, from the request to the last thing done.

::

    announce -> on_stop -> drain_delay -> terminate -> kill -> helpers -> on_exit -> done

Each turn falls through from where it is to the first phase that still waits for
something.  A firmer request moves deadlines and never starts a phase again.
Knows pools and moments; knows nothing of signals or processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from supervisor.decide import inner
from supervisor.decide.actions import Action, Finish, Note, Sweep
from supervisor.decide.moment import Moment
from supervisor.decide.pool import Pool
from supervisor.decide.pools import Pools
from supervisor.decide.stopping import Farewell, Firmness, Phase, Stopping
from supervisor.exits import Exit

UNACKNOWLEDGED = 1.0  # who has not acknowledged after so long is named
HELPER_SECONDS = 1.0  # between TERM and KILL of helpers that outlived their workers
GIVE_UP_SECONDS = 5.0  # what survives SIGKILL so long is left to the kernel
AGAIN_SECONDS = 0.1  # between two sweeps: a killed helper may leave children of its own
GOING_UP = ("import", "on_start", "on_ready")
BEFORE_KILL = frozenset({Phase.ANNOUNCE, Phase.ON_STOP, Phase.DRAIN_DELAY, Phase.TERMINATE})


class Descent:
    """Walks one `Stopping` through its phases."""

    def __init__(
        self,
        stop: Stopping,
        pools: Pools,
        moments: Mapping[str, Moment],
        drain_delay: float,
        unwritten: Callable[[], bool],
    ) -> None:
        """``unwritten`` tells whether what is to be remembered has not reached the disk yet."""
        self.stop = stop
        self._unwritten = unwritten
        self._dismissed_at: float | None = None  # the inner pools were, when nobody else was left
        self.alone = False  # no child of any kind is left
        self._pools, self._moments, self._drain_delay = pools, moments, drain_delay
        self._remind_at: float | None = None
        self._swept_at: float | None = None  # helpers had their last KILL
        self._told: set[str] = set()  # pools that were told to leave
        self._reminded: set[int] = set()

    # -- questions -------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """No worker of the configuration's pools is left, and no run of a task."""
        return not any(pool.workers for pool in self._pools.at_work())

    def deadline(self) -> float | None:
        """When `plan` will next have something to say if nothing happens."""
        times = (self._remind_at, self._sweep_at(), self._phase_ends())
        return min((t for t in times if t is not None), default=None)

    def _phase_ends(self) -> float | None:
        match self.stop.phase:
            case Phase.ON_STOP:
                return self.stop.half
            case Phase.DRAIN_DELAY:
                return self._delay_until()
            case Phase.TERMINATE:
                waiting = [self._latest(pool) for pool in self._untold()]
                return min([self.stop.deadline, *waiting])
            case Phase.KILL:
                return self._inner_until() or self._killed_at + GIVE_UP_SECONDS
            case Phase.HELPERS:
                return self.stop.phase_began + GIVE_UP_SECONDS
        return None

    @property
    def _killed_at(self) -> float:
        """Since when all who are left are being killed; the inner pools later than others."""
        return max(self.stop.phase_began, self._dismissed_at or 0.0)

    def _inner_until(self) -> float | None:
        """Until when the inner pools stay, though nobody else is left: their work is not done."""
        if self.stop.phase is not Phase.KILL or not self.empty or self._dismissed_at is not None:
            return None
        soon = self.stop.phase_began + inner.STOP_SECONDS
        forced = self.stop.firmness is Firmness.FORCE
        if self._unwritten():  # a slow disk has the time that workers would have had
            return soon if forced else max(soon, self.stop.deadline)
        reader = self._pools.inner.get(inner.OUTPUT)
        lacks_reader = reader is not None and not reader.up  # it has died, and will come back
        return soon if lacks_reader and not forced else None

    def _delay_until(self) -> float:
        return min(self.stop.phase_began + self._drain_delay, self.stop.half)

    # -- the plan --------------------------------------------------------------

    def hurry(self) -> None:
        """The stop is forced: where nobody is left to kill, the hooks are left behind."""
        if self.stop.phase is Phase.ON_EXIT:
            self._moments["on_exit"].abandon()

    def plan(self, now: float, broken: Exit | None) -> Iterator[Action]:
        """Go down as far as possible; ``broken`` is the status of a master that could not go on."""
        stop = self.stop
        if stop.firmness is Firmness.FORCE and stop.phase in BEFORE_KILL:
            yield from self._force(now)
        if stop.phase is Phase.ANNOUNCE:
            self._announce(now)
            yield self._enter(Phase.ON_STOP, now)
        if stop.phase is Phase.ON_STOP:
            yield from self._run_on_stop(now)
            if self._hooks_at_work(now):
                return
            yield self._enter(Phase.DRAIN_DELAY, now)
        if stop.phase is Phase.DRAIN_DELAY:
            if now < self._delay_until() and not self.empty:
                return
            yield self._enter(Phase.TERMINATE, now)
            for pool in (*self._pools.leaving, *self._pools.runs.values()):
                pool.leave(now, stop.deadline, replace=False)
        if stop.phase is Phase.TERMINATE:
            self._tell_workers(now)
            yield from self._remind(now)
            if now < stop.deadline and not self.empty:
                return
            self._remind_at = None
            yield self._enter(Phase.KILL, now)
        yield from self._after_the_deadline(now, broken)

    def _after_the_deadline(self, now: float, broken: Exit | None) -> Iterator[Action]:
        stop = self.stop
        if stop.phase is Phase.KILL:
            if (until := self._inner_until()) is not None and now < until:
                return
            if self.empty:
                self._dismissed_at = now if self._dismissed_at is None else self._dismissed_at
                self._pools.dismiss(now, everyone=True)
            left = [w.name for pool in self._pools for w in pool.workers.values()]
            yield from self._give_up(left, now)
            if left and not stop.stuck:
                return
            yield self._enter(Phase.HELPERS, now)
            self.alone, self._swept_at = False, None
            yield Sweep(kill=False)
        if stop.phase is Phase.HELPERS:
            yield from self._sweep(now)
            if not self.alone and now < stop.phase_began + GIVE_UP_SECONDS:
                return
            yield self._enter(Phase.ON_EXIT, now)
        if stop.phase is Phase.ON_EXIT:
            moment = self._moments["on_exit"]
            yield from moment.plan(now)
            if not moment.done:
                return
            yield self._enter(Phase.DONE, now)
            status = stop.status(broken)
            yield Note("stop.report", None, stop.report(now, status))
            yield Finish(status)

    # -- the phases ------------------------------------------------------------

    def _enter(self, phase: Phase, now: float) -> Note:
        name, seconds = self.stop.enter(phase, now)
        return Note("stop.phase", None, {"phase": name, "seconds": round(seconds, 6), "next": phase.value})

    def _announce(self, now: float) -> None:
        self._pools.dismiss(now)
        for pool in self._pools.at_work():
            pool.hold()
            for worker in pool.workers.values():
                self.stop.farewells[worker.id] = Farewell(worker)
        for name in GOING_UP:
            self._moments[name].skip()

    def _run_on_stop(self, now: float) -> Iterator[Action]:
        for name in GOING_UP:  # one that was at work when the stop came has its time to end
            yield from self._moments[name].plan(now, self.stop.half)
        if not any(self._moments[name].running for name in GOING_UP):
            yield from self._moments["on_stop"].plan(now, self.stop.half)

    def _hooks_at_work(self, now: float) -> bool:
        if now >= self.stop.half:
            self._moments["on_stop"].skip()
            return False
        return not all(self._moments[name].done for name in (*GOING_UP, "on_stop"))

    def _untold(self) -> list[Pool]:
        return [pool for pool in self._pools.users.values() if pool.name not in self._told]

    def _followers(self, pool: Pool) -> list[Pool]:
        """Pools that come after this one, and so leave before it."""
        return [other for other in self._pools.users.values() if pool.name in other.settings.after]

    def _depth(self, pool: Pool) -> int:
        return 1 + max((self._depth(other) for other in self._followers(pool)), default=-1)

    def _latest(self, pool: Pool) -> float:
        """However slow its followers are, it is told in time to finish as well: each has its share."""
        depths = 1 + max(self._depth(other) for other in self._pools.users.values())
        began, share = self.stop.phase_began, self._depth(pool) / depths
        return began + (self.stop.deadline - began) * share

    def _tell_workers(self, now: float) -> None:
        """Those that nobody comes after any more; the last ones of the configuration first."""
        last_first = self._untold()[::-1]
        for pool in sorted(last_first, key=self._depth):  # stable, so of equal depth the last comes first
            left = [other for other in self._followers(pool) if other.workers or other.name not in self._told]
            if not left or now >= self._latest(pool):
                self._told.add(pool.name)
                self._remind_at = now + UNACKNOWLEDGED
                pool.leave(now, self.stop.deadline, replace=self.stop.firmness is Firmness.RESTART)

    def _remind(self, now: float) -> Iterator[Action]:
        if self._remind_at is None or now < self._remind_at:
            return
        self._remind_at = None
        told = [w for pool in self._pools.at_work() for w in pool.workers.values() if w.answers_stops]
        late = [w for w in told if w.asked_at is not None and now >= w.asked_at + UNACKNOWLEDGED]
        silent = [w for w in late if w.acknowledged_at is None and w.id not in self._reminded]
        self._reminded |= {w.id for w in silent}
        if silent:
            names = [worker.name for worker in silent]
            yield Note("stop.waiting", None, {"workers": names, "seconds": UNACKNOWLEDGED})

    def _force(self, now: float) -> Iterator[Action]:
        if self.stop.phase is Phase.ANNOUNCE:
            self._announce(now)
        for name in (*GOING_UP, "on_stop"):
            self._moments[name].abandon()
        for pool in self._pools.at_work():
            pool.force()
        self._remind_at = None
        yield self._enter(Phase.KILL, now)

    def _give_up(self, left: list[str], now: float) -> Iterator[Action]:
        if left and now >= self._killed_at + GIVE_UP_SECONDS:
            self.stop.stuck = True
            yield Note("stop.stuck", None, {"workers": left, "seconds": GIVE_UP_SECONDS})

    def _sweep(self, now: float) -> Iterator[Action]:
        if (at := self._sweep_at()) is not None and now >= at:
            self._swept_at = now
            yield Sweep(kill=True)

    def _sweep_at(self) -> float | None:
        """Helpers had their TERM when the phase began; after a second, or the deadline, KILL."""
        stop = self.stop
        if stop.phase is not Phase.HELPERS or self.alone:
            return None
        if self._swept_at is not None:
            return self._swept_at + AGAIN_SECONDS
        if stop.firmness is Firmness.FORCE:
            return stop.phase_began
        return min(stop.phase_began + HELPER_SECONDS, stop.deadline)
