"""What an exit status means, of the master and of a worker.

Knows the numbers and nothing about how a process comes to leave with one.
"""

from __future__ import annotations

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


WORKER_DONE = 0
WORKER_FAILED = 1
WORKER_REPLACE = 4  # "replace me, nothing is wrong"
