"""A simulated master, disk and clock for tasks, in virtual time.

Knows how runs end and whether the disk can be written (as data), and holds every
plan against the laws in `laws_of_tasks`.  Knows nothing of how the core decides.
  The monotonic clock begins at 1000 s; the wall clock moves on its own.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from laws_of_tasks import Laws

from supervisor.decide.actions import Note
from supervisor.decide.task_actions import Ask, Reply, Save, StartRun, StopRun
from supervisor.decide.tasks import Tasks
from supervisor.settings import Reference, TaskSettings
from supervisor.stored import Stored

BEGAN = 1_767_225_600.0  # 2026-01-01 00:00 UTC, a Thursday
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SLOW = 0.5  # seconds that a slow disk takes
FULL = "No space left on device"


def task(name: str = "a", **keys: Any) -> TaskSettings:
    """With ``every = 60`` if nothing else is said."""
    if "schedule" not in keys:
        keys.setdefault("every", MINUTE)
    return TaskSettings(name, target=Reference("m:f"), **keys)


def by_gaps(settings: TaskSettings, after: float) -> float | None:
    """A calendar without calendars: the schedule "GAP GAP ..." is due after each gap, round and round."""
    if settings.schedule == "never":
        return None
    gaps = [float(gap) for gap in (settings.schedule or "").split()]
    due = math.floor(after / sum(gaps)) * sum(gaps)
    for gap in gaps * 2:
        due += gap
        if due > after:
            return due
    raise AssertionError


@dataclass(frozen=True)
class Body:
    """How one run goes; ``seconds=None`` only ends when it is told to."""

    seconds: float | None = 0.0
    outcome: str = "ok"
    code: int | None = None

    @property
    def exit(self) -> int:
        return (0 if self.outcome == "ok" else 1) if self.code is None else self.code


@dataclass
class World:
    """Leads the tasks, turn by turn."""

    settings: list[TaskSettings]
    bodies: Callable[[StartRun], Body] = lambda _: Body()
    calendar: Callable[[TaskSettings, float], float | None] = by_gaps
    random: Callable[[], float] = lambda: 0.5
    now: float = 1000.0
    wall: float = BEGAN
    disk: str = "good"  # or "full", or "silent", or "slow": what it has written is confirmed later
    forks: float = 0.0  # seconds until a run is forked
    forked: set[int] = field(default_factory=set)
    rows: dict[str, Any] = field(default_factory=dict)
    runs: dict[int, Any] = field(default_factory=dict)
    log: list[tuple[float, Any]] = field(default_factory=list)  # with the wall time
    alive: dict[int, StartRun] = field(default_factory=dict)
    check: bool = True
    unheard: list[Save] = field(default_factory=list)  # what a silent store was told
    unconfirmed: set[int] = field(default_factory=set)  # what it has written, and not said yet
    written: list[Any] = field(default_factory=list)  # rows, in order
    _queue: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0
    _deadline: float | None = None  # of the tasks, after the plan

    def __post_init__(self) -> None:
        self.laws = Laws()
        self.tasks = self._born()

    def _born(self) -> Tasks:
        last: dict[str, Any] = {}
        fired: dict[str, float] = {}
        unfinished: dict[str, list[Any]] = {}
        for row in self.runs.values():
            if row["outcome"] not in ("queued", "skipped"):
                last[row["task"]] = row
                if row["due"] is not None:
                    fired[row["task"]] = row["due"]
            if row["outcome"] in ("running", "queued"):
                unfinished.setdefault(row["task"], []).append(row)
        following = max(self.runs, default=0) + 1
        stored = {
            name: Stored(row, last.get(name), following, tuple(unfinished.get(name, ())), fired.get(name))
            for name, row in self.rows.items()
        }
        keys = {one.name: one for one in self.settings}
        return Tasks(keys, stored, self.calendar, self.random, now=self.now, wall=self.wall)

    # -- time ------------------------------------------------------------------

    def turn(self) -> list[Any]:
        """All that has come up, one plan, its actions; what they bring at once is the next turn."""
        planned: list[Any] = []
        while True:
            self.tasks.clock(self.now, self.wall)
            while self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            plan = self.tasks.plan(self.now)
            if self.check:
                assert self.tasks.plan(self.now) == [], "a second plan at the same time adds something"
            self._deadline = self.tasks.deadline()
            assert self._deadline is None or self._deadline > self.now, "it would spin"
            self.laws.hold(plan, self)
            planned += plan
            self.log += [(self.wall, action) for action in plan]
            for action in plan:
                self._carry_out(action)
            if not (self._queue and self._queue[0][0] <= self.now):
                return planned

    def wait(self, seconds: float) -> list[Any]:
        """Let time pass; all that was planned."""
        end, before = self.now + seconds, len(self.log)
        self.turn()
        while (wake := self._next()) is not None and wake <= end:
            self._pass(wake - self.now)
            self.turn()
        self._pass(end - self.now)
        self.turn()
        return [action for _, action in self.log[before:]]

    def jump(self, seconds: float) -> None:
        """The wall clock is set; or the machine slept."""
        before, self.wall = self.wall, self.wall + seconds
        self.laws.clock_set(before, self.wall, self)
        self.turn()

    def stop(self, down: float = 0.0) -> None:
        """The master is stopped in order, and another one begins."""
        self.turn()
        owed = self._owed() if self.disk == "good" and not self.laws.trouble else {}
        self.tasks.stop()
        for run in [run for run in self.alive if run not in self.forked]:
            self.laws.unborn(self.alive.pop(run).task)
            self.tasks.unborn(run)
        for run in [*self.alive]:
            self.end(run, "interrupted")
        self.turn()
        self.restart(down, owed=owed)

    def _owed(self) -> dict[str, float]:
        """What was due and has not begun, of schedules that still hold."""
        owed = {}
        for name, its in self.tasks.tasks.items():
            run = its.run.want if its.run and its.run.number not in self.forked else None
            befores = [want.before and (want.before.anchor, want.due) for want in (its.waiting, run) if want]
            if dues := [found[1] for found in befores if found and found[0] == its.anchor]:
                owed[name] = min(dues)
        return owed

    def restart(
        self,
        down: float = 0.0,
        settings: list[TaskSettings] | None = None,
        owed: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """The master is killed, and another one begins with what was stored."""
        known = settings is None and self.disk == "good" and not self.unconfirmed
        before = self.tasks.list() if known else {}
        self.alive.clear()
        self._queue.clear()
        self.unheard.clear()
        self.unconfirmed.clear()
        self.forked.clear()
        self._pass(down)
        for one in settings or ():
            self.laws.changed(one.name)
        self.settings = self.settings if settings is None else settings
        self.tasks = self._born()
        self.laws.restarted(self, before, owed)
        self.turn()

    def hush(self, on: bool) -> None:
        self.turn()
        self.tasks.hush(on)
        for one in self.settings:
            self.laws.unquiet(one.name)
        for run in [run for run in self.alive if not (run in self.forked or self.tasks.may_begin(run))]:
            self.laws.unborn(self.alive.pop(run).task)
            self.tasks.unborn(run)
        self.turn()

    def configure(self, *settings: TaskSettings) -> list[Any]:
        for text in {*map(repr, settings)} ^ {*map(repr, self.settings)}:
            self.laws.changed(text.split("'")[1])
        self.settings = list(settings)
        self.tasks.configure({one.name: one for one in settings})
        return self.turn()

    def end(self, run: int, outcome: str = "ok", **how: Any) -> list[Any]:
        """A run that goes on ends now."""
        start = self.alive.pop(run)
        self.laws.ended(start.task, self.now)
        self.tasks.ended(start.task, run, outcome, **{"code": 0 if outcome == "ok" else 1, **how})
        return self.turn()

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def _next(self) -> float | None:
        """What comes up next, after a turn."""
        due = self._queue[0][0] if self._queue else None
        return min((t for t in (due, self._deadline) if t is not None), default=None)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + seconds, self._count, what))

    # -- people ----------------------------------------------------------------

    def pause(self, *names: str, **how: Any) -> Reply:
        how = {"all": not names, "by": "ann", **how}
        reply = self._asked(lambda: self.tasks.pause("p", names, **how))
        for name in (reply.result or {}).get("changed", ()):
            self.laws.paused(name, self.wall, how.get("seconds"))
        return reply

    def resume(self, *names: str, **how: Any) -> Reply:
        how = {"all": not names, "by": "ann", **how}
        for name in names or self.tasks.tasks:
            self.laws.resumed(name)
        return self._asked(lambda: self.tasks.resume("r", names, **how))

    def run(self, name: str = "a") -> Reply:
        return self._asked(lambda: self.tasks.run("x", name, "ann"))

    def _asked(self, command: Callable[[], None]) -> Reply:
        self.turn()
        command()
        replies = [a for a in self.turn() if isinstance(a, Reply)]
        return replies[-1] if replies else Reply("none yet")

    # -- what was planned ------------------------------------------------------

    def _carry_out(self, action: Any) -> None:
        match action:
            case Save(token, rows):
                self._store(token, rows)
            case StartRun():
                self._fork(action)
            case StopRun(_, run):
                self._later(0.0, lambda: self._ends(run, Body(0.0, "failed")))
            case Ask(token, question):
                rows = [row for row in self.runs.values() if row["task"] == question["task"]]
                if self.disk in ("good", "slow"):
                    self._later(0.0, lambda: self.tasks.answered(token, rows[-question["limit"] :]))
                elif self.disk == "full":
                    self._later(0.0, lambda: self.tasks.unsaved(token, FULL))
            case Note() | Reply():
                pass

    def _store(self, token: int, rows: tuple[Any, ...]) -> None:
        tasks = self.tasks
        if self.disk == "silent":
            self.unheard.append(Save(token, rows))
            return
        if self.disk == "full":
            self._later(0.0, lambda: tasks.unsaved(token, FULL))
            return
        self.written += rows
        for row in rows:
            if "run" in row:
                self.runs[row["run"]] = row
            else:
                self.rows[row["task"]] = row
        self.unconfirmed.add(token)
        self._later(SLOW if self.disk == "slow" else 0.0, lambda: self._confirm(tasks, token))

    def _confirm(self, tasks: Tasks, token: int) -> None:
        self.unconfirmed.discard(token)
        tasks.saved(token)

    def wake(self) -> list[Any]:
        """The silent store does all that it was told."""
        self.disk, unheard, self.unheard = "good", self.unheard, []
        for save in unheard:
            self._store(save.token, save.rows)
        return self.turn()

    def _fork(self, start: StartRun) -> None:
        self.alive[start.run] = start
        self._later(self.forks, lambda: self._forked(start))
        body = self.bodies(start)
        if body.seconds is not None:
            self._later(self.forks + body.seconds, lambda: self._ends(start.run, body))

    def _forked(self, start: StartRun) -> None:
        if start.run in self.alive:
            self.forked.add(start.run)
            self.tasks.started(start.run, 4000 + start.run)

    def _ends(self, run: int, body: Body) -> None:
        if start := self.alive.pop(run, None):
            took = body.seconds
            self.laws.ended(start.task, self.now)
            self.tasks.ended(start.task, run, body.outcome, code=body.exit, seconds=took, lines=("bye",))

    # -- questions -------------------------------------------------------------

    def starts(self, name: str = "a") -> list[tuple[float, str]]:
        """When runs began, in seconds since the beginning, and why."""
        return [(t - BEGAN, a.by) for t, a in self.log if isinstance(a, StartRun) and a.task == name]

    def notes(self, event: str) -> list[dict[str, Any]]:
        return [a.fields for _, a in self.log if isinstance(a, Note) and a.event == event]

    def shown(self, name: str = "a") -> dict[str, Any]:
        return self.tasks.list()[name]

    def state(self, name: str = "a") -> str:
        return str(self.shown(name)["state"])


def world(*settings: TaskSettings, **keys: Any) -> World:
    """One task that is due every minute, by default; it has been seen."""
    w = World(list(settings or [task()]), **keys)
    w.turn()
    return w
