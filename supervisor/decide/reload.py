"""One reload: from the wish to new workers everywhere, or back to the old ones.

::

    reading -> preparing -> trying -> rolling -> watching -> clearing -> done
       |           |           |         |          |
       +-----------+-----------+---------+----------+--> failed: the last good generation goes on

While it tries, new workers stand beside the old ones and nobody is told to
leave.  Only when the first new worker of every pool has been ready for long
enough do old ones leave, each after its heir is ready, and those of a pool that
comes `after` others when these have rolled.  Where that takes less than half of
`stable_after`, they are watched for the rest of that half, but no longer than
until the last of them has been ready for `stable_after`.  A new worker that
fails before that takes everything back.  Knows pools and generations; knows
nothing of files, sockets or processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from supervisor.decide import inner
from supervisor.decide.actions import Action, Commit, Note, Prepare, Undo
from supervisor.decide.pool import Pool
from supervisor.decide.pools import Pools, is_run
from supervisor.settings import Settings
from supervisor.stored import Stored


class Stage(Enum):
    """How far it is."""

    READING = "reading"
    PREPARING = "preparing"
    TRYING = "trying"
    ROLLING = "rolling"
    WATCHING = "watching"
    CLEARING = "clearing"
    DONE = "done"
    FAILED = "failed"


TRIED = (Stage.TRYING, Stage.ROLLING, Stage.WATCHING)  # there are workers that may fail


class Reload:
    """Walks through its stages, as far as what each waits for is true."""

    def __init__(self, number: int, generation: int, pools: Pools, now: float) -> None:
        self.number, self.generation, self.began = number, generation, now
        self.stage = Stage.READING
        self.error: str | None = None
        self.settings: Settings | None = None
        self.stored: Mapping[str, Stored] = {}  # what is remembered of its tasks, where that is news
        self.changed: list[str] = []  # keys that differ, for people
        self._pools = pools
        self._new: list[Pool] = []  # pools that only this generation has
        self._reader = pools.read(generation)
        self._leaving: list[int] = []  # old workers that are waited for at the end
        self._rolling = 0  # pools that were told to
        self._watched_until: float | None = None  # while that time has not come

    @property
    def progress(self) -> tuple[Stage, int]:
        """What changes when it gets further."""
        return self.stage, self._rolling

    @property
    def over(self) -> bool:
        """Nothing more will come of it."""
        return self.stage in (Stage.DONE, Stage.FAILED)

    # -- facts -----------------------------------------------------------------

    def prepared(self, settings: Settings, changed: list[str], stored: Mapping[str, Stored]) -> None:
        """The configuration is right, and all that it needs is open."""
        if self.stage is Stage.PREPARING:
            self.settings, self.changed, self.stored = settings, changed, stored

    def refused(self, error: str) -> None:
        """The configuration has mistakes, or something cannot be opened."""
        if self.stage is Stage.PREPARING:
            self.error = error

    def deadline(self) -> float | None:
        """When the new workers will have proven themselves, if that is what is waited for."""
        if self.stage is not Stage.TRYING:
            return self._watched_until
        times = [pool.proven_at() for pool in self._tried()]
        return None if None in times else max((t for t in times if t is not None), default=None)

    # -- the plan --------------------------------------------------------------

    def plan(self, now: float) -> Iterator[Action]:
        """Go on as far as possible."""
        if self.stage is Stage.READING and self._reader.slots.finished:
            self._pools.retire(self._reader, now)
            self.stage = Stage.PREPARING
            yield Prepare(self.generation)
        if self.stage in (Stage.PREPARING, *TRIED) and self._failure():
            yield from self._fail(str(self._failure()), now)
        if self.stage is Stage.PREPARING and self.settings is not None:
            self._try(self.settings, now)
        if self.stage is Stage.TRYING and self._proven(now):
            self.stage = Stage.ROLLING
        if self.stage is Stage.ROLLING:
            self._roll(now)
        if self.stage is Stage.ROLLING and self._rolled():
            yield from self._watch(now)
        if self.stage is Stage.WATCHING and self._stood(now):
            self._commit(now)
            yield Commit(self.generation)
        if self.stage is Stage.CLEARING and self._cleared():
            self.stage = Stage.DONE
            fields = {"reload": self.number, "generation": self.generation, "changed": self.changed}
            yield Note("reload.done", None, {**fields, "seconds": now - self.began})

    def abandon(self, error: str) -> Iterator[Action]:
        """Something firmer came; everything ends with it."""
        if not self.over:
            self.stage = Stage.FAILED
            yield self._told(error)

    def _tried(self) -> list[Pool]:
        return [pool for pool in self._pools.users.values() if pool.trial]

    def _failure(self) -> str | None:
        if self.error is not None:
            return self.error
        trials = [pool.trial for pool in self._pools if pool.trial]
        return next((trial.failure for trial in trials if trial.failure), None)

    def _proven(self, now: float) -> bool:
        times = [pool.proven_at() for pool in self._tried()]
        return all(t is not None and t <= now for t in times)

    def _roll(self, now: float) -> None:
        """One after the other where they depend on each other: with surge = 0 the first is away meanwhile."""
        for pool in self._tried():
            if not pool.generations.gate and all(before.rolled for before in self._pools.before(pool)):
                pool.roll(now)
                self._rolling += 1

    def _rolled(self) -> bool:
        return all(pool.rolled for pool in self._tried())

    def _watch(self, now: float) -> Iterator[Action]:
        """Everybody is new; who comes later does not make longer what is left of the trial, if any is."""
        self.stage = Stage.WATCHING
        until = max((pool.trial.watched_until() for pool in self._tried() if pool.trial), default=now)
        if until > now:
            self._watched_until = until
            fields = {"reload": self.number, "generation": self.generation, "seconds": until - now}
            yield Note("reload.rolled", None, fields)

    def _stood(self, now: float) -> bool:
        """They were watched for long enough, and nobody is missing."""
        if self._watched_until is not None and self._watched_until <= now:
            self._watched_until = None
        return self._watched_until is None and self._rolled()

    def _try(self, settings: Settings, now: float) -> None:
        self.stage = Stage.TRYING
        for name, edition in settings.pools.items():
            pool = self._pools.users.get(name)
            if pool is not None:
                pool.adopt(self.generation, edition)
            else:
                self._new.append(self._pools.add(edition, self.generation))
        self._pools.staff(now)
        self._watch_templates()

    def _watch_templates(self) -> None:
        """One that does not come up is a failure of this generation."""
        for template, _, generation in self._pools.templates():
            if generation == self.generation:
                template.begin_trial()

    def _commit(self, now: float) -> None:
        self.stage = Stage.CLEARING
        for pool in list(self._pools):
            if pool.trial:
                pool.commit(now)
            elif not (inner.is_inner(pool.name) or is_run(pool.name)):
                self._pools.retire(pool, now)
        self._pools.staff(now)
        everybody = [w for pool in self._pools.of_users() for w in pool.workers.values()]
        self._leaving = [w.id for w in everybody if w.leaving or w.asked_at is not None]

    def _cleared(self) -> bool:
        """Those who were leaving when it took effect are gone."""
        while self._leaving and self._pools.whose(self._leaving[-1]) is None:
            self._leaving.pop()
        return not self._leaving

    def _fail(self, error: str, now: float) -> Iterator[Action]:
        tried = self.stage in TRIED
        self.stage, self._watched_until = Stage.FAILED, None
        if tried:
            self._go_back(now)
            yield Undo(self.generation)
        yield self._told(error)

    def _go_back(self, now: float) -> None:
        for pool in self._tried():
            if pool in self._new:
                self._pools.retire(pool, now)
            else:
                pool.back(now)
                self._pools.try_templates(pool, now)
        self._pools.staff(now)

    def _told(self, error: str) -> Note:
        fields = {"reload": self.number, "generation": self.generation, "error": error}
        return Note("reload.failed", None, fields)
