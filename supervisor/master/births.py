"""How the master has workers born: what each is given, and by whom it is forked.

A target and a command are forked here; a worker of a preload pool is asked of
its template; the inner pools get the other end of their channel.  What comes of
it are facts.  Decides nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from supervisor.announcer import ChildVoice
from supervisor.child import command, template
from supervisor.child.birth import Birth
from supervisor.child.callable import live
from supervisor.child.refusal import STARTED
from supervisor.decide import actions, inner
from supervisor.decide.life import Life
from supervisor.decide.pools import is_run
from supervisor.decide.worker import Worker
from supervisor.exits import End
from supervisor.inner import reading
from supervisor.master.editions import Editions
from supervisor.master.voice import Voice
from supervisor.settings import Hooks
from supervisor.unix import title
from supervisor.unix.children import Children
from supervisor.unix.doors import Doors
from supervisor.unix.drains import Drains
from supervisor.unix.loop import Loop
from supervisor.unix.meter import Meter
from supervisor.unix.sinks import STDERR, STDOUT, Told, sink_of
from supervisor.unix.stores import Stores
from supervisor.unix.templates import Templates

Fact = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """One worker to be forked here: what it runs, and what is closed here when it is."""

    number: int
    run: Callable[[], int]
    sealed: Callable[[], None]


class Births:
    """Everything that a worker gets from its master."""

    def __init__(
        self,
        editions: Editions,
        life: Life,
        doors: Doors,
        loop: Loop,
        *,
        children: Children,
        voice: Voice,
        environ: Mapping[str, str],
        nofile: tuple[int, int],
    ) -> None:
        self.foreign: frozenset[str] = frozenset()  # modules that only the master's hooks brought in
        self.drains, self.templates, self.meter = Drains(loop), Templates(loop), Meter(loop)
        self.stores = Stores(loop)
        self._editions, self._life, self._doors, self._loop = editions, life, doors, loop
        self._children, self._voice, self._environ, self._nofile = children, voice, environ, nofile
        self._question: int | None = None  # the memory file of the reader
        # Asked once: after a hangup a terminal is none any more, and who wrote to it would get EIO.
        self._inherited = {
            (fd, other): sink_of("inherit", fd, other_user=other)
            for fd in (STDOUT, STDERR)
            for other in (False, True)
        }
        self._told: dict[int, int] = {}  # worker to the pipe on which its program says that it did not start
        self._title, self._sender = title.find(), doors.notify.sender()
        master = editions.current.master
        self._title.set(title.of_master(master.name, editions.current.path), master.name)
        children.learn = self.learn

    # -- starting ------------------------------------------------------------------

    def start(self, starts: Sequence[actions.Start]) -> Iterator[Fact]:
        """Have all of them begin; those that are forked here, in one go."""
        jobs: list[Job] = []
        for start in starts:
            try:
                jobs += self._begin(start)
            except OSError as error:  # EMFILE: the machine's fault, to be tried again
                yield self._unborn(start.worker, f"cannot start: {error.strerror}")
        outcomes = self._children.fork_all([(job.number, job.run) for job in jobs])
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.sealed()
            if isinstance(outcome, int):
                yield self._born(job.number, outcome)
            else:
                yield self._unborn(job.number, f"cannot fork: {outcome.strerror}")

    def _begin(self, start: actions.Start) -> Iterator[Job]:
        pool = self._life.whose(start.worker)
        assert pool is not None, "only a known worker is started"
        worker = pool.workers[start.worker]
        if inner.is_inner(start.pool):
            yield self._inner_job(worker)
        elif worker.settings.preload:
            self._ask_template(worker)
        else:
            yield self._job(worker)

    def _job(self, worker: Worker) -> Job:
        with contextlib.ExitStack() as sealed:
            stdout, stderr = self._begin_output(worker)
            sealed.callback(self.drains.sealed, worker.id)
            if worker.settings.command is None:
                birth = self._birth(worker, stdout=stdout, stderr=stderr)
                hooks = self._editions.of(worker.generation).hooks
                run = partial(live, birth, self._sender, hooks, self._tell(worker))
            else:
                told = self._told_by(worker, sealed)
                birth = self._birth(worker, stdout=stdout, stderr=stderr, told=told)
                run = partial(command.live, birth, self._tell(worker))
            return Job(worker.id, run, sealed.pop_all().close)

    def _begin_output(self, worker: Worker) -> tuple[int | None, int | None]:
        if is_run(worker.pool):
            return self.drains.begin(worker.id, worker.name, Told(), Told())
        other_user = worker.settings.user is not None
        out, err = (
            self._inherited[fd, other_user] if setting == "inherit" else sink_of(setting, fd)
            for fd, setting in ((STDOUT, worker.settings.stdout), (STDERR, worker.settings.stderr))
        )
        return self.drains.begin(worker.id, worker.name, out, err)

    def _told_by(self, worker: Worker, sealed: contextlib.ExitStack) -> int:
        """A pipe that execve(2) closes: so we learn whether the program runs."""
        reading_end, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        sealed.callback(os.close, writing)
        self._told[worker.id] = reading_end
        self._loop.watch(reading_end, "told", worker.id)
        return writing

    def _ask_template(self, worker: Worker) -> None:
        stdout, stderr = self._begin_output(worker)
        key = inner.template_name(worker.pool, worker.generation)
        self.templates.request(key, worker.id, worker.slot, stdout, stderr)
        self.drains.sealed(worker.id)

    # -- inner pools ---------------------------------------------------------------

    def _inner_job(self, worker: Worker) -> Job:
        match worker.pool:
            case inner.OUTPUT:
                return self._with_channel(worker, self.drains.connect(), self.drains.connected)
            case inner.METER:
                return self._with_channel(worker, self.meter.connect(), self.meter.sealed)
            case inner.STORE:
                lock = self._doors.state.fd
                return self._with_channel(worker, self.stores.connect(), self.stores.sealed, lock)
            case inner.READER:
                return self._reader(worker)
        return self._template(worker)

    def _with_channel(
        self, worker: Worker, channel: int, sealed: Callable[[], None], lock: int | None = None
    ) -> Job:
        birth = replace(self._birth(worker), listeners=(("channel", channel),), lock=lock)
        run = partial(live, birth, self._sender, Hooks(), self._tell(worker))
        return Job(worker.id, run, sealed)

    def _reader(self, worker: Worker) -> Job:
        self.forget_question()
        state_file = None if self._life.everybody.remembers else self._editions.current.master.state_file
        ours = self._doors.state.fd is not None
        self._question = reading.question(self._environ, state_file, ours=ours)
        argv = reading.argv(self._editions.current, self._editions.base_path)
        birth = self._birth(worker)
        birth = replace(
            birth,
            pool=replace(birth.pool, command=argv),
            listeners=(("question", self._question),),
            path=None,
        )
        return Job(worker.id, partial(command.live, birth, self._tell(worker)), lambda: None)

    def answered(self) -> reading.Reading:
        """What the reader found."""
        question, self._question = self._question, None
        if question is None:
            return reading.Reading(None, ("the configuration could not be read: no reader was started",))
        return reading.result(question)

    def forget_question(self) -> None:
        """Nobody waits for the reader any more."""
        if self._question is not None:
            os.close(self._question)
            self._question = None

    def _template(self, worker: Worker) -> Job:
        settings = self._editions.of(worker.generation)
        name = inner.templated(worker.pool)
        channel = self.templates.connect(worker.pool)
        birth = self._birth(worker, name)
        voice, pool = self._voice.announcer.for_child, settings.pools[name]
        with contextlib.ExitStack() as sealed:
            sealed.callback(self.templates.sealed, worker.pool)
            if pool.user is not None:  # what its import prints: it must not have our streams either
                stdout, stderr = self._begin_output(worker)
                sealed.callback(self.drains.sealed, worker.id)
                birth = replace(birth, stdout=stdout, stderr=stderr)
            run = partial(template.live, birth, channel, settings.hooks, voice, pool)
            return Job(worker.id, run, sealed.pop_all().close)

    def learn(self) -> None:
        """What templates have answered: a pid must be known before it is heard of or found dead."""
        for number, answer in self.templates.answers():
            if isinstance(answer, int) and self._children.adopt(number, answer):
                self._born(number, answer)()
            else:
                self._unborn(number, answer if isinstance(answer, str) else "it is no child of ours")()

    def template_gone(self, key: str) -> None:
        """A template is dead: nobody will answer what it was asked."""
        for number, why in self.templates.closed(key):
            self._unborn(number, why)()
        self.learn()

    # -- what each is given --------------------------------------------------------

    def _birth(self, worker: Worker, pool: str | None = None, **descriptors: int | None) -> Birth:
        """``pool`` is that of the configuration whose standing it has, if not its own."""
        settings = self._editions.of(worker.generation)
        account = settings.accounts.get(pool or worker.pool)
        return Birth(
            master=settings.master,
            pool=worker.settings,
            slot=worker.slot,
            generation=worker.generation,
            parent=os.getpid(),
            notify_path=self._doors.notify_path(account),
            notify_fd=self._sender.fileno(),
            nofile=self._nofile,
            title=self._title,
            foreign=self.foreign,
            account=account,
            listeners=self._editions.listeners(worker.generation, worker.settings.sockets),
            path=self._editions.path(worker.generation),
            **descriptors,
        )

    def _tell(self, worker: Worker) -> ChildVoice:
        return self._voice.announcer.for_child(
            self._sender.fileno(), worker=worker.name, pool=worker.pool, generation=worker.generation
        )

    # -- facts ---------------------------------------------------------------------

    def _born(self, number: int, pid: int) -> Fact:
        def fact() -> None:
            if pool := self._life.whose(number):
                pool.started(number, pid)

        return fact

    def _unborn(self, number: int, why: str) -> Fact:
        self.drains.gone(number)
        self._forget_told(number)
        return lambda: self._life.exited(number, End(error=why), self._children.now())

    def executed(self, number: int) -> bool:
        """End of file: its program runs.  A byte: it does not, and the worker says why."""
        fd = self._told.get(number)
        with contextlib.suppress(BlockingIOError):
            runs = fd is not None and os.read(fd, 1) == STARTED
            self._forget_told(number)
            return runs
        return False

    def _forget_told(self, number: int) -> None:
        fd = self._told.pop(number, None)
        if fd is not None:
            self._loop.forget(fd)
            os.close(fd)

    def close(self) -> None:
        """At the master's end."""
        self.drains.close()
        self.meter.close()
        self.stores.close()
        self.forget_question()
