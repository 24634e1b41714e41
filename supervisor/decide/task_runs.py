"""The runs of tasks among the pools: each is a pool of one worker that is never replaced.

::

    StartRun -> a pool "tasks.NAME" -> forked -> gone -> its last lines are known -> Tasks.ended
    StopRun  -> that pool is not wanted any more

So a run has readiness, acknowledgement, deadlines, a process group and a place in
`stop.report` like any worker.  A fork that fails is tried again, as it is for
any worker: the machine's fault is not held against the task.  Who is not forked yet
when a stop begins, or quiet, is not, and that is no end: `Tasks.unborn`.  Knows how a run
ended; what follows from that, and when one is due, is known by `tasks`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from supervisor.decide.actions import Action, Note
from supervisor.decide.deadlines import Deadlines
from supervisor.decide.obituary import reason
from supervisor.decide.pool import Pool
from supervisor.decide.pools import Pools
from supervisor.decide.replacement import FORKS_AT_ONCE
from supervisor.decide.run import FAILED, INTERRUPTED, OK
from supervisor.decide.task_actions import Ask, Reply, Save, StartRun, StopRun
from supervisor.decide.tasks import Tasks
from supervisor.decide.worker import Worker
from supervisor.exits import WORKER_DONE, WORKER_REPLACE, End
from supervisor.settings import RUNS, Seconds

LAST_WORDS = 0.5  # seconds that the drainer has to tell the last lines of who is dead


@dataclass
class Going:
    """A run that has begun and is not over."""

    task: str
    run: int
    pool: Pool
    pid: int | None = None  # as it was told to the tasks
    late: bool = False  # it had its time
    worker: Worker | None = None  # the one that is dead, while its last lines are waited for
    end: End | None = None
    gone_at: float = 0.0


class TaskRuns:
    """All runs that go on, and those that wait for a turn with room for one more fork."""

    def __init__(self, tasks: Tasks, pools: Pools, stop_timeout: Seconds) -> None:
        self.stop_timeout = stop_timeout  # of runs that begin
        self.generation = 1  # the same
        self._tasks, self._pools = tasks, pools
        self._queue: deque[StartRun] = deque()
        self._going: dict[str, Going] = {}  # by the name of its pool
        self._forking = 0
        self._awaited: Deadlines[str] = Deadlines()  # whose last lines are to come
        self._by_worker: dict[int, str] = {}  # these, by their worker's number

    # -- questions -------------------------------------------------------------

    @property
    def unfinished(self) -> bool:
        """A run is dead and has not been told of."""
        return bool(self._by_worker)

    @property
    def unwritten(self) -> bool:
        """What is to be remembered of tasks is not in the state file yet, and may get there."""
        return self._tasks.unwritten or self.unfinished

    def deadline(self) -> float | None:
        """When `look` will next have something to do."""
        return self._awaited.earliest()

    def run_of(self, worker: int) -> tuple[str, int] | None:
        """The task and the run of this worker, dead or alive."""
        pool = self._pools.whose(worker)
        going = self._going.get(pool.name if pool else self._by_worker.get(worker, ""))
        return (going.task, going.run) if going else None

    # -- facts -----------------------------------------------------------------

    def heard(self, news: Iterable[Action]) -> None:
        """What the pools have to tell: a run that was forked is told of with its pid."""
        for note in news:
            if isinstance(note, Note) and note.event == "worker.started" and note.worker:
                self._forked(note.worker)

    def _forked(self, worker: Worker) -> None:
        going = self._going.get(worker.pool)
        if going and going.pid is None and worker.pid is not None:
            going.pid = worker.pid
            self._forking -= 1
            self._tasks.started(going.run, worker.pid)

    def exiting(self, worker: Worker, end: End, now: float, *, lines_follow: bool) -> None:
        """A worker is gone, or could not be forked; to be told before its pool hears of it."""
        going = self._going.get(worker.pool)
        if going is None or worker.id not in going.pool.workers:
            return
        self._forked(worker)
        if end.error is not None and worker.pid is None and not going.late:
            if self._tasks.may_begin(going.run):
                self._tasks.delayed(going.run, end.error)
            return
        going.worker, going.end, going.gone_at = worker, end, now
        self._by_worker[worker.id] = worker.pool
        # At once, where its end is not known: its pool would take it for a fork to be tried again.
        lines_follow = lines_follow and end.error is None
        self._awaited.set(worker.pool, now + LAST_WORDS if lines_follow else now)

    def printed(self, worker: int, lines: Iterable[str]) -> None:
        """What a dead worker wrote last."""
        if name := self._by_worker.get(worker):
            self._over(self._going[name], tuple(lines))

    # -- the plan --------------------------------------------------------------

    def start(self, action: StartRun) -> None:
        """A run is to begin."""
        self._queue.append(action)

    def stop(self, action: StopRun, now: float) -> None:
        """A run had its time."""
        self._queue = deque(start for start in self._queue if start.run != action.run)
        going = self._going.get(RUNS + action.task)
        if going is None or going.run != action.run:
            self._tasks.ended(action.task, action.run, FAILED, error="it could not begin in time")
            return
        if any(worker.asked_at is not None for worker in going.pool.workers.values()):
            return  # a stop was sooner, and says how long it may still take
        going.late = True
        if going.pool.workers:
            self._pools.retire(going.pool, now, reason=action.reason)
        elif going.worker is None:
            self._conclude(going, FAILED, End())

    def look(self, now: float) -> None:
        """Begin what there is room for; be done with what is over."""
        for name in self._awaited.due(now):
            self._over(self._going[name], ())
        if self._tasks.stopping or self._tasks.quiet:
            self._give_up_unborn()
        while self._queue and self._forking < FORKS_AT_ONCE:
            self._begin(self._queue.popleft())

    def plan(self, now: float) -> Iterator[Note | Save | Ask | Reply]:
        """What tasks want; what begins and ends of their runs is for the pools to do."""
        more = True
        while more:
            more = False
            self.look(now)
            for action in self._tasks.plan(now):
                match action:
                    case StartRun():
                        self.start(action)
                    case StopRun():
                        self.stop(action, now)
                    case _:
                        yield action
                        continue
                more = True

    def _begin(self, start: StartRun) -> None:
        settings = start.settings.as_pool(self.stop_timeout)
        pool = self._pools.add_run(settings, self.generation)
        self._going[settings.name] = Going(start.task, start.run, pool)
        self._forking += 1

    def _give_up_unborn(self) -> None:
        """Who is not there yet, and may not begin any more, will not be."""
        queue, self._queue = self._queue, deque()
        for start in queue:
            if self._tasks.may_begin(start.run):
                self._queue.append(start)
            else:
                self._tasks.unborn(start.run)
        for going in [g for g in self._going.values() if g.worker is None and not g.pool.workers]:
            if not self._tasks.may_begin(going.run):
                self._forget(going)
                self._tasks.unborn(going.run)

    def _over(self, going: Going, lines: tuple[str, ...]) -> None:
        assert going.worker is not None
        assert going.end is not None
        worker, end = going.worker, going.end
        del self._by_worker[worker.id]
        self._awaited.drop(worker.pool)
        cut = self._tasks.stopping and worker.killed is not None
        interrupted = not going.late and (cut or was_told(worker, end))
        outcome = INTERRUPTED if interrupted else OK if end.code == WORKER_DONE else FAILED
        why = reason(worker, end, asked=worker.asked_at is not None)
        if interrupted:
            why = f"the master is stopping ({why})" if self._tasks.stopping else "it was told to stop"
        seconds = going.gone_at - worker.born_at
        self._conclude(going, outcome, end, seconds=seconds, lines=lines, why=why)

    def _forget(self, going: Going) -> None:
        del self._going[going.pool.name]
        self._forking -= going.pid is None
        self._pools.end_run(going.pool)

    def _conclude(
        self,
        going: Going,
        outcome: str,
        end: End,
        *,
        seconds: float | None = None,
        lines: tuple[str, ...] = (),
        why: str | None = None,
    ) -> None:
        self._forget(going)
        self._tasks.ended(
            going.task,
            going.run,
            outcome,
            code=end.code,
            signal=end.signal,
            seconds=seconds,
            lines=lines,
            error=end.error,
            reason=why,
        )


def was_told(worker: Worker, end: End) -> bool:
    """Whether it left because the master, or a person, wanted it to, and so was not done by itself.

    Of a person the master knows only that a target acknowledges, and a target may do so unasked: so it
    makes no failure less of one.  What a program means by STOPPING=1 is its own affair.
    """
    left = worker.settings.command is None and end.code in (WORKER_DONE, WORKER_REPLACE)
    return worker.asked_at is not None or (left and worker.acknowledged_at is not None)
