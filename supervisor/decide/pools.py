"""All pools: those of the configuration, those that the master has for itself, and runs of tasks.

Finds the pool of a worker's number, keeps the order in which pools start, and
has the inner ones when they are needed.  Knows nothing of stops or reloads but
what it is told of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from supervisor.decide import inner
from supervisor.decide.actions import Action, Start
from supervisor.decide.pool import Pool
from supervisor.decide.worker import Worker
from supervisor.exits import End
from supervisor.settings import RUNS, PoolSettings, Settings
from supervisor.streams import Streams


def is_run(name: str) -> bool:
    """Whether a pool of this name is the run of a task."""
    return name.startswith(RUNS)


class Pools:
    """Everybody who works here."""

    def __init__(self, settings: Settings, random: Callable[[], float], streams: Streams) -> None:
        self._ids, self._random, self._streams = itertools.count(1), random, streams
        self._patience = settings.master.stop_timeout
        self._whose: dict[int, Pool] = {}
        self._state_file = settings.master.state_file
        self.inner: dict[str, Pool] = {}
        self.runs: dict[str, Pool] = {}  # of tasks: one worker each
        self.remembers = bool(settings.tasks)  # there are tasks, or were
        self.quiet = False
        self.leaving: list[Pool] = []  # no longer wanted, with workers that are not gone
        self.users = {name: self._new(pool) for name, pool in settings.pools.items()}
        self.staff(0.0)

    def _new(self, settings: PoolSettings, generation: int = 1) -> Pool:
        return Pool(settings, self._ids, self._random, generation)

    # -- questions -------------------------------------------------------------

    def __iter__(self) -> Iterator[Pool]:
        """All of them; the inner ones first."""
        yield from self.inner.values()
        yield from self.users.values()
        yield from self.runs.values()
        yield from self.leaving

    def of_users(self) -> list[Pool]:
        """Those of the configuration, also of the one before."""
        return [pool for pool in self.at_work() if not is_run(pool.name)]

    def at_work(self) -> list[Pool]:
        """Those that run the code of users: the same, and the runs of tasks."""
        return [pool for pool in self if not inner.is_inner(pool.name)]

    def whose(self, id: int) -> Pool | None:
        """The pool of a worker that is not gone."""
        return self._whose.get(id)

    def of_the_master(self) -> list[int]:
        """The workers of inner pools."""
        return [id for pool in self if inner.is_inner(pool.name) for id in pool.workers]

    def templates(self) -> Iterator[tuple[Pool, Pool, int]]:
        """Each template's pool, the pool that it is for, and the generation."""
        for pool in self.users.values():
            for generation in pool.editions:
                if template := self.inner.get(inner.template_name(pool.name, generation)):
                    yield template, pool, generation

    def template(self, pool: Pool) -> Pool | None:
        """The one that the pool's workers are forked from now, if it has one."""
        return self.inner.get(inner.template_name(pool.name, pool.generation))

    def before(self, pool: Pool) -> list[Pool]:
        """Those that a pool comes after."""
        return [self.users[name] for name in pool.settings.after if name in self.users]

    def deadline(self) -> float | None:
        """When `plan` will next have something to say if nothing happens."""
        return min((t for pool in self if (t := pool.deadline()) is not None), default=None)

    # -- facts -----------------------------------------------------------------

    def exited(self, id: int, end: End, now: float) -> None:
        """A worker was reaped, or could not be forked."""
        if pool := self._whose.pop(id, None):
            pool.exited(id, end, now)
            if pool.parked and inner.is_inner(pool.name):
                self._give_up_with(pool)

    def halted(self, id: int) -> None:
        """A worker of the master's own was stopped (SIGSTOP): others wait for it."""
        if pool := self._whose.get(id):
            pool.crew.halted(id)

    def _give_up_with(self, fallen: Pool) -> None:
        """Without its template no worker of a pool can be born."""
        for template, pool, generation in self.templates():
            if template is fallen and generation == pool.generation and not pool.parked:
                often = f"more than {template.settings.max_restarts} times in {template.settings.within:g} s"
                pool.experience.park(f"its template failed {often}")

    def condemn_template(self, worker: Worker) -> list[int]:
        """It was asked for ``worker`` and does not answer: its death, which is to follow, is the answer."""
        template = self.inner.get(inner.template_name(worker.pool, worker.generation))
        members = list(template.workers.values()) if template else []
        for one in members:
            one.killed = one.killed or f"it did not answer when it was asked for {worker.name}"
        return [one.id for one in members]

    # -- who is needed ---------------------------------------------------------

    def add(self, settings: PoolSettings, generation: int) -> Pool:
        """A further pool of the configuration, on trial."""
        pool = self.users[settings.name] = self._new(settings, generation)
        pool.hush(self.quiet)
        pool.begin_trial()
        return pool

    def add_run(self, settings: PoolSettings, generation: int) -> Pool:
        """A run of a task."""
        pool = self.runs[settings.name] = self._new(settings, generation)
        return pool

    def end_run(self, pool: Pool) -> None:
        """It is over."""
        if self.runs.get(pool.name) is pool:
            del self.runs[pool.name]

    def resize(self, pool: Pool, size: int, now: float) -> None:
        """Want so many workers in a pool of the configuration; one that is parked tries again."""
        pool.resize(size, now)
        self.try_templates(pool, now)

    def try_templates(self, pool: Pool, now: float) -> None:
        """Those of a pool that is not parked any more are not, either."""
        for template, whose, _ in self.templates():
            if whose is pool and template.parked:
                template.resize(1, now)

    def hush(self, on: bool) -> None:
        """Those of the configuration take no new work, or take work again."""
        self.quiet = on
        for pool in self.at_work():
            pool.hush(on)

    def read(self, generation: int) -> Pool:
        """Have somebody read the configuration."""
        pool = self.inner[inner.READER] = self._new(inner.reader(), generation)
        return pool

    def staff(self, now: float) -> None:
        """Have the inner pools that the others need now, and no others.

        The reader is the reload's; who reads output stays for those that still print as they did before.
        """
        wanted = {pool.name: (pool, generation) for pool, generation in self._needed()}
        for name, (settings, generation) in wanted.items():
            if name not in self.inner:
                self.inner[name] = self._new(settings, generation)
        for name in [name for name in self.inner if name not in (*wanted, inner.READER, inner.OUTPUT)]:
            self.retire(self.inner[name], now)

    def retire(self, pool: Pool, now: float, reason: str = "the pool is no longer wanted") -> None:
        """It is not wanted any more."""
        for pools in (self.users, self.inner, self.runs):
            if pools.get(pool.name) is pool:
                del pools[pool.name]
                self.leaving.append(pool)
                pool.retire(now, inner.STOP_SECONDS if inner.is_inner(pool.name) else None, reason)

    def dismiss(self, now: float, *, everyone: bool = False) -> None:
        """A stop has begun: who reads what workers print, and who writes the state, are needed to the end."""
        for pool in [pool for name, pool in self.inner.items() if everyone or name not in inner.TO_THE_END]:
            self.retire(pool, now)

    def _needed(self) -> Iterator[tuple[PoolSettings, int]]:
        editions = [edition for pool in self.users.values() for edition in pool.editions.values()]
        if self.remembers or inner.print_to_us(editions, self._streams):
            yield inner.output(self._patience), 1
        if self.remembers:
            yield inner.store(self._state_file), 1
        if inner.are_measured(editions):
            yield inner.meter(), 1
        for pool in self.users.values():
            for generation, edition in pool.editions.items():
                if edition.preload:
                    yield inner.template(edition, generation), generation

    # -- the plan --------------------------------------------------------------

    def news(self) -> list[Action]:
        """What facts brought about since the last plan."""
        return [action for pool in self for action in pool.news()]

    def take_over(self, now: float) -> None:
        """Heirs that are ready hold their slots from now on."""
        for pool in self:
            pool.take_over(now)

    def plan(self, now: float, *, held: bool, backwards: bool) -> list[Action]:
        """What all pools should do now; nothing is forked while ``held``."""
        self._look_at_templates()
        in_order = list(self)
        for pool in in_order:
            pool.paused, pool.generations.early = held, not self._may_follow(pool)
        plans = [self._ask(pool, now) for pool in (in_order[::-1] if backwards else in_order)]
        self.leaving = [pool for pool in self.leaving if pool.workers]
        return [action for plan in plans for action in plan]

    def _ask(self, pool: Pool, now: float) -> list[Action]:
        plan = pool.plan(now)
        self._whose.update((action.worker, pool) for action in plan if isinstance(action, Start))
        return plan

    def _may_follow(self, pool: Pool) -> bool:
        """Those that it comes after were at strength once."""
        return all(one.risen for one in self.before(pool))

    def _look_at_templates(self) -> None:
        for template, pool, generation in self.templates():
            if template.up:
                pool.generations.templates.add(generation)
            else:
                pool.generations.templates.discard(generation)
