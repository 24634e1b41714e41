"""The master: joins what is seen with what is decided, and carries out the plan.

::

    one turn: plan -> do each action -> wait -> note each thing seen as a fact

Nothing is decided here and nothing waits but `Loop.poll`.  What an action
brings about is a fact of the next turn.  `hands` carries out, `ears` take in
what comes from children, `voice` tells.
"""

from __future__ import annotations

import math
import os
import signal
import time
import traceback
from collections.abc import Mapping
from typing import Any

from supervisor import __version__
from supervisor.announcer import Announcer
from supervisor.control.protocol import REFUSED, Refusal
from supervisor.control.requests import Requests
from supervisor.control.server import Server
from supervisor.decide.life import Life
from supervisor.decide.stopping import Firmness
from supervisor.decide.task_actions import Reply
from supervisor.decide.tasks import Tasks
from supervisor.errors import StartError
from supervisor.exits import Exit, signal_name
from supervisor.hook_thread import HookThread
from supervisor.master.births import Births
from supervisor.master.ears import Ears
from supervisor.master.editions import Editions
from supervisor.master.hands import Hands
from supervisor.master.voice import Voice
from supervisor.settings import Settings, TaskSettings
from supervisor.status import Beside, dated, snapshot
from supervisor.stored import Stored
from supervisor.unix.children import Children
from supervisor.unix.clock import ClockWatch
from supervisor.unix.doors import Doors, Taken
from supervisor.unix.loop import Loop, Seen
from supervisor.unix.process import end, has_children
from supervisor.unix.sinks import STDERR, STDOUT, kept_from
from supervisor.unix.usage import usage

LAST_SWEEPS = 3  # a killed process may leave children of its own, which come to us
FROZEN = 1.0  # a turn so many seconds late means that the master itself did not run
# Messages before exits: a worker that said READY and is gone was ready.
# The answers of templates first of all: a worker's pid must be known before it is heard or buried.
ORDER = "clock signal template notify hook control client output drain meter store told exit"
RANK = {kind: place for place, kind in enumerate(ORDER.split())}


