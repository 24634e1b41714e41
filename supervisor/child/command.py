"""A worker that is a program: from the fork to execve(2).

::

    settle -> default signals, none blocked -> exec

What the program does then is its own: it says READY=1, WATCHDOG=1 and STOPPING=1
by ``NOTIFY_SOCKET``, it gets its stop signal from the master, and TERM from the
kernel when the master dies.  No code of ours is left in it that could enforce
``stop_timeout`` then.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence

from supervisor.child import exec_error
from supervisor.child.birth import Birth, settle
from supervisor.child.refusal import Tell, refuse
from supervisor.exits import WORKER_FAILED
from supervisor.unix.signals import block_signals, set_mask

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as shells have them
ABSENT = (errno.ENOENT, errno.ENOTDIR)
ELSEWHERE = (*ABSENT, errno.EACCES)  # after these execvp(3) looks into the next folder


def live(birth: Birth, tell: Tell) -> int:
    """Become the program; return only where that failed: the exit status."""
    settled = settle(birth, tell)
    if settled is None:
        return WORKER_FAILED
    argv = settled.pool.command or ()
    failed = execute(argv)
    block_signals()  # a stop must not come between what is told now
    folder = settled.pool.working_dir or settled.master.working_dir
    refuse(tell, settled.notify_fd, exec_error.words(argv, failed, folder), told=settled.told)
    return NOT_FOUND if failed.errno in ABSENT and failed.filename is None else NOT_EXECUTABLE


def execute(argv: Sequence[str]) -> OSError:
    """Try each file that the name may mean; the error that says most, with its file if that is there.

    The descriptors that are not meant for it close by themselves (CLOEXEC).
    The dispositions are the kernel's since the fork, SIGPIPE and SIGXFSZ too;
    a stop that came until now is pending, and ends it here.
    """
    set_mask(())
    failed: OSError | None = None
    for path in candidates(argv[0], search_path()):
        error = _refused(path, argv)
        if failed is None or error.filename is not None:
            failed = error
        if error.errno not in ELSEWHERE:
            return error
    if failed is None or (failed.filename is None and "/" not in argv[0]):  # a folder may have been closed
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return failed


def _refused(path: str, argv: Sequence[str]) -> OSError:
    """Execute one file: there is no way back from it but the error."""
    try:
        os.execve(path, tuple(argv), os.environ)  # to run programs is the trade
    except OSError as error:
        error.filename = path if os.path.lexists(path) else None
        return error
    except ValueError as error:  # half a character in an argument
        return OSError(errno.EINVAL, str(error))


def search_path() -> str:
    """The folders to look into, of the worker's own environment: ``env`` may set it."""
    return os.environ.get("PATH", os.defpath)


def candidates(program: str, path: str) -> Iterator[str]:
    """The files that a name may mean: with a slash it is one, else each folder is looked into."""
    if "/" in program:
        yield program
        return
    for folder in path.split(":"):
        yield os.path.join(folder or ".", program)
