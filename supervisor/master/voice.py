"""How the master says what was noted: one `Note`, one event, to all who listen.

Adds names to numbers, and remembers how each slot's last worker ended.  Knows
nothing of why something is said.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from supervisor.announcer import Announcer
from supervisor.decide.actions import Note
from supervisor.decide.life import Life
from supervisor.decide.worker import Worker
from supervisor.hook_thread import HookThread
from supervisor.service import Service
from supervisor.status import iso
from supervisor.unix.notify import Systemd, watchdog_interval


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

    def say(self, note: Note) -> None:
        """Say one note to everybody."""
        fields = dict(note.fields)
        if note.event == "hook.timeout":
            fields["hook"] = self._hooks.name_of(fields["hook"], fields.pop("index"))
        if note.worker is not None:
            fields = _identity(note.worker) | fields
            if note.event in ("worker.exited", "worker.failed"):
                self._remember(note.worker, fields)
        self.tell(note.event, **fields)
        self.service.hear(note.event, fields)

    def _remember(self, worker: Worker, fields: Mapping[str, Any]) -> None:
        end = {key: fields[key] for key in ("code", "signal", "reason")}
        self.ends[worker.pool, worker.slot] = {**end, "at": iso(time.time())}

    def _notify(self, **fields: object) -> None:
        """To the service manager; a way that is closed is told once."""
        self._systemd.send(**fields)
        if self._systemd.problem and not self._told_of_problem:
            self._told_of_problem = True
            self.tell("service.unreachable", reason=self._systemd.problem)


def _identity(worker: Worker) -> dict[str, Any]:
    return {
        "worker": worker.name,
        "pool": worker.pool,
        "pid": worker.pid,
        "generation": worker.generation,
    }
