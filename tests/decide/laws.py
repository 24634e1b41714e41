"""What must hold after every plan, whatever happened before.

Knows the promises; recounts from the core's picture and from what was planned
before, and never looks at how the core came to its plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from laws_of_pools import hold_of_one_pool
from laws_of_reload import ReloadLaws

from supervisor.decide.actions import Action, Dump, Finish, Kill, Quiet, Run, Start, Stop
from supervisor.decide.crew import MOST_HALTS
from supervisor.decide.inner import TO_THE_END, is_inner, template_name
from supervisor.decide.life import Life
from supervisor.decide.pool import Pool
from supervisor.decide.stopping import Firmness, Phase
from supervisor.decide.worker import State, Worker

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
        self.deadline: float | None = None  # of the life, after the plan
        self.reloads = ReloadLaws(life)

    def hold(self, plan: Sequence[Action], alive: set[int], now: float) -> None:
        """Assert all of them; ``alive`` is who was alive before the plan."""
        assert not self.finished, "a turn after the end"
        if self.life.stop and self.at_stop is None:
            whose = {w.id: pool.name for pool in self.life.everybody for w in pool.workers.values()}
            self.at_stop = {id for id in alive if not is_inner(whose[id])}
        self._a_plan_is_a_fixed_point(now)
        for action in plan:
            self._one_action(action, alive, now)
        self._the_stop_keeps_its_times(now)
        started = {a.worker for a in plan if isinstance(a, Start)}
        for pool in self.life.everybody:
            hold_of_one_pool(pool, now)
        assert all(pool.crew.quiet == self.life.quiet for pool in self.life.pools.values())
        self.reloads.hold(plan, now)
        known = {id for pool in self.life.everybody for id in pool.workers}
        assert known == alive | started, "the picture differs from the world"

    def _a_plan_is_a_fixed_point(self, now: float) -> None:
        again = self.life.plan(now)
        assert again == [], f"a second plan at the same time adds {again}"
        self.deadline = self.life.deadline()
        assert self.deadline is None or self.deadline > now, "it would spin"

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
        life, pool = self.life, self.life.whose(start.worker)
        assert pool is not None
        assert start.worker not in self.seen, "a number is used twice"
        self.seen.add(start.worker)
        assert life.stop is None or start.pool in TO_THE_END, "a start during the stop"
        assert life.moments["import"].done, "a fork during the import"
        assert life.moments["on_start"].done, "a fork before on_start was over"
        assert not life.moments["on_ready"].running, "a fork while on_ready runs"
        assert not pool.parked, "a start in a parked pool"
        assert not pool.retired, "a start in a pool that is no longer wanted"
        assert 0 <= start.slot < pool.slots.size, "a start beyond the wanted number"
        assert start.generation in (pool.generation, pool.good), "a start of a generation that was given up"
        template = life.everybody.inner.get(template_name(pool.name, start.generation))
        assert not pool.editions[start.generation].preload or (template and template.up)

    def _the_stop_keeps_its_times(self, now: float) -> None:
        stop = self.life.stop
        if stop is None:
            return
        if stop.phase in (Phase.ANNOUNCE, Phase.ON_STOP, Phase.DRAIN_DELAY):
            assert now < stop.half, "workers are not told though half the time is over"
        if stop.phase is not Phase.DONE and now >= stop.deadline:
            for pool in self.life.everybody.at_work():
                due = pool.deadline()
                if any(w.state is not State.KILLED for w in pool.workers.values()):
                    assert due is not None, "somebody will never be killed"
                    assert due <= now + ONE_TURN, "somebody outlives the deadline"

    def _nobody_is_killed_unwarned(self, action: Stop | Quiet | Dump | Kill, now: float) -> None:
        id, stop = action.worker, self.life.stop
        if isinstance(action, Dump | Kill):
            self.killing.add(id)
        if isinstance(action, Stop):
            assert id not in self.asked, "told twice"
            assert self._worker(id).pid is not None, "nobody is there to be told"
            self.asked.add(id)
            self._followers_leave_first(id, now)
        elif isinstance(action, Dump):
            assert id not in self.dumped, "dumped twice"
            self.dumped[id] = now
            self._a_dump_has_a_reason(id, now)
        elif isinstance(action, Kill) and self._worker(id).halts >= MOST_HALTS:
            assert id in self.life.everybody.of_the_master(), "a worker was killed for having been stopped"
        elif isinstance(action, Kill) and not (stop and stop.firmness is Firmness.FORCE):
            assert self.dumped.get(id, now) < now, "killed before its stacks could be written"

    def _a_dump_has_a_reason(self, id: int, now: float) -> None:
        worker = self._worker(id)
        keys = worker.settings
        told = id in self.asked or worker.acknowledged_at is not None
        unready = worker.ready_at is None and now >= worker.born_at + keys.start_timeout
        silent = keys.watchdog is not None and now >= worker.beaten_at + keys.watchdog
        assert told or unready or silent, f"{worker.name} is to be killed without having been told"

    def _worker(self, id: int) -> Worker:
        return next(pool.workers[id] for pool in self.life.everybody if id in pool.workers)

    def _followers_leave_first(self, id: int, now: float) -> None:
        """In the stop, those who come after a pool are gone, or late, before it is told."""
        stop, pool = self.life.stop, self.life.pools.get(self._worker(id).pool)
        if stop is None or stop.phase is not Phase.TERMINATE or pool is None or pool.retired:
            return
        followers = [other for other in self.life.pools.values() if pool.name in other.settings.after]
        if self._worker(id).slot >= pool.slots.size:  # people wanted fewer in the same instant
            return
        for worker in [w for other in followers for w in other.workers.values()]:
            told = worker.asked_at is not None or worker.state is State.KILLED
            assert told, "told before those that come after it"
            depths = [self._depth(other) for other in self.life.pools.values()]
            share = (stop.deadline - stop.phase_began) * self._depth(pool) / (1 + max(depths))
            assert now >= stop.phase_began + share, "told while those that come after it have time"

    def _depth(self, pool: Pool) -> int:
        """How long the longest chain of those is that come after it."""
        followers = [other for other in self.life.pools.values() if pool.name in other.settings.after]
        return max((1 + self._depth(other) for other in followers), default=0)
