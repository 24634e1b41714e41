"""What must hold of every plan of the tasks, whatever happened before.

Knows the promises, and remembers what was begun, answered and interrupted; never
looks at how the core came to its plan.

- two runs of a task are never alive at once, and a run is written down before it begins
- nothing begins by itself while a person was told that it is paused, while it is
  errored, or while the master is quiet
- no due time fires twice, unless the clock was set back by more than one gap of the schedule
- nothing begins early, or later than the grace without the policy ``missed = "once"``; a run that
  waited for the one before it came due by the clock as it was while that went on
- what was due and had not begun when the master was stopped is due again
- each interruption (a jump, a restart, a resumption) is made up for by one run at most, and there
  are no two runs within a gap of the schedule but for an interruption between them
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
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
HOUR = 3600.0
REAL = {  # schedules, and the shortest time between two due times of each, in any zone
    "30 2 * * *": 23 * HOUR,
    "0 */6 * * *": 5 * HOUR,
    "15 3 * * 1-5": 23 * HOUR,
    "0 0 1 * *": 27.9 * 24 * HOUR,
    "0 12 29 2 *": 1460 * 24 * HOUR,
    "0 1,2,3 * * SUN": 0.5 * HOUR,
    "*/30 2 * * *": 0.5 * HOUR,
}


class Laws:
    """The promises, and the little that must be remembered to check them."""

    def __init__(self) -> None:
        self.fired: dict[str, set[float]] = {}  # due times
        self.latest: dict[str, float] = {}  # of these, the last one
        self.last: dict[str, float] = {}  # when a run last began by itself, monotonic
        self.chances: Counter[str] = Counter()  # of a missed run
        self.quick: Counter[str] = Counter()  # of two runs within one gap
        self.pauses: dict[str, tuple[float, float]] = {}  # from when until when
        self.meanwhile: dict[str, float] = {}  # where the clock was set from while a run went on
        self.over: dict[str, float] = {}  # when a run last ended, monotonic
        self.trouble = False  # the core knows that the disk cannot be written

    # -- what happens ----------------------------------------------------------

    def clock_set(self, before: float, wall: float, world: World) -> None:
        """Set back by more than a gap, it makes what it passes anew due anew."""
        for one in world.settings:
            if wall < self.latest.get(one.name, wall) - shortest_gap(one):
                self.fired[one.name] = {due for due in self.fired[one.name] if due <= wall}
            self._interrupted(one.name)
        for start in world.alive.values():
            self.meanwhile[start.task] = max(before, self.meanwhile.get(start.task, before))
        for name, (since, until) in self.pauses.items():
            if wall < since:
                self.pauses[name] = (wall, until - since + wall)

    def restarted(self, world: World, before: Mapping[str, Any], owed: Mapping[str, float]) -> None:
        """What was stored holds: also for a master that was killed."""
        if self.trouble or world.disk not in ("good", "slow"):
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
        self.trouble = False
        self.meanwhile.clear()
        for one in world.settings:
            self._interrupted(one.name)

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

    def ended(self, name: str, now: float) -> None:
        self.over[name] = now

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
        latest = max(world.wall, self.meanwhile.pop(start.task, world.wall))
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
            self._came(start, row["due"], latest, world)
            self._not_twice(start, row["due"])
        self._not_a_burst(start, world)

    def _came(self, start: StartRun, due: float, latest: float, world: World) -> None:
        """By the clock as it is; or as it was while the run that it waited for went on."""
        waits = start.settings.overlap == "queue" or start.by == "missed"
        waited = waits and self.over.get(start.task) == world.now
        assert due <= (latest if waited else world.wall) + 1e-6, "too early"
        if start.by == "schedule" and not waited:
            assert world.wall - due <= GRACE + start.settings.jitter + SLACK, "too late"

    def _not_twice(self, start: StartRun, due: float) -> None:
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
    """Between two due times: all of the stub calendar, the shortest of a real one."""
    if settings.every is not None:
        return [float(settings.every)]
    schedule = settings.schedule or ""
    try:
        return [REAL[schedule]] if schedule in REAL else [float(gap) for gap in schedule.split()]
    except ValueError:
        return [0.0]


def shortest_gap(settings: TaskSettings) -> float:
    return min(gaps(settings)) * (1 - 1e-9)
