"""How the master says what was noted: one `Note`, one event, to all who listen.

Adds names to numbers, remembers how each slot's last worker and the last reload
ended, and lets the report of a failure wait a moment for the worker's last
lines.  Knows nothing of why something is said.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from supervisor.announcer import Announcer
from supervisor.decide.actions import Note
from supervisor.decide.inner import is_inner
from supervisor.decide.life import Life
from supervisor.decide.pools import is_run
from supervisor.decide.task_runs import LAST_WORDS
from supervisor.decide.worker import Worker
from supervisor.hook_thread import HookThread
from supervisor.service import Service
from supervisor.status import dated, iso
from supervisor.unix.notify import Systemd, watchdog_interval

# Of the master's own processes only what went wrong is worth more than debugging.
WORTH_SAYING = ("worker.failed", "worker.killed", "worker.continued", "worker.stack", "signal.denied")
# The beginning and the end of a task's run have events of their own.
TOLD_OTHERWISE = ("worker.started", "worker.ready", "worker.exited", "worker.failed")


class Voice:
    """The log, the event streams and the service manager."""

    def __init__(
        self, life: Life, announcer: Announcer, hooks: HookThread, environ: Mapping[str, str], now: float
    ) -> None:
        self.announcer = announcer
        self.tell = announcer.tell
        self.ends: dict[tuple[str, int], dict[str, Any]] = {}  # the last exit of each slot
        self._hooks = hooks
        self._systemd = Systemd(environ)
        self.service = Service(life, self._notify, watchdog_interval(environ), now)
        self._told_of_problem = False
        self.last_reload: dict[str, Any] = {"ok": None, "error": None, "at": None}
        self._awaited: set[int] = set()  # dead workers whose last lines are to come
        self._held: dict[int, tuple[float, str, dict[str, Any]]] = {}  # until when at most, and what

    def say(self, note: Note) -> None:
        """Say one note to everybody."""
        fields = dict(note.fields)
        if note.event == "hook.timeout":
            fields["hook"] = self._hooks.name_of(fields["hook"], fields.pop("index"))
        if note.event in ("reload.done", "reload.failed"):
            error = fields.get("error")
            self.last_reload = {"ok": error is None, "error": error, "at": iso(time.time())}
        if note.event.startswith("task."):
            fields = dated(fields)
        if note.worker is not None:
            fields = identity(note.worker) | fields
        if is_inner(str(fields.get("pool", ""))):
            self._say_of_inner(note.event, fields)
        elif is_run(str(fields.get("pool", ""))):
            self._say_of_run(note.event, fields)
        elif note.worker is not None and note.event in ("worker.exited", "worker.failed"):
            self._bury(note.worker, note.event, fields)
        else:
            self._say(note.event, fields)

    def _say(self, event: str, fields: dict[str, Any]) -> None:
        self.tell(event, **fields)
        self.service.hear(event, fields)

    def _say_of_inner(self, event: str, fields: dict[str, Any]) -> None:
        level = None if event in WORTH_SAYING else "debug"
        self.tell(event.replace("worker.", "inner.").replace("pool.", "inner."), level, **fields)

    def _say_of_run(self, event: str, fields: dict[str, Any]) -> None:
        if not event.startswith("pool."):
            self.tell(event, "debug" if event in TOLD_OTHERWISE else None, **fields)

    # -- last words --------------------------------------------------------------------

    def await_lines(self, worker: int) -> None:
        """It is dead, and what it wrote last will be told."""
        self._awaited.add(worker)

    def _bury(self, worker: Worker, event: str, fields: dict[str, Any]) -> None:
        self._remember(worker, fields)
        awaited = worker.id in self._awaited
        self._awaited.discard(worker.id)
        if awaited and event == "worker.failed":
            self._held[worker.id] = (time.monotonic() + LAST_WORDS, event, fields)
        else:
            self._say(event, fields)

    def lines(self, worker: int, lines: tuple[str, ...]) -> None:
        """What a dead worker wrote last."""
        self._awaited.discard(worker)
        if held := self._held.pop(worker, None):
            _, event, fields = held
            self._say(event, {**fields, "output": list(lines)})

    def deadline(self) -> float | None:
        """When somebody's last lines are no longer waited for."""
        return min((until for until, _, _ in self._held.values()), default=None)

    def wait_no_longer(self, now: float) -> None:
        """Say what has waited long enough."""
        for worker in [worker for worker, (until, _, _) in self._held.items() if until <= now]:
            _, event, fields = self._held.pop(worker)
            self._say(event, fields)

    def _remember(self, worker: Worker, fields: Mapping[str, Any]) -> None:
        end = {key: fields[key] for key in ("code", "signal", "reason")}
        self.ends[worker.pool, worker.slot] = {**end, "at": iso(time.time())}

    def _notify(self, **fields: object) -> None:
        """To the service manager; a way that is closed is told once."""
        self._systemd.send(**fields)
        if self._systemd.problem and not self._told_of_problem:
            self._told_of_problem = True
            self.tell("service.unreachable", reason=self._systemd.problem)


def identity(worker: Worker) -> dict[str, Any]:
    """Who is meant, in an event."""
    return {
        "worker": worker.name,
        "pool": worker.pool,
        "pid": worker.pid,
        "generation": worker.generation,
    }
