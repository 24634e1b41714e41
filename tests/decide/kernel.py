"""A simulated kernel: it carries out plans in virtual time and tells what comes of them.

Knows how each worker, hook and helper behaves (as data) and when; holds every
plan against the laws in `laws`.  Knows nothing of how the core decides.
Time begins at 1000 s and passes only when a test says so.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bodies import GOOD, NO_MEMORY, SIGKILL, Body, File, Helpers, HookBody, pool, settings
from laws import Laws

from supervisor.decide.actions import (
    Action,
    Commit,
    Continue,
    Dump,
    Finish,
    Kill,
    KillGroup,
    Measure,
    Note,
    Prepare,
    Quiet,
    Run,
    Start,
    Stop,
    Sweep,
    Undo,
)
from supervisor.decide.inner import READER, is_inner
from supervisor.decide.life import Life
from supervisor.decide.pool import Pool
from supervisor.decide.task_actions import Ask, Reply, Save
from supervisor.decide.worker import Worker
from supervisor.exits import End
from supervisor.settings import PoolSettings, Seconds, Settings

AT_ONCE = 200  # turns in one instant are too many


@dataclass
class Process:
    """One worker that the kernel knows."""

    body: Body
    pool: Pool
    born: float
    settings: PoolSettings
    known: bool = False  # to the master; before, there is nobody to tell
    asked: bool = False


@dataclass
class Kernel:
    """Leads one life, turn by turn."""

    life: Life
    bodies: Callable[[Start], Body] = lambda _: GOOD
    hooks: Mapping[str, Sequence[HookBody]] = field(default_factory=dict)
    helpers: Helpers = field(default_factory=Helpers)
    files: Callable[[int], File] | None = None  # by generation; by default nothing was changed
    now: float = 1000.0
    log: list[tuple[float, Any]] = field(default_factory=list)
    alive: dict[int, Process] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)  # who ended by a signal while being killed
    frozen: float = 0.0  # seconds in which the master did not run
    promised: dict[int, float] = field(default_factory=dict)  # reloads that were asked for, and when last
    wall: float = 1.7e9  # what the wall clock shows more than ours
    store: float | None = 0.0  # seconds until a row is on the disk; None: never
    store_works: bool = True
    lines: float | None = 0.0  # seconds until a dead run's last lines are told; None: never
    _queue: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _count: int = 0
    _turned_at: float = 0.0
    _at_once: int = 0  # turns since time passed last

    def __post_init__(self) -> None:
        self.laws = Laws(self.life)

    # -- time ------------------------------------------------------------------

    def turn(self) -> list[Any]:
        """Everything that has come up, one plan, and its actions."""
        while self._queue and self._queue[0][0] <= self.now:
            heapq.heappop(self._queue)[2]()
        self._at_once = self._at_once + 1 if self.now == self._turned_at else 0
        self._turned_at = self.now
        assert self._at_once < AT_ONCE, "it would go on and on in no time"
        self.life.clock(self.now, self.now + self.wall)
        plan = self.life.plan(self.now)
        self.laws.hold(plan, set(self.alive), self.now)
        for action in plan:
            self.log.append((self.now, action))
            self._carry_out(action)
        return plan

    def wait(self, seconds: float) -> list[Any]:
        """Let time pass, waking for what comes up as the master would; all that was planned."""
        end, before = self.now + seconds, len(self.log)
        self.turn()
        while not self.finished and (wake := self._next()) is not None and wake <= end:
            self.now = max(self.now, wake)
            self.turn()
        self.now = end
        return [action for _, action in self.log[before:]]

    def freeze(self, seconds: float) -> None:
        """The master does not run for a while, and notices."""
        self.now += seconds
        self.frozen += seconds
        self.life.thawed(self.now)
        self.turn()

    def renew(self, reason: str = "SIGHUP") -> int:
        """Ask for a reload."""
        number = self.life.renew(reason)
        self.promised[number] = self.now
        return number

    def until(self, true: Callable[[], bool], limit: float = 120.0) -> None:
        """Let time pass until something is true."""
        end = self.now + limit
        self.turn()
        while not true():
            wake = self._next()
            assert wake is not None, "nothing will happen any more"
            assert wake <= end, "it takes too long"
            self.now = max(self.now, wake)
            self.turn()

    def later(self, seconds: float | None, what: Callable[[], None]) -> None:
        if seconds is not None:
            self._count += 1
            heapq.heappush(self._queue, (self.now + seconds, self._count, what))

    def _next(self) -> float | None:
        """What comes up next, after a turn."""
        due = self._queue[0][0] if self._queue else None
        return min((t for t in (due, self.laws.deadline) if t is not None), default=None)

    # -- what was planned ------------------------------------------------------

    def _carry_out(self, action: Any) -> None:  # noqa: C901  # one action a case
        match action:
            case Start():
                self._fork(action)
            case Stop(id):
                self.told_to_leave(id, 4 if action.replace else 0)
            case Kill(id):
                self.later(self.alive[id].body.dies_of_kill_after, lambda: self.ends(id, End(signal=SIGKILL)))
            case Run(moment, index):
                self._run(moment, index)
            case Sweep(kill):
                gone = self.helpers.gone_after_kill if kill else self.helpers.gone_after_term
                self.later(gone, self._helpers_gone)
            case Prepare(generation):
                file = self.file(generation)
                self.later(file.seconds, lambda: self._prepared(file.found))
            case Note("reload.started", _, fields):
                # Asked for later, it is another reload's.
                assert self.promised.pop(fields["reload"]) <= self.now
            case Measure(workers):
                self.later(0.0, lambda: self._measured(workers))
            case Save(token) if self.store_works:
                self.later(self.store, lambda: self.life.tasks.saved(token))
            case Save(token) | Ask(token):
                self.later(self.store, lambda: self.life.tasks.unsaved(token, "no disk"))
            case Note() | Reply() | Quiet() | Continue() | Dump() | KillGroup():
                pass
            case Commit() | Undo() | Finish():
                pass

    def _fork(self, start: Start) -> None:
        id, body, home = start.worker, self._body(start), self.life.whose(start.worker)
        assert home is not None
        assert home.name == start.pool
        process = self.alive[id] = Process(body, home, self.now, home.workers[id].settings)
        if not body.fork_works:
            self.later(0.0, lambda: self.ends(id, NO_MEMORY))
            return
        self.later(0.0, lambda: self._tell(id, lambda: self._started(id, process)))
        self.later(body.ready_after, lambda: self._tell(id, lambda: home.ready(id, self.now)))
        self.later(body.dies_after, lambda: self.ends(id, body.dies_of))
        if process.settings.watchdog and body.ready_after is not None:
            self.later(body.ready_after, lambda: self._beat(id, process))
        if body.works_for is not None:
            self.later(body.works_for, lambda: self._tell(id, lambda: home.told(id, 1000, 0, None)))

    def _started(self, id: int, process: Process) -> None:
        process.known = True
        process.pool.started(id, 10_000 + id)

    def _body(self, start: Start) -> Body:
        if start.pool == READER:
            return self.file(start.generation).reader
        if is_inner(start.pool):
            return self.file(start.generation).template if ":" in start.pool else GOOD
        return self.bodies(start)

    def file(self, generation: int) -> File:
        """What the reload of this generation finds."""
        return self.files(generation) if self.files else File(self.life.configuration)

    def _prepared(self, found: Settings | str) -> None:
        if isinstance(found, str):
            self.life.refused(found)
        else:
            self.life.prepared(found, [])

    def _measured(self, workers: Sequence[int]) -> None:
        for id in workers:
            if process := self.alive.get(id):
                process.pool.measured(id, process.body.memory)

    def _beat(self, id: int, process: Process) -> None:
        limit = process.body.beats_for
        if id in self.alive and (limit is None or self.now < process.born + limit):
            self._tell(id, lambda: process.pool.beat(id, self.now))
            self.later((process.settings.watchdog or 0.0) / 2, lambda: self._beat(id, process))

    def told_to_leave(self, id: int, code: int) -> None:
        """TERM or USR2 reaches a worker, whoever sent it."""
        process = self.alive[id]
        if process.asked or not process.known:
            return
        process.asked, body = True, process.body
        code = code if body.leaves_with is None else body.leaves_with
        acknowledge = process.pool.acknowledged
        self.later(body.acknowledges_after, lambda: self._tell(id, lambda: acknowledge(id, self.now)))
        self.later(body.leaves_after, lambda: self.ends(id, End(code=code)))

    def _run(self, moment: str, index: int) -> None:
        hooks = self.hooks.get(moment, [HookBody()])
        self.later(hooks[index].seconds, lambda: self._hook_ends(moment, index, hooks[index].error))

    def _hook_ends(self, moment: str, index: int, error: str | None) -> None:
        if moment == "import" and error is None:
            self.life.imported({name: len(hooks) for name, hooks in self.hooks.items() if name != "import"})
        self.life.hook_ended(moment, index, error)

    def _helpers_gone(self) -> None:
        if not self.alive:
            self.life.alone()

    # -- facts -----------------------------------------------------------------

    def ends(self, id: int, end: End) -> None:
        """A worker is reaped."""
        process = self.alive.pop(id, None)
        if process is None:
            return
        if end.signal is not None and id in self.laws.killing:
            self.cut.add(id)
        self.life.exited(id, end, self.now, lines_follow=end.error is None)
        self.later(self.lines, lambda: self.life.runs.printed(id, ["its last line"]))
        if process.body.stutters:
            self.life.exited(id, End(code=99), self.now)
            for late in (process.pool.ready, process.pool.beat, process.pool.acknowledged):
                late(id, self.now)
            process.pool.started(id, 1)
            process.pool.extended(id, 60.0, self.now)

    def _tell(self, id: int, fact: Callable[[], None]) -> None:
        if process := self.alive.get(id):
            fact()
            if process.body.stutters:
                fact()

    # -- questions of the tests ------------------------------------------------

    def worker(self, name: str) -> Worker:
        """The worker that is alive under this name."""
        return next(w for p in self.life.everybody for w in p.workers.values() if w.name == name)

    def crash(self, name: str, code: int = 1) -> None:
        """This worker ends unasked, now."""
        self.ends(self.worker(name).id, End(code=code))

    def times(self, kind: type[Action], since: float = 0.0) -> list[float]:
        """When actions of this kind were planned."""
        return [round(time, 6) for time, action in self.log if isinstance(action, kind) and time >= since]

    def notes(self, event: str) -> list[Note]:
        return [a for _, a in self.log if isinstance(a, Note) and a.event == event]

    @property
    def report(self) -> dict[str, Any]:
        """The one report of the stop."""
        [note] = self.notes("stop.report")
        return note.fields

    @property
    def status(self) -> int:
        """The one exit status."""
        [status] = [int(a.status) for _, a in self.log if isinstance(a, Finish)]
        return status

    @property
    def finished(self) -> bool:
        return self.laws.finished


def kernel(*pools: PoolSettings, body: Body = GOOD, **keys: Any) -> Kernel:
    """A life with these pools; other keys are the kernel's or, failing that, the master's."""
    own = {key: keys.pop(key) for key in ("hooks", "helpers", "bodies", "files") if key in keys}
    own.setdefault("bodies", lambda _: body)
    for key, value in keys.items():
        keys[key] = Seconds(value)
    return Kernel(Life(settings(*(pools or (pool(),)), **keys), random=lambda: 0.0), **own)
