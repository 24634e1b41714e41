"""prctl(2): the death signal of a parent, adopting orphans, giving up rights.

The standard library has no prctl, so this is the one place that uses ctypes.
Where the call is denied (seccomp), the functions return False and the caller
goes on with less protection.
"""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
# Prepared once, so that it need not be looked up in every worker.
_call = ctypes.CDLL(None).prctl
_name = ctypes.create_string_buffer(16)
# No argtypes: with them, each call in each worker makes five objects, and copies their types' pages.
_zero = ctypes.c_ulong(0)


def set_parent_death_signal(number: int, parent: int) -> bool:
    """Be sent ``number`` when the parent dies; false where that is denied.

    fork(2) and setresuid(2) clear it, so this comes after both.  A parent that
    died before the call sends nothing: then the signal is sent here.
    """
    done = _prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
    return done


def become_subreaper() -> bool:
    """Orphans among the descendants become children of this process, not of init."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def set_no_new_privs() -> bool:
    """No execve(2) from here on gives more rights: set-user-ID bits and file capabilities are void.

    Inherited by all that is forked, and never taken back.
    """
    return _prctl(PR_SET_NO_NEW_PRIVS, 1)


def set_name(name: bytes) -> None:
    """The name of this process in ``top``: at most 15 bytes."""
    _name.value = name
    _prctl(PR_SET_NAME, _name)


def _prctl(option: int, argument: int | ctypes.Array[ctypes.c_char]) -> bool:
    return int(_call(option, argument, _zero, _zero, _zero)) == 0


DEATH_SIGNAL = signal.SIGTERM  # SIGKILL would cut the work; a worker sees to its own end, see child/attendant
