"""Fork, signal and reap: one child held by its pid, while it is not reaped.

A pid cannot be reused before its process is reaped, and only this file reaps,
so signalling by pid is safe.  Knows nothing of workers.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Container, Iterable, Iterator
from typing import NoReturn

from supervisor.exits import WORKER_FAILED, End
from supervisor.unix.signals import block_signals, handlers, reset_signals, set_mask

ZOMBIE = os.WEXITED | os.WNOHANG | os.WNOWAIT
STOLEN = End(error="its exit status is unknown: a hook took it, by waitpid(-1) or the like")


def fork_all(runs: Iterable[Callable[[], int]]) -> list[int | OSError]:
    """Run each in a new process that exits with what it returns; its pid, or why there is none.

    In one tight loop: after each fork the parent copies every page that it
    writes to, so what can be done before or after all of them is not done between.

    All signals are blocked across the forks, so none reaches a child while it
    still has the parent's handlers and wakeup fd.  A child begins with
    default dispositions and everything blocked: its ``run`` unblocks.
    EAGAIN and ENOMEM are the caller's to plan around.
    """
    outcomes: list[int | OSError] = []
    mask = block_signals()
    inherited = tuple(handlers())  # looked for once, and not in each child
    try:
        for run in runs:
            try:
                pid = os.fork()
            except OSError as error:
                outcomes.append(error)
                continue
            if pid == 0:
                _be_child(run, inherited)
            outcomes.append(pid)
    finally:
        set_mask(mask)
    return outcomes


def _be_child(run: Callable[[], int], inherited: Iterable[int]) -> NoReturn:
    status = WORKER_FAILED
    try:
        reset_signals(inherited)
        status = run()
    except BaseException:
        # Nothing of the parent's may run in the child: not its handlers, not its finally.
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        leave(status)


def leave(status: int) -> NoReturn:
    """Flush what the program printed and exit, without the parent's atexit and buffers."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(status & 0xFF)


def open_pidfd(pid: int) -> int | None:
    """A descriptor that is readable once ``pid`` is a zombie; None where there is none to be had.

    Old kernels, seccomp and EMFILE: then SIGCHLD alone tells.  pidfd_open(2)
    """
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def ended(pid: int) -> End | None:
    """How a child ended, without reaping it; None while it lives."""
    try:
        info = os.waitid(os.P_PID, pid, ZOMBIE)
    except ChildProcessError:
        return STOLEN
    if info is None:
        return None
    if info.si_code == os.CLD_EXITED:
        return End(code=info.si_status)
    return End(signal=info.si_status)


def halted(pid: int) -> bool:
    """Whether a child was stopped (SIGSTOP) and is so now; each stop is told once.

    The kernel sends SIGCHLD for it as for a death, so nobody has to ask in between.  A child that is
    traced tells its tracer instead.  waitid(2), ptrace(2)
    """
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None
    return False


def reap(pid: int) -> None:
    """Take the zombie away; from now on its pid may be somebody else."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def send(pid: int, number: int) -> bool:
    """Signal one child that is not reaped; false where that is not allowed (EPERM)."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def send_group(pgid: int, number: int) -> bool:
    """Signal a process group; false if there is none, or none that we may signal."""
    try:
        os.killpg(pgid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_with_group(pid: int) -> bool:
    """SIGKILL an unreaped child and its process group; false if EPERM forbade it.

    Before its setsid(2) a child has no group of its own: hence both.
    """
    send_group(pid, signal.SIGKILL)
    return send(pid, signal.SIGKILL)


def reap_adopted(known: Container[int]) -> Iterator[int]:
    """Reap zombies that nobody here forked: orphans of workers.  Yield their pids.

    waitid(P_ALL) with WNOWAIT looks before it takes.  A zombie that is known is
    left to its pidfd; one in our own session was started by a hook of the
    master's (a worker's descendants are in the session of the worker), and its
    Popen object waits for it.
    """
    with contextlib.suppress(ChildProcessError):
        while info := os.waitid(os.P_ALL, 0, ZOMBIE):
            pid = info.si_pid
            if pid in known:
                return
            if in_own_session(pid):
                yield from sort_out(known)[1]  # P_ALL always shows the same zombie first
                return
            reap(pid)
            yield pid


def sort_out(known: Container[int]) -> tuple[list[int], list[int]]:
    """Of present children that were started neither here nor by a hook: who lives, and who is reaped now."""
    living, reaped = [], []
    for pid in [pid for pid in children() if pid not in known and not in_own_session(pid)]:
        end = ended(pid)
        if end is None:
            living.append(pid)
        elif end is not STOLEN:
            reap(pid)
            reaped.append(pid)
    return living, reaped


def in_own_session(pid: int) -> bool:
    """Whether a process that may be gone is in the session of this one."""
    try:
        return os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:
        return False


def end(pid: int, seconds: float = 1.0) -> None:
    """TERM, and KILL if that does not help; take it away.  What survives is left to init."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        send(pid, number)
        send(pid, signal.SIGCONT)
        if _waited(pid, seconds):
            break
    reap(pid)


def _waited(pid: int, seconds: float) -> bool:
    """Wait until a child is dead; true if it is."""
    fd = open_pidfd(pid)
    if fd is None:
        return False
    poll = select.poll()  # not select(2), which ends at descriptor 1023
    poll.register(fd, select.POLLIN)
    ready = poll.poll(seconds * 1000)
    os.close(fd)
    return bool(ready)


def has_children() -> bool:
    """Whether any child, known or adopted, dead or alive, is left."""
    try:
        os.waitid(os.P_ALL, 0, ZOMBIE)
    except ChildProcessError:
        return False
    return True


def children() -> list[int]:
    """The pids of all present children.  Reads all of /proc, so only for the rare case."""
    import psutil  # a rare need, and not free

    try:
        return [child.pid for child in psutil.Process().children()]
    except (psutil.Error, OSError):  # no /proc
        return []
