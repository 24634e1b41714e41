"""What must hold after every plan, whatever happened before.

Knows the promises; recounts from the core's picture and from what was planned
before, and never looks at how the core came to its plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.decide.actions import Action, Dump, Finish, Kill, Quiet, Run, Start, Stop
from supervisor.decide.life import Life
from supervisor.decide.pool import FORKS_AT_ONCE, Pool
from supervisor.decide.stopping import Firmness, Phase
from supervisor.decide.worker import State

ONE_TURN = 0.002  # what a late dump is given before the kill


class Laws:
    """The promises, and the little that must be remembered to check them."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.seen: set[int] = set()  # numbers of all workers ever started
        self.asked: set[int] = set()
        self.dumped: dict[int, float] = {}
        self.killing: set[int] = set()  # whose end has begun: dumped or killed
        self.at_stop: set[int] | None = None  # who was alive when the stop was first planned
        self.finished = False

    def hold(self, plan: Sequence[Action], alive: set[int], now: float) -> None:
        """Assert all of them; ``alive`` is who was alive before the plan."""
        assert not self.finished, "a turn after the end"
        if self.life.stop and self.at_stop is None:
            self.at_stop = set(alive)
        self._a_plan_is_a_fixed_point(now)
        for action in plan:
            self._one_action(action, alive, now)
        self._the_stop_keeps_its_times(now)
        started = {a.worker for a in plan if isinstance(a, Start)}
        for pool in self.life.pools.values():
            counts_equal_a_recount(pool)
            slots_and_workers_agree(pool, now)
            workers_know_what_they_should(pool)
        known = {id for pool in self.life.pools.values() for id in pool.workers}
        assert known == alive | started, "the picture differs from the world"

    def _a_plan_is_a_fixed_point(self, now: float) -> None:
        again = self.life.plan(now)
        assert again == [], f"a second plan at the same time adds {again}"
        deadline = self.life.deadline()
        assert deadline is None or deadline > now, "it would spin"

    def _one_action(self, action: Action, alive: set[int], now: float) -> None:
        match action:
            case Start():
                self._a_start_is_allowed(action)
            case Stop(id) | Quiet(id) | Dump(id) | Kill(id):
                assert id in alive, f"{action} of a worker that is gone"
                self._nobody_is_killed_unwarned(action, now)
            case Run(moment):
                ups = ("import", "on_start", "on_ready")
                assert not (self.life.stop and moment in ups), f"{moment} begins during a stop"
            case Finish():
                self.finished = True
                self._the_report_is_complete(action)
            case _:
                pass

    def _the_report_is_complete(self, finish: Finish) -> None:
        stop = self.life.stop
        assert stop is not None
        assert stop.farewells.keys() == self.at_stop, "the report is of others than were alive"
        assert finish.status == stop.status(broken=self.life.broken)

    def _a_start_is_allowed(self, start: Start) -> None:
        life, pool = self.life, self.life.pools[start.pool]
        assert start.worker not in self.seen, "a number is used twice"
        self.seen.add(start.worker)
        assert life.stop is None, "a start during the stop"
        assert life.moments["import"].done, "a fork during the import"
        assert life.moments["on_start"].done, "a fork before on_start was over"
        assert not life.moments["on_ready"].running, "a fork while on_ready runs"
        assert not pool.parked, "a start in a parked pool"
        assert 0 <= start.slot < pool.slots.size, "a start beyond the wanted number"

    def _the_stop_keeps_its_times(self, now: float) -> None:
        stop = self.life.stop
        if stop is None:
            return
        if stop.phase in (Phase.ANNOUNCE, Phase.ON_STOP, Phase.DRAIN_DELAY):
            assert now < stop.half, "workers are not told though half the time is over"
        if stop.phase is not Phase.DONE and now >= stop.deadline:
            for pool in self.life.pools.values():
                due = pool.deadline()
                if any(w.state is not State.KILLED for w in pool.workers.values()):
                    assert due is not None, "somebody will never be killed"
                    assert due <= now + ONE_TURN, "somebody outlives the deadline"

    def _nobody_is_killed_unwarned(self, action: Stop | Quiet | Dump | Kill, now: float) -> None:
        id, stop = action.worker, self.life.stop
        if isinstance(action, Dump | Kill):
            self.killing.add(id)
        if isinstance(action, Stop):
            self.asked.add(id)
        elif isinstance(action, Dump):
            assert id not in self.dumped, "dumped twice"
            self.dumped[id] = now
            self._a_dump_has_a_reason(id, now)
        elif isinstance(action, Kill) and not (stop and stop.firmness is Firmness.FORCE):
            assert self.dumped.get(id, now) < now, "killed before its stacks could be written"

    def _a_dump_has_a_reason(self, id: int, now: float) -> None:
        pool = next(p for p in self.life.pools.values() if id in p.workers)
        worker, keys = pool.workers[id], pool.settings
        told = id in self.asked or worker.acknowledged_at is not None
        unready = worker.ready_at is None and now >= worker.born_at + keys.start_timeout
        silent = keys.watchdog is not None and now >= worker.beaten_at + keys.watchdog
        assert told or unready or silent, f"{worker.name} is to be killed without having been told"


def workers_know_what_they_should(pool: Pool) -> None:
    """Who works knows whether it is quiet; who leaves has no more than the pool's time for it."""
    for worker in pool.workers.values():
        assert worker.quiet == pool.quiet or worker.state is not State.READY
        if worker.state is State.STOPPING and not worker.dumped:
            told = max(t for t in (worker.asked_at, worker.acknowledged_at) if t is not None)
            assert worker.kill_at is not None
            assert worker.kill_at <= told + pool.settings.stop_timeout


def counts_equal_a_recount(pool: Pool) -> None:
    """The counts that are kept as things change are what a scan would find."""
    states = [w.state for w in pool.workers.values()]
    assert pool.forking == states.count(State.FORKING) <= FORKS_AT_ONCE
    assert pool.up == states.count(State.READY)
    assert pool.slots.finished == sum(slot.finished for _, slot in pool.slots)
    assert pool.restarts >= sum(slot.restarts for _, slot in pool.slots)


def slots_and_workers_agree(pool: Pool, now: float) -> None:
    """One worker a slot, no slot forgotten, and nobody beyond the wanted number who was not told."""
    held = {slot.worker: index for index, slot in pool.slots if slot.worker is not None}
    assert held == {w.id: w.slot for w in pool.workers.values()}
    beyond = [w for w in pool.workers.values() if w.slot >= pool.slots.size]
    leaving = [w for w in beyond if w.asked_at is not None or w.state is State.KILLED]
    assert leaving == beyond, "a worker too many, and nobody told it"
    for index, slot in pool.slots:
        retry_at = pool.slots.retry_at(index)
        assert slot.waiting == (retry_at is not None)
        waits = slot.waiting and retry_at is not None and (retry_at > now or not pool.may_start)
        busy = pool.forking >= FORKS_AT_ONCE or not pool.may_start
        assert slot.worker or slot.finished or waits or busy, f"slot {index} is forgotten"
