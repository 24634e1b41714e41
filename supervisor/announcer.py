"""Says what happened, once, to everyone who listens: the log, the event streams.

One event object goes to all.  Knows the ways out and their formats; what is
worth saying is decided elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from supervisor import log
from supervisor.settings import MasterSettings
from supervisor.unix.loop import WRITE, Loop
from supervisor.unix.output import Output

STDERR = 2
LAST_WORDS = 1.0  # seconds that the last lines may take to get out


class Announcer:
    """The master's voice."""

    def __init__(self, settings: MasterSettings, loop: Loop) -> None:
        path = settings.log_file
        self._output = Output.to_file(path) if path else Output(STDERR)
        fd = -1 if path else STDERR
        self._format = log.choose_format(settings.log_format, fd, os.environ)
        self._colour = log.choose_colour(fd, os.environ)
        self._least, self._path, self._loop = settings.log_level, path, loop
        self._watched: int | None = None
        self.publish: Callable[[Mapping[str, Any]], None] = lambda _: None  # into the event streams

    def tell(self, event: str, level: str | None = None, **fields: Any) -> None:
        """Say one thing.  Never blocks, never raises for want of a listener."""
        said = log.make(event, level, wall=time.time(), **fields)
        if log.passes(said, self._least):
            self._output.write(log.render(said, self._format, self._colour))
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
        before = self._path
        self._least, self._path = settings.log_level, settings.log_file
        if output is None and before is not None and self._path is None:
            output = Output(STDERR)
        if output is not None:
            self._change_to(output)
        fd = -1 if self._path else STDERR
        self._format = log.choose_format(settings.log_format, fd, os.environ)
        self._colour = log.choose_colour(fd, os.environ)

    def _change_to(self, output: Output) -> None:
        if self._watched is not None:
            self._loop.forget(self._watched)
            self._watched = None
        self._output.flush()
        self._output.close()
        self._output = output

    def reopen(self) -> None:
        """Open the log file anew, after it was moved away (USR1)."""
        if self._watched is not None:
            self._loop.forget(self._watched)
            self._watched = None
        self._output.reopen()

    def finish(self) -> None:
        """Get the last lines out, within bounds."""
        self._output.finish(LAST_WORDS)

    def _follow(self) -> None:
        """Watch for room exactly while something waits for it."""
        wants = self._output.wants()
        if wants == self._watched:
            return
        if self._watched is not None:
            self._loop.forget(self._watched)
        if wants is not None:
            self._loop.watch(wants, "output", 0, WRITE)
        self._watched = wants

    def for_child(self, **identity: Any) -> Callable[..., None]:
        """A voice for a forked child: the same format, plain blocking writes of its own."""

        def tell(event: str, level: str | None = None, **fields: Any) -> None:
            said = log.make(event, level, wall=time.time(), **identity, pid=os.getpid(), **fields)
            if log.passes(said, self._least):
                _write(self._path, log.render(said, self._format, self._colour))

        return tell


def _write(path: str | None, line: bytes) -> None:
    """Append one line; a log that cannot be written never ends a worker."""
    try:
        if path is None:
            os.write(STDERR, line)
            return
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)
    except OSError:
        return
