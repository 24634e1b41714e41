"""All tasks: which moments have come, which runs begin, what is stored and answered.

Facts go in, `plan` returns what is to be done; asked again at the same time it
has nothing to add.  The master tells `clock` how the clocks stand whenever it
turns: due times are wall times, see `moments`.

Only what people command waits for the store, see `orders`; what is due never
does.  A turn costs what changed, not how many tasks there are.  What one task does
in which state is in `task`; knows nothing of processes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from supervisor.decide.actions import Note
from supervisor.decide.ledger import Ledger
from supervisor.decide.moments import Moments
from supervisor.decide.orders import Orders, Pausing, Resuming, Running
from supervisor.decide.picture import picture
from supervisor.decide.questions import Questions
from supervisor.decide.recall import recall, told
from supervisor.decide.register import Register
from supervisor.decide.run import Ended, Want, never, waiting_row
from supervisor.decide.runs import Runs
from supervisor.decide.schedule import Calendar, Schedule
from supervisor.decide.standing import State
from supervisor.decide.task import Task
from supervisor.decide.task_actions import TaskAction
from supervisor.exits import End
from supervisor.settings import TaskSettings
from supervisor.stored import RunRow, Stored, TaskRow

Plan = list[TaskAction]


class Tasks:
    """Those of the configuration; and the runs of those that were removed."""

    def __init__(
        self,
        settings: Mapping[str, TaskSettings],
        stored: Mapping[str, Stored],
        calendar: Calendar,
        random: Callable[[], float],
        *,
        now: float,
        wall: float,
    ) -> None:
        self.tasks: dict[str, Task] = {}
        self.stopping = self.quiet = False
        self._schedule = partial(Schedule, calendar=calendar, random=random)
        self._moments = Moments(now, wall)
        self._runs = Runs()
        self._news: list[Note] = []
        tokens = itertools.count(1)
        self._ledger, self._questions = Ledger(tokens), Questions(tokens)
        self._register = Register(self._ledger)
        self._orders = Orders(self.tasks, self._ledger, self._begin_by_hand, self._let_go)
        self.configure(settings, stored)

    # -- questions -------------------------------------------------------------

    def list(self) -> dict[str, dict[str, Any]]:
        """Every task as people see it, see `picture`; where nothing can be stored, each says so."""
        not_stored = {"not_stored": trouble} if (trouble := self.trouble) else {}
        return {name: picture(task, quiet=self.quiet) | not_stored for name, task in self.tasks.items()}

    def may_begin(self, run: int) -> bool:
        """Whether a run that is not forked yet may still be."""
        return (found := self._runs.find(run)) is None or not self._held(found[1].want)

    def deadline(self) -> float | None:
        """When `plan` will next have something to say if nothing happens."""
        parts = (self._orders, self._ledger, self._questions, self._runs)
        times = [part.deadline() for part in parts]
        if not self.stopping:
            times.append(self._moments.earliest())
        return min((t for t in times if t is not None), default=None)

    @property
    def unwritten(self) -> bool:
        """Something is to be stored, or on its way, and has not just failed to be."""
        return self._ledger.unwritten(self._moments.now)

    @property
    def trouble(self) -> dict[str, Any] | None:
        """Since when and why nothing can be stored, where that is so."""
        return self._ledger.trouble

    def left(self) -> dict[str, Any] | None:
        """At the end of the master: what was not stored."""
        return self._ledger.left()

    # -- facts -----------------------------------------------------------------

    def clock(self, now: float, wall: float) -> None:
        """How the clocks stand.  To be told in every turn, before anything else."""
        if self._moments.clock(now, wall):
            for task in self.tasks.values():
                task.clock_set(wall)
                self._settle(task)

    def started(self, run: int, pid: int) -> None:
        """A run was forked."""
        self._news += self._runs.started(run, pid, self._moments.now)

    def delayed(self, run: int, error: str) -> None:
        """A run could not be forked, and is tried again: people are told once."""
        self._news += self._runs.delayed(run, error, self._moments.now)

    def ended(
        self,
        task: str,
        run: int,
        outcome: str,
        *,
        code: int | None = None,
        signal: int | None = None,
        seconds: float | None = None,
        lines: Iterable[str] = (),
        error: str | None = None,
        reason: str | None = None,
    ) -> None:
        """A run is over, or could not be forked (``error``); outcomes are in `run`.

        ``reason`` is why it ended so, where more is known than its end says.
        """
        if (found := self._runs.find(run)) is None:
            return
        its, its_run = found
        assert its.name == task
        self._runs.over(run)
        how = Ended(outcome, End(code, signal, error), seconds, tuple(lines), reason).judged(its_run)
        self._ledger.write(how.row(its_run))
        its.ended(its_run, how, self._moments.wall)
        self._settle(its)

    def unborn(self, run: int) -> None:
        """A run that was to begin may not any more, and was not forked: what it was for stays due."""
        if (found := self._runs.find(run)) is None:
            return
        its, its_run = found
        self._runs.over(run)
        self._skip(its_run.row(), its_run.unborn("stopping" if self.stopping else "quiet"))
        its.unborn(its_run, self._moments.wall)
        self._settle(its)

    def saved(self, token: int) -> None:
        """All rows of a `Save` are on the disk."""
        self._ledger.saved(token, self._moments.now)
        self._orders.saved(token, self._moments.wall)

    def unsaved(self, token: int, why: str) -> None:
        """None of them is; or a question to the history has no answer."""
        self._questions.failed(token, why)
        self._ledger.unsaved(token, why, self._moments.now, self._moments.wall)
        self._orders.unsaved(token, why)

    def answered(self, token: int, rows: Iterable[Mapping[str, Any]], whole: int | None = None) -> None:
        """What the history holds; ``whole``, where that is not all."""
        self._questions.answered(token, rows, whole)

    # -- commands --------------------------------------------------------------

    def pause(
        self,
        request: Hashable,
        names: Iterable[str],
        *,
        all: bool = False,
        seconds: float | None = None,
        reason: str | None = None,
        by: str | None = None,
    ) -> None:
        """Pause some tasks, or all; for so long, or until they are resumed."""
        self._orders.take(Pausing(request, tuple(names), all, seconds, reason, by), self._moments.now)

    def resume(
        self, request: Hashable, names: Iterable[str], *, all: bool = False, by: str | None = None
    ) -> None:
        """End the pause or the error of some tasks, or of all."""
        self._orders.take(Resuming(request, tuple(names), all, by), self._moments.now)

    def run(self, request: Hashable, name: str, by: str | None = None) -> None:
        """Run a task now, in whatever state it is."""
        self._orders.take(Running(request, name, by), self._moments.now)

    def history(self, request: Hashable, name: str, limit: int = 20, before: int | None = None) -> None:
        """The last runs of a task, also of one that was removed."""
        self._questions.ask(request, {"task": name, "limit": limit, "before": before}, self._moments.now)

    def configure(
        self, settings: Mapping[str, TaskSettings], stored: Mapping[str, Stored] = MappingProxyType({})
    ) -> None:
        """These are the tasks from now on; ``stored``, where the state file was not known before."""
        wall = self._moments.wall
        self._runs.go_on_from(max((one.next_run for one in stored.values()), default=1))
        self._news += self._register.learn(stored)
        for name in [name for name in self.tasks if name not in settings]:
            self._moments.set(name, None)
            self._never(gone := self.tasks.pop(name), "the task was removed")
            gone.removed()
            self._settle(gone)
            self._register.forget(gone.row(), wall)
        for name, its in settings.items():
            if name in self.tasks:
                self.tasks[name].configured(its, self._schedule(its), wall)
            else:
                self.tasks[name] = recall(its, self._schedule(its), stored.get(name), wall)
                self._runs.take_over(self.tasks[name])
            self._settle(self.tasks[name])
        for name in stored.keys() - settings.keys():
            self._register.forget(stored[name].task, wall)

    def hush(self, on: bool) -> None:
        """Nothing begins by itself while it is quiet; what came due meanwhile was late, or missed."""
        self.quiet = on
        for task in self.tasks.values():
            self._settle(task)

    def stop(self) -> None:
        """Nothing begins any more.  What goes on is ended by whoever stops everything."""
        self.stopping = self._orders.stopping = True
        self._ledger.stop()
        for task in self.tasks.values():
            self._never(task, "the master is stopping")
            self._hold(task)
            self._settle(task)

    # -- the plan --------------------------------------------------------------

    def plan(self, now: float) -> Plan:
        """What to do now.  A row stands before what would be done twice if it were lost."""
        self._moments.now = now
        stops = [*self._runs.late(now)]
        self._look_at_moments()
        orders = [*self._orders.plan(now, self._moments.wall)]
        self._look_at_moments()  # of what was commanded: it may have come by less than clocks can tell
        saves = [*self._ledger.plan(now, self._moments.wall)]
        news, self._news = self._news, []
        others = [*self._questions.plan(now), *self._orders.replies()]
        return [*news, *orders, *saves, *self._runs.starts(), *stops, *others]

    def _look_at_moments(self) -> None:
        while not self.stopping and (names := self._moments.due()):
            for name in names:
                self._came(self.tasks[name])

    def _came(self, task: Task) -> None:
        """Its moment has, if the clock agrees."""
        moment = self._moment(task)
        if moment is not None and moment <= self._moments.wall:
            task.came(self._moments.wall)
        self._settle(task)

    def _settle(self, task: Task) -> None:
        """After anything that happened to a task: tell, begin what waits, write, wait for what is next."""
        self._news += task.news
        task.news.clear()
        if self.tasks.get(task.name) is not task:
            return
        if task.waiting and task.run is None:
            self._hold(task) if self._held(task.waiting) else self._begin(task, task.waiting)
        if not self._orders.covers(task.name):
            self._register.keep(task.row())
        self._moments.set(task.name, self._moment(task))

    def _moment(self, task: Task) -> float | None:
        """When something will happen to it by itself; while it is quiet, a pause ends and nothing begins."""
        return None if self.quiet and task.state is not State.PAUSED else task.moment()

    def _held(self, want: Want) -> bool:
        """Whether no such run may begin now."""
        return self.stopping or (self.quiet and not want.hand)

    def _begin(self, task: Task, want: Want) -> None:
        run = self._runs.begin(task, want, self._moments.wall)
        self._ledger.write(run.row())

    def _hold(self, task: Task) -> None:
        """What waits by itself may not begin: it stays due."""
        if task.waiting:
            want, task.waiting = task.waiting, None
            task.put_back(want, self._moments.wall)

    def _begin_by_hand(self, task: Task, by: str) -> RunRow:
        number, wall = self._runs.number(), self._moments.wall
        task.run_by_hand(want := Want(by, hand=True, run=number, asked_at=wall))
        self._settle(task)
        begun = task.run if task.waiting is None else None
        return begun.row() if begun else waiting_row(task.name, want, number, wall)

    def _never(self, task: Task, why: str) -> None:
        """A run that waits was promised to somebody, and will not be."""
        want = task.waiting
        if want is not None and want.run is not None:
            task.waiting = None
            self._skip(waiting_row(task.name, want, want.run, want.asked_at), why)

    def _skip(self, row: RunRow, why: str) -> None:
        """A run that has a number will not begin."""
        row = never(row, why)
        self._ledger.write(row)
        self._news.append(told(row))

    def _let_go(self, name: str, row: TaskRow | None) -> None:
        """An order is done with a task; ``row`` is what is stored of it, where that is known."""
        self._register.written(name, row)
        if name in self.tasks:
            self._settle(self.tasks[name])
