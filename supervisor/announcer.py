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
        self._colour, self._on_terminal = log.choose_colour(fd, os.environ), fd >= 0 and os.isatty(fd)
        self._least, self._path, self._loop = settings.log_level, path, loop
        self._watched: int | None = None
        self.publish: Callable[[Mapping[str, Any]], None] = lambda _: None  # into the event streams

    def tell(self, event: str, level: str | None = None, **fields: Any) -> None:
        """Say one thing.  Never blocks, never raises for want of a listener."""
        said = log.make(event, level, wall=time.time(), **fields)
        if log.passes(said, self._least):
            # On a terminal a worker's last lines stand above already.
            shown = said | {"output": None} if self._on_terminal and "output" in said else said
            self._output.write(log.render(shown, self._format, self._colour))
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
        self._colour, self._on_terminal = log.choose_colour(fd, os.environ), fd >= 0 and os.isatty(fd)

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

    def for_child(self, **identity: Any) -> ChildVoice:
        """A voice for a forked child: the same format, plain blocking writes of its own."""
        return ChildVoice(self._path, partial(self._rendered, identity))

    def _rendered(self, identity: dict[str, Any], event: str, level: str | None, **fields: Any) -> bytes:
        said = log.make(event, level, wall=time.time(), **identity, pid=os.getpid(), **fields)
        return log.render(said, self._format, self._colour) if log.passes(said, self._least) else b""


class ChildVoice:
    """What a worker says in the log by itself; a log that cannot be written never ends it."""

    def __init__(self, path: str | None, rendered: Callable[..., bytes]) -> None:
        self._path, self._rendered = path, rendered
        self._fd: int | None = None  # kept open

    def __call__(self, event: str, level: str | None = None, **fields: Any) -> None:
        """Append one event."""
        with contextlib.suppress(OSError):
            self._append(self._rendered(event, level, **fields))

    def keep_log(self) -> None:
        """Stderr becomes the worker's own file, or it another user: keep a way to the log as it is now."""
        if self._fd is None:
            with contextlib.suppress(OSError):
                self._fd = _opened(self._path)

    def _append(self, line: bytes) -> None:
        if self._fd is not None:
            os.write(self._fd, line)
        elif self._path is None:
            os.write(STDERR, line)
        else:
            fd = _opened(self._path)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)


def _opened(path: str | None) -> int:
    """A descriptor of one's own, not for programs that are run."""
    if path is None:
        return fcntl.fcntl(STDERR, fcntl.F_DUPFD_CLOEXEC, STDERR + 1)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640)
