"""A start that fails, told twice: in the log by this process, and in one line to the master.

The log has all of it; the line stands in ``status``, in ``worker.failed`` and in
the error of a reload.  Knows how it is told, not what can fail.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any, Protocol

from supervisor.exits import LONGEST_ERROR
from supervisor.unix.notify import form

UNREADABLE = re.compile(r'  File "(.+)", line ([0-9]+)')  # of a SyntaxError: the place is in no function
STARTED, NOT_STARTED = b"", b"x"  # what the master reads from `Birth.told`


class Tell(Protocol):
    """One event into the log: ``tell("hook.failed", hook="m:f")``."""

    by: int  # the descriptor by which it reaches the master, who has the log

    def __call__(self, event: str, level: str | None = None, **fields: Any) -> None:
        """Say it; never raises for want of a log."""


def refuse(
    tell: Tell, notify_fd: int, reason: str, *, told: int | None = None, traceback: str | None = None
) -> None:
    """Say why this worker does not begin."""
    if told is not None:  # first: the end of file alone would say that it has begun
        with contextlib.suppress(OSError):
            os.write(told, NOT_STARTED)
    say_error(notify_fd, f"{reason}: {last_line(traceback)}" if traceback else reason)
    if traceback is None:
        tell("worker.error", reason=reason)
    else:
        tell("worker.error", reason=reason, traceback=traceback)


def say_error(notify_fd: int, text: str) -> None:
    """To the master; waits for room in its queue: whoever fails has nothing else to do.

    A master that is gone is ECONNREFUSED, also for who waits already.  unix(7)
    """
    with contextlib.suppress(OSError):
        os.write(notify_fd, form(X_ERROR=" ".join(text.split())[:LONGEST_ERROR]))


def last_line(traceback: str) -> str:
    """What was raised: the first line behind the frames; its message may have more."""
    lines = traceback.strip().splitlines() or [""]
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    behind = lines[frames[-1] :] if frames else [""]
    said = next((line for line in behind if line[:1].strip()), lines[-1].strip())
    if place := UNREADABLE.fullmatch(behind[0]):
        said += f" ({os.path.basename(place[1])}, line {place[2]})"
    return said
