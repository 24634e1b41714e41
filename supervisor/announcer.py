"""Says what happened, once, to everyone who listens: the log, the event streams.

One event object goes to all.  Knows the ways out and their formats; what is
worth saying is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from supervisor import log
from supervisor.log import Event
from supervisor.settings import MasterSettings
from supervisor.unix.loop import WRITE, Loop
from supervisor.unix.notify import form, hand_over
from supervisor.unix.output import LIMIT, Output

STDERR = 2
LAST_WORDS = 1.0  # seconds that the last lines may take to get out
PATIENCE = 5.0  # seconds that a worker waits for a master that does not read


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

    def for_child(self, by: int, **identity: Any) -> ChildVoice:
        """A voice for a forked child, which speaks ``by`` this descriptor to us."""
        return ChildVoice(by, identity, self._rendered)

    def _rendered(self, said: Event) -> bytes:
        return log.render(said, self._format)


class ChildVoice:
    """What a worker says in the log by itself: handed to the master, who writes it.

    So no worker holds the log, which one of another user could empty, and what all say goes where the
    log goes today.  Whom the master does not hear any more says it on stderr.  Nothing here raises.
    """

    def __init__(self, by: int, identity: dict[str, Any], rendered: Callable[[Event], bytes]) -> None:
        self.by = by  # the way to the master; its number may change
        self._identity, self._rendered = identity, rendered

    def __call__(self, event: str, level: str | None = None, **fields: Any) -> None:
        """Say one thing; wait for room in the master's queue, within bounds."""
        said = log.make(event, level, wall=time.time(), **self._identity, pid=os.getpid(), **fields)
        with contextlib.suppress(OSError):
            if not hand_over(self.by, form(X_LOG=log.render(said, "json").decode()), PATIENCE):
                os.write(STDERR, self._rendered(said))
