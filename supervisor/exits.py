"""What an exit status means, of the master and of a worker.

Knows the numbers and the words for them, and nothing about how a process comes
to leave with one.
"""

from __future__ import annotations

import signal as signals
from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses of the master and of ``supervisord-lite start``."""

    STOPPED = 0  # all work finished
    FAILED = 1  # could not start, or an internal error
    USAGE = 2  # bad usage or configuration
    CUT = 3  # a worker had to be SIGKILLed, or the stop was forced
    RESTART = 4  # USR2: all work finished, start me again
    RESTART_CUT = 5  # USR2: a worker had to be SIGKILLed, start me again
    GAVE_UP = 6  # a pool with on_give_up = "exit" kept failing
    ALREADY_RUNNING = 100  # another master holds the pidfile or socket


class ClientExit(IntEnum):
    """Exit statuses of the commands that talk to a running master."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_MASTER = 3


LONGEST_ERROR = 300  # characters of why a worker ended or did not begin, whoever says it
WORKER_DONE = 0
WORKER_FAILED = 1
WORKER_REPLACE = 4  # "replace me, nothing is wrong"


@dataclass(frozen=True)
class End:
    """How a process ended: an exit code, a signal number, or it never began."""

    code: int | None = None
    signal: int | None = None
    error: str | None = None  # why it could not be started at all

    @property
    def signal_name(self) -> str | None:
        """``SIGKILL`` for 9; ``None`` where no signal ended it."""
        return None if self.signal is None else signal_name(self.signal)


def signal_number(name: str) -> int:
    """15 for ``TERM`` or ``SIGTERM``."""
    return signals.Signals["SIG" + name.removeprefix("SIG")]


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; real-time signals as ``SIGRTMIN+n``."""
    try:
        return signals.Signals(number).name
    except ValueError:  # SIGSTKFLT has a name from Python 3.11 on
        beyond = number - signals.SIGRTMIN
        return f"SIGRTMIN+{beyond}" if beyond >= 0 else f"signal {number}"


def explain(end: End, ours: str | None, told: str | None = None) -> str:
    """One clause that says why a worker ended.

    ``ours`` is why we killed it, if we did; ``told`` what it said itself.
    """
    if end.error is not None:
        return end.error
    if end.signal is None:
        return f"exit status {end.code}" + (f": {told}" if told else "")
    name = signal_name(end.signal)
    if ours is not None and end.signal in (signals.SIGKILL, signals.SIGABRT):
        return f"{name} by supervisord-lite: {ours}"
    hint = ": out of memory?" if end.signal == signals.SIGKILL else ""
    return f"{name}, not sent by supervisord-lite{hint}"
