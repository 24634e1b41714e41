"""What must hold of every plan of the tasks, whatever happened before.

Knows the promises, and remembers what was begun, answered and interrupted; never
looks at how the core came to its plan.

- two runs of a task are never alive at once, and a run is written down before it begins
- nothing begins by itself while a person was told that it is paused, while it is
  errored, or while the master is quiet
- no due time fires twice, unless the clock was set back by more than one gap of the schedule
- nothing begins early, or later than the grace without the policy ``missed = "once"``
- what was due and had not begun when the master was stopped is due again
- each interruption (a jump, a restart, a resumption) is made up for by one run at most, and there
  are no two runs within a gap of the schedule but for an interruption between them
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from supervisor.decide.actions import Note
from supervisor.decide.schedule import GRACE
from supervisor.decide.task_actions import Save, StartRun
from supervisor.settings import TaskSettings

if TYPE_CHECKING:
    from task_world import World

BY_ITSELF = ("schedule", "missed", "retry")
SLACK = 1.1  # a clock that is off by less was not set
KEPT = ("state", "reason", "error", "failures")


class Laws:
    """The promises, and the little that must be remembered to check them."""

    def __init__(self) -> None:
        self.fired: dict[str, set[float]] = {}  # due times
        self.latest: dict[str, float] = {}  # of these, the last one
        self.last: dict[str, float] = {}  # when a run last began by itself, monotonic
        self.chances: Counter[str] = Counter()  # of a missed run
        self.quick: Counter[str] = Counter()  # of two runs within one gap
        self.pauses: dict[str, tuple[float, float]] = {}  # from when until when
        self.trouble = False  # the core knows that the disk cannot be written

    # -- what happens ----------------------------------------------------------

    def clock_set(self, wall: float, settings: Iterable[TaskSettings]) -> None:
        """Set back by more than a gap, it makes what it passes anew due anew."""
        for one in settings:
            if wall < self.latest.get(one.name, wall) - shortest_gap(one):
                self.fired[one.name] = {due for due in self.fired[one.name] if due <= wall}
            self._interrupted(one.name)
        for name, (since, until) in self.pauses.items():
            if wall < since:
                self.pauses[name] = (wall, until - since + wall)

    def restarted(self, world: World, before: Mapping[str, Any], owed: Mapping[str, float]) -> None:
        """What was stored holds: also for a master that was killed."""
        if self.trouble or world.disk != "good":
            for one in world.settings:
                self.changed(one.name)
        else:
            for name, shown in world.tasks.list().items():
                was = before.get(name, shown)
                assert [shown[key] for key in KEPT] == [was[key] for key in KEPT], "a restart changed it"
            for name, due in owed.items():
                following = world.tasks.tasks[name].due
                assert following is not None, "a stop lost a due time"
                assert following <= due, "a stop lost a due time"
            self._forget_runs(world)
        self.trouble = False
        for one in world.settings:
            self._interrupted(one.name)

    def _forget_runs(self, world: World) -> None:
        """Whose last run was for no due time: how far they were dealt with is all that is known."""
        for name, its in world.tasks.tasks.items():
            if its.last_fired is None and its.last_due is not None and name in self.latest:
                self.latest[name] = max(self.latest[name], its.last_due)

    def unborn(self, name: str) -> None:
        """A stop found that its run had not begun: what it was for may come again."""
        self.fired.get(name, set()).discard(self.latest.get(name, -math.inf))

    def changed(self, name: str) -> None:
        """It is another task now, or one of which nothing could be stored."""
        self.fired.pop(name, None)
        self.latest.pop(name, None)
        self.last.pop(name, None)
        self._interrupted(name)

    def paused(self, name: str, wall: float, seconds: float | None) -> None:
        self.pauses[name] = (wall, math.inf if seconds is None else wall + seconds)

    def resumed(self, name: str) -> None:
        self.pauses.pop(name, None)
        self._interrupted(name)

    def unquiet(self, name: str) -> None:
        self._interrupted(name)

    def removed(self, name: str) -> None:
        self.pauses.pop(name, None)

    def _interrupted(self, name: str) -> None:
        self.chances[name] += 1
        self.quick[name] += 2  # the run that makes up for it, and the next that is due

    # -- every plan ------------------------------------------------------------

    def hold(self, plan: list[Any], world: World) -> None:
        written: dict[int, Any] = {}
        for action in plan:
            match action:
                case Note("task.unsaved" | "task.stored" as event):
                    self.trouble = event == "task.unsaved"
                case Note("task.resumed" | "task.errored", _, {"task": str(name)}):
                    self.resumed(name)
                case Save(_, rows):
                    written |= {row["run"]: row for row in rows if "run" in row}
                case StartRun():
                    self._one_start(action, written.get(action.run), world)

    def _one_start(self, start: StartRun, row: Mapping[str, Any] | None, world: World) -> None:
        assert not world.tasks.stopping
        assert start.task not in [other.task for other in world.alive.values()], "two runs at once"
        assert row or world.disk != "good" or self.trouble, "it begins before it is handed to the store"
        if start.by not in BY_ITSELF:
            return
        assert not world.tasks.quiet, "it begins though the master is quiet"
        state = world.tasks.tasks[start.task].state.value
        assert state == ("errored" if start.by == "retry" else "running"), f"{start.by} while {state}"
        _, until = self.pauses.get(start.task, (0, 0))
        assert world.wall > until - SLACK, "a person was told that it is paused"
        if start.by == "missed":
            assert start.settings.missed == "once", "a missed run without its policy"
            self.chances[start.task] -= 1
            assert self.chances[start.task] >= 0, "more missed runs than interruptions"
        if row and row["due"] is not None:
            self._one_due(start, row["due"], world)
        self._not_a_burst(start, world)

    def _one_due(self, start: StartRun, due: float, world: World) -> None:
        assert due <= world.wall + 1e-6, "too early"
        if start.by == "schedule" and start.settings.overlap == "skip":
            assert world.wall - due <= GRACE + start.settings.jitter + SLACK, "too late"
        fired = self.fired.setdefault(start.task, set())
        assert due not in fired, "twice for one due time"
        fired.add(due)
        self.latest[start.task] = due

    def _not_a_burst(self, start: StartRun, world: World) -> None:
        last = self.last.get(start.task, -math.inf)
        gap = shortest_gap(start.settings) - start.settings.jitter - SLACK
        if start.by != "retry" and start.settings.overlap == "skip" and world.now - last < gap:
            self.quick[start.task] -= 1
            assert self.quick[start.task] >= 0, "a burst"
        self.last[start.task] = world.now


def gaps(settings: TaskSettings) -> list[float]:
    """Of the stub calendar; a real schedule has none that we know."""
    if settings.every is not None:
        return [float(settings.every)]
    try:
        return [float(gap) for gap in (settings.schedule or "").split()]
    except ValueError:
        return [0.0]


def shortest_gap(settings: TaskSettings) -> float:
    return min(gaps(settings)) * (1 - 1e-9)
