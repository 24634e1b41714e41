"""The settings of each generation, and what they hold open.

The one that holds, and one that is being tried: its sockets and its log are
open beside the old ones until `commit` or `undo`.  Decides nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from supervisor.announcer import Announcer
from supervisor.errors import ConfigError, StartError
from supervisor.hook_thread import HookThread
from supervisor.inner.difference import changes
from supervisor.inner.reading import Reading, kept, unchangeable
from supervisor.settings import Settings
from supervisor.unix.doors import Doors, Taken
from supervisor.unix.loop import Loop
from supervisor.unix.output import Output
from supervisor.unix.sockets import Change, Listeners


@dataclass
class Trial:
    """What is open for a generation that is being tried."""

    generation: int
    settings: Settings
    sockets: Change
    log: Output | None  # None: where it went before


class Editions:
    """Generation to settings."""

    def __init__(
        self, settings: Settings, doors: Doors, announcer: Announcer, hooks: HookThread, loop: Loop
    ) -> None:
        self.current = settings
        self._doors, self._announcer, self._hooks, self._loop = doors, announcer, hooks, loop
        self._trial: Trial | None = None
        self.base_path = sys.path[len(settings.master.pythonpath) :]  # without what the configuration adds
        self._found_path = settings.master.pythonpath

    def of(self, generation: int) -> Settings:
        """The settings that a worker of this generation is born with."""
        return self._tried(generation).settings if self._is_tried(generation) else self.current

    def listeners(self, generation: int, names: Sequence[str]) -> tuple[tuple[str, int], ...]:
        """Sockets by name and descriptor."""
        if self._is_tried(generation):
            return Listeners.fds_of(self._tried(generation).sockets, names)
        return self._doors.listeners.fds(names)

    def path(self, generation: int) -> tuple[str, ...] | None:
        """``sys.path`` for a worker, where it is not the master's own."""
        own = self.of(generation).master.pythonpath
        return None if own == self._found_path else (*own, *self.base_path)

    def _is_tried(self, generation: int) -> bool:
        return self._trial is not None and self._trial.generation == generation

    def _tried(self, generation: int) -> Trial:
        assert self._trial is not None, f"generation {generation} is not being tried"
        return self._trial

    def listen(self) -> Taken | None:
        """Try once more to open the sockets of the start, see `Doors.listen`."""
        warn = partial(self._announcer.tell, "master.warning", "warning")
        return self._doors.listen(self.current, lambda text: warn(reason=text))

    # -- a reload --------------------------------------------------------------

    def prepare(
        self, generation: int, reading: Reading, warn: Callable[[str], None]
    ) -> tuple[Settings, list[str]]:
        """Open what the new settings need; they, and the keys that differ.

        Raises:
            SupervisorError: they have mistakes, or something cannot be opened; nothing is changed then.
        """
        if reading.settings is None:
            raise ConfigError(list(reading.lines))
        for line in (*reading.lines, *unchangeable(self.current, reading.settings)):
            warn(line)
        settings = kept(self.current, reading.settings)
        if any(task.schedule is not None for task in settings.tasks.values()):
            _load_calendar()
        if settings.tasks:
            self._doors.state.hold(settings.master.state_file)
        with contextlib.ExitStack() as undo:
            if log := self._new_log(settings):
                undo.callback(log.close)
            sockets = self._doors.listeners.prepare(settings.sockets)
            undo.callback(self._doors.listeners.undo, sockets)
            for receiver in self._doors.admit(settings.accounts.values()):
                self._loop.watch(receiver.socket.fileno(), "notify")
            undo.pop_all()
        self._trial = Trial(generation, settings, sockets, log)
        list_folders()
        return settings, changes(self.current, settings)

    def _new_log(self, settings: Settings) -> Output | None:
        path = settings.master.log_file
        return Output.to_file(path) if path and path != self.current.master.log_file else None

    def commit(self, generation: int) -> None:
        """It holds from now on."""
        trial = self._tried(generation)
        self._doors.listeners.commit(trial.sockets)
        self._announcer.adopt(trial.settings.master, trial.log)
        self._hooks.adopt(trial.settings)
        self.current, self._trial = trial.settings, None

    def undo(self, generation: int) -> None:
        """It is given up."""
        trial = self._tried(generation)
        self._doors.listeners.undo(trial.sockets)
        if trial.log is not None:
            trial.log.close()
        self._trial = None


def _load_calendar() -> None:
    """Only schedules need it, and it costs memory.  Files of it that cannot be had fail the reload."""
    try:
        importlib.import_module("supervisor.calendar")
    except (ImportError, OSError) as error:
        raise StartError(f"tasks with a schedule cannot be had: {error}") from error


def list_folders() -> None:
    """What is in the folders of ``sys.path`` by now: read here, so that no worker has to."""
    importlib.invalidate_caches()
    importlib.util.find_spec("no_such_module")
