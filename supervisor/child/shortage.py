"""What the kernel did not give a worker that starts, and which limit may be why.

A thread that is refused is EAGAIN to the C library, whatever the reason, and
Python's RuntimeError has no reason at all: so the limits are told that could be
it.  pthread_create(3), fork(2), getrlimit(2)
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping

from supervisor.child.standing import in_force

# Of descriptors, of memory, of threads; of a library that another user may not read.
SHORTAGE = (OSError, MemoryError, RuntimeError, ImportError)
THREAD = -1  # in place of the number that Python does not tell
SUSPECTS: Mapping[int, tuple[str, ...]] = {
    errno.EMFILE: ("nofile",),
    errno.ENOMEM: ("as", "data"),
    errno.EAGAIN: ("nproc",),
    THREAD: ("nproc", "as", "data"),
}


def words(worker: str, pool: str, error: BaseException) -> str:
    """Why ``worker`` does not start, and what to do."""
    said = f"cannot start {worker}: {str(error) or 'out of memory'}"  # a MemoryError says nothing
    if isinstance(error, ImportError):
        return f"{said}; uid {os.geteuid()} must be able to read the Python in {sys.base_prefix}"
    return said + _advice(pool, _number(error))


def no_fork(pool: str, number: int) -> str:
    """Why a template of ``pool`` cannot fork a worker, and what to do."""
    return f"cannot fork: {os.strerror(number)}{_advice(pool, number)}"


def _advice(pool: str, number: int) -> str:
    """Which limits of this process may be why; nothing where no limit can be."""
    if number not in SUSPECTS:
        return ""
    if limits := in_force(*SUSPECTS[number]):
        low = f"its limits are {{ {limits} }}: raise the one that is too low"
        return f"; {low} in pools.{pool}.limits, or where the master is started"
    return "; none of its own limits is why: look at those of its cgroup"


def _number(error: BaseException) -> int:
    match error:
        case OSError():
            return error.errno or 0
        case MemoryError():
            return errno.ENOMEM
    return THREAD