class Master:
    """One life of the master, from the first turn to its exit status."""

    def __init__(
        self,
        settings: Settings,
        doors: Doors,
        loop: Loop,
        environ: Mapping[str, str],
        nofile: tuple[int, int],
        *,
        stored: Mapping[str, Stored],
    ) -> None:
        self.doors, self.loop = doors, loop
        self.life = _life(settings, stored, doors.taken, loop.now())
        self.children, self.clock = Children(loop), ClockWatch()
        self.hooks = HookThread(settings)
        self.announcer = Announcer(settings.master, loop)
        self.voice = Voice(self.life, self.announcer, self.hooks, environ, loop.now())
        self.tell = self.announcer.tell
        self.editions = Editions(settings, doors, self.announcer, self.hooks, loop)
        self.births = Births(
            self.editions,
            self.life,
            doors,
            loop,
            children=self.children,
            voice=self.voice,
            environ=environ,
            nofile=nofile,
        )
        self.hands = Hands(
            self.life, self.editions, self.births, children=self.children, voice=self.voice, hooks=self.hooks
        )
        self.ears = Ears(
            self.life, self.births, doors, children=self.children, voice=self.voice, hooks=self.hooks
        )
        self._beside = Beside(os.getpid(), loop.now(), self.voice.ends, usage, lambda: self.voice.last_reload)
        requests = Requests(self.life, self._picture, loop.now)
        self.server = Server(loop, doors.control.socket, requests.answer, self._server_failed)
        self.announcer.publish = self.server.publish
        self.hands.reply = self._reply
        self._watch()

    def _watch(self) -> None:
        """Hear of all that is open already."""
        if self.clock.fd >= 0:
            self.loop.watch(self.clock.fd, "clock")
        for receiver in self.doors.receivers():
            self.loop.watch(receiver.socket.fileno(), "notify")
        self.loop.watch(self.hooks.fd, "hook")

    # -- turns ---------------------------------------------------------------------

    def run(self) -> int:
        """Live until the plan says `Finish`; return the exit status."""
        name, file = self.editions.current.master.name, self.editions.current.file
        self.tell("master.started", name=name, pid=os.getpid(), file=file, version=__version__)
        while self.hands.status is None:
            try:
                self._turn()
            except Exception:  # a bug here: say so, and leave in order
                self._broke(traceback.format_exc())
        self.voice.wait_no_longer(math.inf)
        if left := self.life.tasks.left():
            self.tell("task.unsaved", **left)
        self.tell("master.exiting", status=self.hands.status)
        return self.hands.status

    def close(self) -> None:
        """Get the last words out; leave no child, not even one that an ``on_exit`` hook began."""
        for _ in range(LAST_SWEEPS):
            for pid in self.children.adopted() if has_children() else ():
                end(pid)
        self.births.close()
        self.server.finish()
        self.announcer.finish()

    def _turn(self) -> None:
        now = self.loop.now()
        self.hands.carry_out(self.life.plan(now))
        self.voice.service.keep_told(now)
        if self.hands.status is None:
            self._look(self._deadline(now))

    def _deadline(self, now: float) -> float | None:
        if self.hands.facts:
            return now
        others = (self.server.deadline(), self.voice.deadline(), self.voice.service.deadline())
        times = (self.life.deadline(), *others)
        return min((t for t in times if t is not None), default=None)

    def _look(self, deadline: float | None) -> None:
        """Wait, and turn everything that happened into facts."""
        seen = self.loop.poll(deadline)
        now = self.loop.now()
        self.life.clock(now, time.time())
        facts, self.hands.facts = self.hands.facts, []
        for fact in facts:
            fact()
        for one in sorted(seen, key=lambda s: RANK[s.kind]):
            self._note(one, now)
        if deadline is not None and now - deadline > FROZEN:
            self.life.thawed(now)
        self.voice.wait_no_longer(now)
        self.server.expire(now)
        if any(one.kind == "exit" or one.key == signal.SIGCHLD for one in seen):
            self._reap()

    def _broke(self, trace: str) -> None:
        self.tell("master.error", traceback=trace)
        if self.life.broken is not None:  # a second time: nothing here can be trusted any more
            self.hands.status = Exit.FAILED
            self.hands.kill_everybody()
        self.life.fail("internal error", self.loop.now())

    # -- what was seen -------------------------------------------------------------

    def _note(self, seen: Seen, now: float) -> None:
        match seen.kind:
            case "signal":
                self._note_signal(seen.key, now)
            case "clock":
                self.clock.seen()
            case "control" | "client":
                self.server.seen(seen, now)
            case "output":
                self.announcer.flush()
            case _:
                self.ears.note(seen, now)

    def _note_signal(self, number: int, now: float) -> None:  # noqa: C901  # one signal of the contract a case
        name = signal_name(number)
        match number:
            case signal.SIGTERM:
                self.life.ask(Firmness.STOP, name, now)
            case signal.SIGINT:
                self.life.interrupt(name, now)
            case signal.SIGQUIT:
                self.life.ask(Firmness.FORCE, name, now)
            case signal.SIGUSR2:
                self.life.ask(Firmness.RESTART, name, now)
            case signal.SIGTSTP | signal.SIGCONT:
                self.life.hush(number == signal.SIGTSTP)
            case signal.SIGTTIN | signal.SIGTTOU:
                self._scale(1 if number == signal.SIGTTIN else -1, now)
            case signal.SIGUSR1:
                self._reopen()
            case signal.SIGCHLD:
                for child in self.children.blind():
                    self.ears.bury(child, now)
                for child in self.children.halted(self.life.everybody.of_the_master()):
                    self.life.everybody.halted(child)
            case signal.SIGHUP:
                self.life.renew(name)
            case _:
                self.tell("signal.ignored", "warning", signal=name, reason="it has no meaning here")

    def _scale(self, step: int, now: float) -> None:
        for pool in self.life.pools.values():
            self.life.resize(pool, max(1, pool.slots.size + step), now)

    def _reopen(self) -> None:
        try:
            self.announcer.reopen()
        except StartError as error:
            self.tell("log.failed", reason=str(error))
        self.births.drains.reopen()

    def _reap(self) -> None:
        for pid in self.children.reap_adopted():
            self.tell("orphan.reaped", pid=pid)
        self.hands.look_whether_alone()

    # -- for the control socket ----------------------------------------------------

    def _picture(self) -> dict[str, Any]:
        return snapshot(self.life, self._beside, self.loop.now())

    def _reply(self, reply: Reply) -> None:
        """To who commanded something of tasks."""
        result = dated(reply.result) if reply.error is None else Refusal(REFUSED, reply.error)
        self.server.reply(reply.request.number, result)

    def _server_failed(self, error: Exception) -> None:
        self.tell("master.error", traceback="".join(traceback.format_exception(error)))


def _life(settings: Settings, stored: Mapping[str, Stored], taken: Taken | None, now: float) -> Life:
    """What is decided from: all of it as it is at the start."""
    tasks = Tasks(settings.tasks, stored, _next_due, _chance, now=now, wall=time.time())
    life = Life(settings, _chance, (kept_from(STDOUT), kept_from(STDERR)), tasks)
    if taken:
        life.opening.taken(taken.address, taken.holders, taken.error, now)
    return life


def _next_due(task: TaskSettings, after: float) -> float | None:
    from supervisor.calendar import next_due  # only where there is such a task: it costs the master memory

    return next_due(task, after)


def _chance() -> float:
    """A number from 0 to 1, for jitter; `random` would cost the master memory."""
    return int.from_bytes(os.urandom(4), "big") / 2**32
