"""From a forked copy of the master to a process of its own.

Takes off what is the master's (session, descriptors, limits, modules) and puts
on what a worker has (sockets, output, standing, death signal, environment,
title).  Knows nothing of targets, programs or hooks.  Everything here runs in
the child, signals blocked, before the first line of application code.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.machinery import ExtensionFileLoader

from supervisor.child import shortage, standing
from supervisor.child.refusal import Tell, refuse
from supervisor.errors import StandingError
from supervisor.settings import Account, MasterSettings, PoolSettings
from supervisor.unix.descriptors import FIRST, line_up, silence
from supervisor.unix.loop import close_inherited
from supervisor.unix.prctl import DEATH_SIGNAL, set_parent_death_signal
from supervisor.unix.title import Title, of_worker

STDOUT, STDERR = 1, 2


@dataclass(frozen=True)
class Birth:
    """What one worker is born with."""

    master: MasterSettings
    pool: PoolSettings
    slot: int
    generation: int
    parent: int  # the master's pid
    notify_path: str
    notify_fd: int
    nofile: tuple[int, int]  # RLIMIT_NOFILE as the master found it
    title: Title
    foreign: frozenset[str]  # modules that only the master's hooks brought in
    account: Account | None = None  # whom to become
    listeners: tuple[tuple[str, int], ...] = ()  # sockets by name and descriptor, in the order they get
    stdout: int | None = None  # a descriptor that becomes 1; None: the master's
    stderr: int | None = None
    told: int | None = None  # of a command: end of file means that exec worked, a byte that it did not
    lock: int | None = None  # of who writes the state file: open as long as it lives, see `unix.held`
    path: tuple[str, ...] | None = None  # sys.path, where a reload has changed it

    @property
    def worker(self) -> str:
        """``POOL.SLOT``."""
        return f"{self.pool.name}.{self.slot}"


def settle(birth: Birth, tell: Tell) -> Birth | None:
    """Become a process of one's own: the same birth, with the numbers that its descriptors have now.

    None where that is refused, which has been told: then nothing of the application may run.
    """
    gc.freeze()  # what is the master's is never looked at again, so it stays shared
    try:
        birth = leave_master(birth)
        tell.by = birth.notify_fd
        take_stdio(birth)
        standing.stand(birth.pool, birth.master, birth.account, birth.nofile)
        be_somebody(birth)
    except (StandingError, OSError, MemoryError) as error:
        standing_is_why = isinstance(error, StandingError)
        reason = str(error) if standing_is_why else shortage.words(birth.worker, birth.pool.name, error)
        refuse(tell, birth.notify_fd, reason, told=birth.told)
        return None
    if birth.path is not None:
        sys.path[:] = birth.path
    forget_modules(birth.foreign)
    return birth


def leave_master(birth: Birth) -> Birth:
    """Close what is the master's, and have the sockets at 3, 4, ...

    Programs inherit them by that; what a target runs by itself does not.
    """
    own = (birth.notify_fd, birth.told, birth.stdout, birth.stderr, birth.lock)
    others = [fd for fd in own if fd is not None]
    if not birth.listeners:
        close_inherited(others)
        return birth
    listeners = [fd for _, fd in birth.listeners]
    close_inherited((*others, *listeners))
    now = line_up(listeners, others, inheritable=birth.pool.command is not None)
    return replace(
        birth,
        listeners=tuple((name, FIRST + place) for place, (name, _) in enumerate(birth.listeners)),
        notify_fd=now[birth.notify_fd],
        told=None if birth.told is None else now[birth.told],
        stdout=None if birth.stdout is None else now[birth.stdout],
        stderr=None if birth.stderr is None else now[birth.stderr],
    )


def take_stdio(birth: Birth) -> None:
    """Have the worker's own stdout and stderr, where it has any; in a template's workers, too."""
    given = ((STDOUT, birth.stdout, birth.pool.stdout), (STDERR, birth.stderr, birth.pool.stderr))
    for number, fd, setting in given:
        if fd is not None:
            os.dup2(fd, number)
        elif setting == "null":
            silence(number)
    if birth.stdout is None and birth.stderr is None:
        return
    for fd in {fd for _, fd, _ in given if fd is not None}:
        os.close(fd)
    if birth.stdout is not None:
        _print_by_lines()


def _print_by_lines() -> None:
    """A line that waits in a buffer is lost when the worker is killed."""
    with contextlib.suppress(AttributeError, ValueError):  # None, replaced or closed by an application
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def be_somebody(birth: Birth) -> None:
    """What no two workers share, those of one template neither; after privileges were dropped."""
    os.setsid()  # own session and group: no terminal signal, and the group can be ended whole
    # setresuid(2) clears it: hence after `stand`.  execve(2) keeps it, but for set-user-ID programs.
    set_parent_death_signal(DEATH_SIGNAL, birth.parent)
    for name, value in environment(birth).items():
        os.environ[name] = value
    birth.title.set(of_worker(birth.master.name, birth.worker), birth.worker)


def environment(birth: Birth) -> dict[str, str]:
    """The variables of the contract, over those of the pool, over those of the user."""
    pool = birth.pool
    variables = {**standing.variables(birth.account)} if birth.account and pool.user is not None else {}
    variables |= pool.env
    variables |= {
        "SUPERVISOR_NAME": birth.master.name,
        "SUPERVISOR_POOL": pool.name,
        "SUPERVISOR_SLOT": str(birth.slot),
        "SUPERVISOR_WORKER": birth.worker,
        "SUPERVISOR_GENERATION": str(birth.generation),
        "NOTIFY_SOCKET": birth.notify_path,
    }
    if pool.watchdog is not None:
        variables["WATCHDOG_USEC"] = str(int(pool.watchdog * 1e6))
        variables["WATCHDOG_PID"] = str(os.getpid())
    if birth.listeners:
        variables["LISTEN_FDS"] = str(len(birth.listeners))
        variables["LISTEN_FDNAMES"] = ":".join(name for name, _ in birth.listeners)
        variables["LISTEN_PID"] = str(os.getpid())
    return variables


def foreign_modules(new: frozenset[str]) -> frozenset[str]:
    """Of the modules that the master's hooks brought in, those that may be imported anew.

    A package with a compiled part is kept: most cannot be loaded twice in one
    process, and a deploy does not change them in place.
    """
    kept = {name.partition(".")[0] for name in new if _is_compiled(name)} | set(sys.stdlib_module_names)
    kept.add("supervisor")
    return frozenset(name for name in new if name.partition(".")[0] not in kept)


def _is_compiled(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return isinstance(getattr(spec, "loader", None), ExtensionFileLoader)


def forget_modules(names: Iterable[str]) -> None:
    """Drop modules, so that the worker imports the code that is on disk now."""
    for name in names:
        sys.modules.pop(name, None)
