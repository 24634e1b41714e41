"""Which settings of a pool are wanted, which have proven themselves, and what a trial may do.

While new ones are tried, the gate is shut: nobody leaves for them.  Knows
settings, sizes and templates; knows no worker but by its generation.
"""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.decide.trial import Trial
from supervisor.decide.worker import Worker
from supervisor.settings import PoolSettings


class Generations:
    """The wanted one, and the last that stood its trial; mostly they are the same."""

    def __init__(self, settings: PoolSettings, generation: int) -> None:
        self.wanted = self.good = generation
        self.editions = {generation: settings}
        self.trial: Trial | None = None
        self.gate = True  # old workers may be told to leave
        self.templates: set[int] = set()  # those that have a template to fork from
        self.early = False  # the pools that this one comes after were not up yet
        self.alone = False  # the trial has nobody of the good generation beside it
        self._size_before: int | None = None  # what the trial may have enlarged
        self._size_after: int | None = None  # what takes effect with it

    @property
    def settings(self) -> PoolSettings:
        """Those of the wanted generation."""
        return self.editions[self.wanted]

    # -- a trial, from its beginning to its end ----------------------------------

    def adopt(self, generation: int, settings: PoolSettings, size: int) -> None:
        """Try these settings; so many slots there are."""
        before, after = self.editions[self.good].workers, settings.workers
        self._size_after = after if after != before else None
        self._size_before = size if after > size else None
        self.editions[generation], self.wanted, self.gate = settings, generation, False
        self.alone = False
        self.begin_trial()

    def left_alone(self, size: int, finished: int) -> bool:
        """Whether all slots have finished before anybody was tried, though there are to be more."""
        if self.gate or not finished == size < self.size(size):
            return False
        self.alone = True
        return True

    def begin_trial(self) -> None:
        """What workers of the wanted generation do is held against it."""
        self.trial = Trial(self.wanted, self.settings.stable_after)

    def roll(self, now: float, size: int) -> None:
        """Old workers may be told to leave; so many slots there are."""
        self.gate = True
        if self.trial:
            self.trial.roll(now, in_place=self.surge(size) == 0)

    def commit(self) -> None:
        """The wanted generation is the good one."""
        self.good, self.trial, self.editions = self.wanted, None, {self.wanted: self.settings}
        self.templates &= self.editions.keys()
        self.resized()

    def back(self) -> int | None:
        """The good generation is the wanted one; return the size to go back to, if it may have changed."""
        del self.editions[self.wanted]
        self.templates.discard(self.wanted)
        self.wanted, self.trial, self.gate = self.good, None, True
        size, self._size_before, self._size_after = self._size_before, None, None
        return size

    # -- sizes -------------------------------------------------------------------

    def size(self, present: int) -> int:
        """How many there are to be once the reload that goes on, if any, has worked."""
        return present if self._size_after is None else self._size_after

    def resized(self) -> None:
        """Somebody wants another size: that is the last word."""
        self._size_before = self._size_after = None

    def surge(self, size: int) -> int:
        """How many workers more than slots there may be, for replacement."""
        wish = self.settings.surge
        return wish if isinstance(wish, int) else max(1, -(-size * int(wish.rstrip("%")) // 100))

    # -- questions ---------------------------------------------------------------

    def may_fork(self, generation: int) -> bool:
        """Whether there is what it is forked from, and what it comes after."""
        if self.early and generation == self.wanted:
            return False
        return not self.editions[generation].preload or generation in self.templates

    def for_vacancy(self, serving: Mapping[int, int], surge: int, *, never_up: bool) -> int:
        """During a trial a few new ones are enough, all other places go to the proven generation."""
        few = serving.get(self.wanted, 0) < max(1, surge)
        # Where it never was at strength, the old one has proven nothing either.
        wished = self.gate or never_up or few
        return self.wanted if self.alone or (wished and self.may_fork(self.wanted)) else self.good

    def outdated(self, worker: Worker) -> bool:
        """It is to be replaced."""
        return worker.generation != self.wanted or worker.worn is not None

    def may_take_over(self, generation: int) -> bool:
        """Whether anybody may leave for one of this generation."""
        return self.gate or generation == self.good

    def proven_at(self, *, beside: bool) -> float | None:
        """When the trial will have been stood if nothing happens; None while nobody is ready.

        At once where nobody can be tried ``beside`` those who serve.
        """
        return self.trial.stable_at() if self.trial and beside else 0.0

    def why(self, worker: Worker) -> str:
        """Why it is replaced."""
        return worker.worn or f"generation {self.wanted} replaces it"
