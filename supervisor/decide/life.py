"""The whole life: all pools, the way up, reloads, and the way down.

::

    ascent.py -> running
        |___________|
              | a stop was asked for
              v  descent.py

Every fact and every wish goes through here, so that a worker's number finds its
pool and a stop finds everything.  Knows nothing of signals, sockets or
processes; times are monotonic seconds that it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from supervisor.decide.actions import Action, KillGroup, Note
from supervisor.decide.ascent import Ascent, moments
from supervisor.decide.deadlines import Deadlines
from supervisor.decide.descent import HELPER_SECONDS, Descent
from supervisor.decide.opening import Opening
from supervisor.decide.pool import Pool
from supervisor.decide.pools import Pools, is_run
from supervisor.decide.reload import Reload, Stage
from supervisor.decide.stopping import Firmness, Stopping
from supervisor.decide.task_actions import Ask, Reply, Save
from supervisor.decide.task_runs import TaskRuns
from supervisor.decide.tasks import Tasks
from supervisor.exits import End, Exit
from supervisor.settings import Settings
from supervisor.stored import Stored
from supervisor.streams import Streams

Plan = list[Action | Save | Ask | Reply]


class Life:
    """What the master should do next, from its first fork to its last breath."""

    def __init__(
        self,
        settings: Settings,
        random: Callable[[], float],
        streams: Streams = ("", ""),
        tasks: Tasks | None = None,
    ) -> None:
        self.configuration, self.settings = settings, settings.master
        self.everybody = Pools(settings, random, streams)
        self.opening = Opening(self.settings.stop_timeout)
        self.tasks = tasks or Tasks({}, {}, lambda *_: None, random, now=0.0, wall=0.0)
        self.runs = TaskRuns(self.tasks, self.everybody, settings.master.stop_timeout)
        self.generation = self._newest = 1
        self.reload: Reload | None = None
        self.reloads = 0  # that have begun
        self._wished: tuple[str, str | None] | None = None  # a reload: the reason, and by whom
        self.moments = moments(self.settings.hook_timeout)
        self.ascent = Ascent(self.everybody, self.moments, self.opening)
        self.descent: Descent | None = None
        self.quiet = False
        self.broken: Exit | None = None  # the status of a master that cannot go on
        self._groups: Deadlines[int] = Deadlines()  # what outlived its worker
        self._news: list[Action] = []

    # -- facts -----------------------------------------------------------------

    @property
    def pools(self) -> dict[str, Pool]:
        """Those of the configuration, by name."""
        return self.everybody.users

    def whose(self, id: int) -> Pool | None:
        """The pool of a worker that is not gone."""
        return self.everybody.whose(id)

    def clock(self, now: float, wall: float) -> None:
        """How the clocks stand: in every turn, before anything else."""
        self.tasks.clock(now, wall)

    def exited(self, id: int, end: End, now: float, *, lines_follow: bool = False) -> None:
        """A worker was reaped, or could not be forked; its last lines are still to come, or not."""
        if (pool := self.whose(id)) and is_run(pool.name):
            self.runs.exiting(pool.workers[id], end, now, lines_follow=lines_follow)
        if self.descent and (farewell := self.descent.stop.farewells.get(id)) and farewell.gone_at is None:
            farewell.gone_at, farewell.end = now, end
        self.everybody.exited(id, end, now)

    def outlived(self, group: int, now: float) -> None:
        """A worker is gone and others of its process group are not; they have had TERM."""
        self._groups.set(group, now + HELPER_SECONDS)

    def alone(self) -> None:
        """No child is left, known or adopted."""
        if self.descent:
            self.descent.alone = True

    def imported(self, counts: dict[str, int]) -> None:
        """How many hooks the master has for each moment."""
        for name, count in counts.items():
            self.moments[name].count = count

    def hook_ended(self, moment: str, index: int, error: str | None) -> None:
        """A hook of the master's returned, or raised ``error``."""
        self.moments[moment].ended(index, error)

    def prepared(
        self, settings: Settings, changed: list[str], stored: Mapping[str, Stored] = MappingProxyType({})
    ) -> None:
        """The configuration was read again, and what it needs is open."""
        if self.reload:
            self.reload.prepared(settings, changed, stored)

    def refused(self, error: str) -> None:
        """The configuration cannot be read again, or what it needs cannot be opened."""
        if self.reload:
            self.reload.refused(error)

    def thawed(self, now: float) -> None:
        """The master did not run for a while, so it could hear nobody."""
        for pool in self.everybody:
            pool.thawed(now)

    # -- wishes ----------------------------------------------------------------

    def ask(self, firmness: Firmness, reason: str, now: float, by: str | None = None) -> None:
        """A stop was asked for; a firmer one changes how the present one ends.

        ``reason`` is a signal's name, also where a command means the same; ``by`` then says so.
        """
        if self.descent and firmness is Firmness.FORCE:
            self.descent.hurry()
        if self.descent is None:
            seconds = self.settings.stop_timeout
            stop = Stopping(firmness, reason, now, now + seconds, now + seconds / 2, phase_began=now)
            delay = self.settings.drain_delay
            self.tasks.stop()
            self.descent = Descent(stop, self.everybody, self.moments, delay, lambda: self.runs.unwritten)
        elif firmness > self.descent.stop.firmness:
            self.descent.stop.firmness, self.descent.stop.reason = firmness, reason
        else:
            self._news.append(Note("signal.ignored", None, {"signal": reason, "reason": "already stopping"}))
            return
        left = max(0.0, self.descent.stop.deadline - now)
        self._news.append(Note("master.stopping", None, {"reason": reason, "by": by, "seconds": left}))

    def interrupt(self, reason: str, now: float) -> None:
        """INT: a stop; when one goes on already, force it."""
        self.ask(Firmness.FORCE if self.descent else Firmness.STOP, reason, now)

    def fail(self, reason: str, now: float, status: Exit = Exit.FAILED) -> None:
        """The master itself cannot go on: leave in order, with this status."""
        self.broken = status if self.broken is None else self.broken
        if self.descent is None:
            self.ask(Firmness.STOP, reason, now)

    def hush(self, on: bool) -> None:
        """Quiet, or un-quiet."""
        if self.descent is None and on is not self.quiet:
            self.quiet = on
            self._news.append(Note("master.quiet" if on else "master.unquiet"))
            self.everybody.hush(on)
            self.tasks.hush(on)

    def renew(self, reason: str, by: str | None = None) -> int:
        """Reload; return the number of the reload that will have read the file after now.

        Wishes during one merge into one more after it.
        """
        if self.descent is None:
            if self._wished is None and self.reload is not None:
                self._news.append(Note("reload.queued", None, {"reason": reason, "reload": self.reloads + 1}))
            self._wished = (reason, by)
        else:
            self._news.append(Note("signal.ignored", None, {"signal": reason, "reason": "already stopping"}))
        return self.reloads + 1

    def resize(self, pool: Pool, size: int, now: float) -> None:
        """Want so many workers in ``pool``; one that is parked tries again."""
        if self.descent is None:
            fields = {"pool": pool.name, "workers": size, "before": pool.slots.size}
            self._news.append(Note("pool.scaled", None, fields))
            self.everybody.resize(pool, size, now)

    # -- questions -------------------------------------------------------------

    @property
    def was_ready(self) -> bool:
        """Everybody was up once."""
        return self.ascent.was_ready

    @property
    def stop(self) -> Stopping | None:
        """The stop that goes on, if one does."""
        return self.descent.stop if self.descent else None

    @property
    def state(self) -> str:
        """As ``status`` shows it."""
        if self.descent:
            return "restarting" if self.descent.stop.firmness is Firmness.RESTART else "stopping"
        if not self.was_ready:
            return "starting"
        if self.reload:
            return "reloading"
        return "quiet" if self.quiet else "running"

    def deadline(self) -> float | None:
        """When `plan` will next have something to say if nothing happens."""
        due = [self.everybody.deadline(), self._groups.earliest(), *(m.until for m in self.moments.values())]
        due += [self.tasks.deadline(), self.runs.deadline()]
        if self.descent:
            due.append(self.descent.deadline())
        else:
            due += [self.opening.deadline(), self.reload.deadline() if self.reload else None]
        return min((t for t in due if t is not None), default=None)

    # -- the plan --------------------------------------------------------------

    def plan(self, now: float) -> Plan:
        """What to do now.  Asked again at the same time, it has nothing to add."""
        facts = self.everybody.news()
        self.runs.heard(facts)
        self.runs.look(now)
        rise = [] if self.descent else list(self._rise(now))
        descent = list(self._descend(now)) if self.descent else []
        pools = list(self._plan_pools(now))
        news, self._news = self._news, []
        return [*news, *facts, *map(KillGroup, self._groups.due(now)), *descent, *pools, *rise]

    def _descend(self, now: float) -> Iterator[Action]:
        if self.descent is None:
            return
        if self.reload:
            yield from self.reload.abandon(f"the master is stopping: {self.descent.stop.reason}")
            self.reload = None
        if self._wished:
            yield Note("signal.ignored", None, {"signal": self._wished[0], "reason": "already stopping"})
            self._wished = None
        yield from self.descent.plan(now, self.broken)

    def _plan_pools(self, now: float) -> Iterator[Action | Save | Ask | Reply]:
        """How far the reload goes decides what pools start; what they start does not bring it further."""
        before = None
        while before != (before := self._progress()):
            self.everybody.take_over(now)
            yield from self._renew(now)
            if self._progress() != before and not self.descent:
                yield from self._rise(now)
        yield from self.runs.plan(now)
        held, backwards = self.ascent.holds_forks, self.descent is not None
        yield from self.everybody.plan(now, held=held, backwards=backwards)

    def _progress(self) -> tuple[int, object]:
        return self.reloads, self.reload.progress if self.reload else None

    def _renew(self, now: float) -> Iterator[Action]:
        """The reload that goes on, or the next one."""
        if self.reload is None and self._wished and not self.descent and not self.ascent.holds_forks:
            yield self._begin_reload(*self._wished, now)
        if self.reload:
            yield from self.reload.plan(now)
            if self.reload.stage in (Stage.CLEARING, Stage.DONE):
                self._take_over(self.reload, now)
            if self.reload.over:
                self.reload = None

    def _begin_reload(self, reason: str, by: str | None, now: float) -> Note:
        self._wished = None
        self.reloads, self._newest = self.reloads + 1, self._newest + 1
        self.reload = Reload(self.reloads, self._newest, self.everybody, now)
        fields = {"reload": self.reloads, "reason": reason, "by": by, "generation": self._newest}
        return Note("reload.started", None, fields)

    def _take_over(self, reload: Reload, now: float) -> None:
        """What the new configuration says of the master itself holds from now on."""
        if reload.settings is None or self.generation == reload.generation:
            return
        before, self.configuration = self.configuration, reload.settings
        self.generation, self.settings = reload.generation, self.configuration.master
        other_hooks = self.configuration.hooks != before.hooks
        self.ascent.renew(self.settings.hook_timeout, other_hooks=other_hooks)
        self._take_tasks_over(reload, now)

    def _take_tasks_over(self, reload: Reload, now: float) -> None:
        self.runs.generation, self.runs.stop_timeout = self.generation, self.settings.stop_timeout
        self.tasks.configure(self.configuration.tasks, reload.stored)
        self.everybody.remembers |= bool(self.configuration.tasks)
        self.everybody.staff(now)

    def _rise(self, now: float) -> Iterator[Action]:
        yield from self.ascent.plan(now)
        if aborted := self.ascent.aborted:
            self._news.append(Note("start.aborted", None, {"reason": aborted.reason}))
            self.fail(f"{aborted.step} failed", now, aborted.status)
        elif self.ascent.gave_up:
            self.ask(Firmness.GAVE_UP, "gave up", now)
