"""Says what happened, once, to everyone who listens: the log, the event streams.

One event object goes to all.  Knows the ways out and their formats; what is
worth saying is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from supervisor import log
from supervisor.errors import StartError
from supervisor.settings import MasterSettings
from supervisor.unix.loop import WRITE, Loop
from supervisor.unix.output import LIMIT, Output

STDERR = 2
LAST_WORDS = 1.0  # seconds that the last lines may take to get out
PATIENCE = 5.0  # seconds that a worker waits for room in the log: on a terminal somebody may have pressed ^S


class Announcer:
    """The master's voice."""

    def __init__(self, settings: MasterSettings, loop: Loop) -> None:
        path = settings.log_file
        self._output = Output.to_file(path) if path else Output(STDERR)
        self._loop = loop
        self._take_form(settings)
        self._watched: int | None = None
        self.publish: Callable[[Mapping[str, Any]], None] = lambda _: None  # into the event streams

    def tell(self, event: str, level: str | None = None, **fields: Any) -> None:
        """Say one thing.  Never blocks, never raises for want of a listener."""
        said = log.make(event, level, wall=time.time(), **fields)
        if log.passes(said, self._least):
            # What a task's run printed stands above already; so do a worker's last lines on a terminal.
            above = self._format != "json" and (self._on_terminal or "task" in said)
            shown = said | {"output": None} if above and "output" in said else said
            # What a task prints must not be what keeps others' words from the log.
            limit = LIMIT // 2 if event == "task.output" else LIMIT
            self._output.write(log.render(shown, self._format, self._colour), limit)
            self._follow()
        self.publish(said)

    def flush(self) -> None:
        """The way out has room again."""
        self._output.flush()
        if dropped := self._output.take_dropped():
            self.tell("log.dropped", count=dropped)
        self._follow()

    def adopt(self, settings: MasterSettings, output: Output | None) -> None:
        """After a reload: other settings, and another way out if one is given."""
        if output is None and self._path is not None and settings.log_file is None:
            output = Output(STDERR)
        if output is not None:
            self._change_to(output)
        self._take_form(settings)

    def _take_form(self, settings: MasterSettings) -> None:
        self._least, self._path = settings.log_level, settings.log_file
        fd = -1 if self._path else STDERR
        self._format = log.choose_format(settings.log_format, fd, os.environ)
        self._colour, self._on_terminal = log.choose_colour(fd, os.environ), fd >= 0 and os.isatty(fd)

    def _change_to(self, output: Output) -> None:
        self._look_away()
        self._output.flush()
        self._output.close()
        self._output = output

    def reopen(self) -> None:
        """Open the log file anew, after it was moved away (USR1)."""
        self._look_away()
        self._output.reopen()

    def finish(self) -> None:
        """Get the last lines out, within bounds."""
        self._output.finish(LAST_WORDS)

    def _follow(self) -> None:
        """Watch for room exactly while something waits for it."""
        wants = self._output.wants()
        if wants == self._watched:
            return
        self._look_away()
        if wants is not None:
            self._loop.watch(wants, "output", 0, WRITE)
        self._watched = wants

    def _look_away(self) -> None:
        """Before what is watched is closed."""
        if self._watched is not None:
            self._loop.forget(self._watched)
            self._watched = None

    def for_child(self, **identity: Any) -> ChildVoice:
        """A voice for a forked child: the same format, a way out of its own."""
        return self.for_children()(**identity)

    def for_children(self) -> Callable[..., ChildVoice]:
        """The same for a child that forks others, by their names: what it keeps open they have, too."""
        way = ChildLog(self._path)
        return lambda **identity: ChildVoice(way, partial(self._rendered, identity))

    def _rendered(self, identity: dict[str, Any], event: str, level: str | None, **fields: Any) -> bytes:
        said = log.make(event, level, wall=time.time(), **identity, pid=os.getpid(), **fields)
        return log.render(said, self._format, self._colour) if log.passes(said, self._least) else b""


class ChildVoice:
    """What a worker says in the log by itself; a log that cannot be written never ends it."""

    def __init__(self, way: ChildLog, rendered: Callable[..., bytes]) -> None:
        self._way, self._rendered = way, rendered

    def __call__(self, event: str, level: str | None = None, **fields: Any) -> None:
        """Append one event."""
        with contextlib.suppress(OSError, StartError):
            self._way.append(self._rendered(event, level, **fields))

    def keep_log(self) -> None:
        """Stderr becomes the worker's own file, or it another user: keep a way to the log as it is now."""
        with contextlib.suppress(OSError):
            self._way.keep()


class ChildLog:
    """The log of a child: opened for each line, where it may be, else as it was kept open."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._kept: int | None = None

    def keep(self) -> None:
        """Have a descriptor of one's own, not for programs that are run."""
        if self._kept is None and self._path is None:
            self._kept = fcntl.fcntl(STDERR, fcntl.F_DUPFD_CLOEXEC, STDERR + 1)
        elif self._kept is None and self._path is not None:
            self._kept = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY)

    def append(self, line: bytes) -> None:
        """Wait for room, within bounds."""
        output = self._output()
        output.write(line)
        output.finish(PATIENCE)
        output.close()

    def _output(self) -> Output:
        if self._path is None:
            return Output(STDERR if self._kept is None else self._kept)
        try:
            return Output.to_file(self._path)  # it may have been moved away since
        except StartError:
            if self._kept is None:
                raise
            return Output(self._kept)
