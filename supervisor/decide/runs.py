"""The runs that go on, by their numbers: whose they are, and which take too long.

Numbers rise over all tasks, and over restarts.  Knows nothing of why a run begins
or of what its end means.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from supervisor.decide.actions import Note
from supervisor.decide.deadlines import Deadlines
from supervisor.decide.run import Run, Want
from supervisor.decide.task import Task
from supervisor.decide.task_actions import StartRun, StopRun


class Runs:
    """Also those of tasks that were removed since."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._whose: dict[int, Task] = {}
        self._timeouts: Deadlines[int] = Deadlines()
        self._starts: list[StartRun] = []

    def go_on_from(self, number: int) -> None:
        """The state file has runs up to this number: begin there, if no higher one was given yet."""
        self._numbers = itertools.count(max(number, self.number()))

    def number(self) -> int:
        """One that no other run has."""
        return next(self._numbers)

    def begin(self, task: Task, want: Want, wall: float) -> Run:
        """The run that is wanted begins with the next plan."""
        number = self.number() if want.run is None else want.run
        run = Run(number, want, task.settings, wall)
        task.began(run)
        self._whose[number] = task
        self._starts.append(StartRun(task.name, number, want.by, task.settings))
        return run

    def find(self, number: int) -> tuple[Task, Run] | None:
        """Whose it is; None when it is over, or was never begun."""
        task = self._whose.get(number)
        return (task, task.run) if task and task.run else None

    def started(self, number: int, pid: int, now: float) -> Iterator[Note]:
        """Fact: it was forked.  From now on it has its time."""
        if (found := self.find(number)) and found[1].pid is None:
            found[1].pid, found[1].trouble = pid, None
            self._time(found[1], now)
            yield Note("task.started", None, {**found[1].told(), "pid": pid})

    def delayed(self, number: int, error: str, now: float) -> Iterator[Note]:
        """Fact: it could not be forked, and is tried again for as long as it may take.  Told once."""
        if found := self.find(number):
            first, found[1].trouble = found[1].trouble is None, error
            if first:
                self._time(found[1], now)
                yield Note("task.delayed", None, {**found[1].told(), "reason": error})

    def _time(self, run: Run, now: float) -> None:
        if run.settings.timeout is not None:
            self._timeouts.set(run.number, now + run.settings.timeout)

    def over(self, number: int) -> None:
        """Fact: it has ended."""
        self._whose.pop(number, None)
        self._timeouts.drop(number)

    def take_over(self, task: Task) -> None:
        """The run of a task that was removed is that of the one which has come back in its place."""
        for number, gone in self._whose.items():
            if gone.name == task.name:
                self._whose[number] = task
                task.run, task.last_run = gone.run, gone.last_run

    def deadline(self) -> float | None:
        """When one will have taken too long."""
        return self._timeouts.earliest()

    def late(self, now: float) -> Iterator[StopRun]:
        """Those that have, once."""
        for number in self._timeouts.due(now):
            if found := self.find(number):
                task, run = found
                run.late = True
                yield StopRun(task.name, number, f"it takes longer than {run.settings.timeout:g} s")

    def starts(self) -> list[StartRun]:
        """Those that begin now."""
        starts, self._starts = self._starts, []
        return starts
