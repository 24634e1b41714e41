"""What people command, one at a time: stored first, then true, then answered.

::

    pause, resume   rows are handed over -> stored: the tasks change, "done"
                                         -> not stored: nothing has changed, "refused"
    run by hand     it begins or waits, its row is handed over -> "begun" or "queued", stored or not

So nothing is ever half done, and nothing that was answered can be lost.  While
an order is open, no other row of its tasks may follow it to the store (`covers`).
Whoever asks has an answer in time: what waits behind a store that is slow is refused
and not done later.  Knows nothing of when tasks are due.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass

from supervisor.decide.ledger import ANSWER_SECONDS, SILENCE, Ledger
from supervisor.decide.run import QUEUED
from supervisor.decide.standing import Pause, Standing
from supervisor.decide.task import Task
from supervisor.decide.task_actions import Reply, Save
from supervisor.stored import RunRow, TaskRow, key

MOST_WAITING = 256  # for the one that is open
UNCHANGED = "nothing was changed: the state file cannot be written: "


@dataclass(frozen=True)
class Pausing:
    """Pause these tasks, or all that no longer pause holds already."""

    request: Hashable
    names: tuple[str, ...]
    all: bool = False
    seconds: float | None = None
    reason: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class Resuming:
    """Resume these tasks, or all."""

    request: Hashable
    names: tuple[str, ...]
    all: bool = False
    by: str | None = None


@dataclass(frozen=True)
class Running:
    """Run this task now."""

    request: Hashable
    name: str
    by: str | None = None


Order = Pausing | Resuming | Running


@dataclass(frozen=True)
class Open:
    """The one that waits for the store."""

    order: Order
    token: int
    until: float
    wall: float  # since when it will hold
    pause: Pause | None = None
    rows: Mapping[str, TaskRow] | None = None  # by task, as they will be
    unchanged: tuple[str, ...] = ()
    begun: RunRow | None = None  # the row of a run by hand


class Orders:
    """The commands that wait, and the one that is open.

    ``begin`` starts a run by hand, or has it wait, and returns its row.
    ``done`` hears which tasks an order has let go, and what is now stored of each.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        ledger: Ledger,
        begin: Callable[[Task, str], RunRow],
        done: Callable[[str, TaskRow | None], None],
    ) -> None:
        self._tasks, self._ledger, self._begin, self._done = tasks, ledger, begin, done
        self._queue: deque[tuple[Order, float]] = deque()  # with until when it is to be answered
        self._open: Open | None = None
        self._replies: list[Reply] = []
        self.stopping = False

    def take(self, order: Order, now: float) -> None:
        """A person wants this."""
        if len(self._queue) >= MOST_WAITING:
            self._refuse(order, f"nothing was done: {MOST_WAITING} commands wait for the state file already")
            return
        self._queue.append((order, now + ANSWER_SECONDS))

    def covers(self, task: str) -> bool:
        """Whether the open order is about this task."""
        return self._open is not None and self._open.rows is not None and task in self._open.rows

    def deadline(self) -> float | None:
        """When the store has taken too long."""
        return self._open.until if self._open else None

    # -- facts -----------------------------------------------------------------

    def saved(self, token: int, wall: float) -> None:
        """What the open order wants is stored."""
        if self._open is None or self._open.token != token:
            return
        done, self._open = self._open, None
        if done.begun is not None:
            self._answer_run(done.order, done.begun, None)
        if done.rows is None:
            return
        for name, row in done.rows.items():
            if task := self._tasks.get(name):
                self._apply(task, done, wall)
                self._done(name, row)
        self._answer(done.order, list(done.rows), done.unchanged, done.pause)

    def unsaved(self, token: int, why: str) -> None:
        """It is not, and so nothing has happened."""
        if self._open is None or self._open.token != token:
            return
        undone, self._open = self._open, None
        if undone.begun is not None:
            self._answer_run(undone.order, undone.begun, why)
        if undone.rows is None:
            return
        for name in undone.rows:
            self._done(name, None)
        self._refuse(undone.order, UNCHANGED + why)

    # -- the plan --------------------------------------------------------------

    def plan(self, now: float, wall: float) -> Iterator[Save]:
        """Give up on a silent store, and open the next order."""
        if self._open and now >= self._open.until:
            self._give_up(self._open)
        while self._queue and self._open is None:
            order, until = self._queue.popleft()
            if now >= until:
                self._refuse(order, UNCHANGED + SILENCE)
            elif isinstance(order, Running):
                yield from self._run(order, until, now, wall)
            else:
                yield from self._change(order, until, now, wall)

    def _give_up(self, undone: Open) -> None:
        """It may be written yet, and is put right behind that."""
        self.unsaved(undone.token, SILENCE)
        self._ledger.hurry(key(row) for row in (undone.rows or {}).values())

    def replies(self) -> list[Reply]:
        """The answers since they were last asked for."""
        replies, self._replies = self._replies, []
        return replies

    def _change(self, order: Pausing | Resuming, until: float, now: float, wall: float) -> Iterator[Save]:
        tasks = self._named(order)
        if tasks is None:
            return
        pause = _pause(order, wall) if isinstance(order, Pausing) else None
        rows, unchanged = {}, []
        for task in tasks:
            standing = _after(task, order, pause, wall)
            if standing == task.standing:
                unchanged.append(task.name)
            else:
                rows[task.name] = task.row(standing)
        if not rows:
            self._answer(order, [], tuple(unchanged), pause)
        elif self._ledger.silent(now):
            self._refuse(order, UNCHANGED + SILENCE)
        else:
            save = self._ledger.order(list(rows.values()), now)
            self._open = Open(order, save.token, until, wall, pause, rows, tuple(unchanged))
            yield save

    def _run(self, order: Running, until: float, now: float, wall: float) -> Iterator[Save]:
        task = self._tasks.get(order.name)
        if task is None or (why := "the master is stopping" if self.stopping else _refusal(task)):
            self._refuse(order, self._unknown([order.name]) if task is None else why or "")
            return
        row = self._begin(task, order.by or "hand")
        if self._ledger.silent(now):
            self._ledger.write(row)
            self._answer_run(order, row, SILENCE)
        else:
            save = self._ledger.at_once(row, now)
            self._open = Open(order, save.token, until, wall, begun=row)
            yield save

    def _named(self, order: Pausing | Resuming) -> list[Task] | None:
        """All of them, or None when one is unknown: then nothing is done."""
        if order.all:
            return list(self._tasks.values())
        unknown = [name for name in order.names if name not in self._tasks]
        if unknown or not order.names:
            self._refuse(
                order, self._unknown(unknown) if unknown else "name a task, or say that all are meant"
            )
            return None
        return [self._tasks[name] for name in dict.fromkeys(order.names)]

    def _unknown(self, names: list[str]) -> str:
        known = ", ".join(sorted(self._tasks)) or "none"
        return f"there is no task {', '.join(map(repr, names))}; the tasks are: {known}"

    def _apply(self, task: Task, done: Open, wall: float) -> None:
        if done.pause is not None:
            task.pause(done.pause, done.order.by, done.wall, wall)
        else:
            task.resume(done.order.by, done.wall, wall)

    def _answer(self, order: Order, changed: list[str], same: tuple[str, ...], pause: Pause | None) -> None:
        result = {"changed": changed, "unchanged": list(same), "until": pause.until if pause else None}
        self._replies.append(Reply(order.request, result))

    def _answer_run(self, order: Order, begun: RunRow, why: str | None) -> None:
        result = {"run": begun["run"], "queued": begun["outcome"] == QUEUED}
        self._replies.append(Reply(order.request, result if why is None else {**result, "unsaved": why}))

    def _refuse(self, order: Order, why: str) -> None:
        self._replies.append(Reply(order.request, error=why))


def _refusal(task: Task) -> str | None:
    """Why a run by hand is not possible now."""
    if task.run is None:
        return None
    if task.settings.overlap == "skip":
        return f"{task.name} runs already (run {task.run.number}); it is configured not to overlap"
    return f"a run of {task.name} waits already" if task.waiting and task.waiting.hand else None


def _pause(order: Pausing, wall: float) -> Pause:
    return Pause(order.reason, None if order.seconds is None else wall + order.seconds)


def _after(task: Task, order: Pausing | Resuming, pause: Pause | None, wall: float) -> Standing:
    """What the order would make of the task."""
    if pause is None:
        return task.standing.resumed(order.by, wall)
    if order.all and task.standing.outlasts(pause.until):
        return task.standing
    return task.standing.paused(pause, order.by, wall)
