"""From a forked copy of the master to a process of its own.

Takes off what is the master's (session, descriptors, limits, modules) and puts
on what a worker has (death signal, environment, title).  Knows nothing of
targets or hooks.  Everything here runs in the child, signals blocked.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader

from supervisor.settings import MasterSettings, PoolSettings
from supervisor.unix.loop import close_inherited
from supervisor.unix.prctl import DEATH_SIGNAL, set_parent_death_signal
from supervisor.unix.title import Title


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

    @property
    def worker(self) -> str:
        """``POOL.SLOT``."""
        return f"{self.pool.name}.{self.slot}"


def settle(birth: Birth) -> None:
    """Become a process of one's own; OSError where the machine refuses."""
    gc.freeze()  # what is the master's is never looked at again, so it stays shared
    close_inherited({birth.notify_fd})
    os.setsid()  # own session and group: no terminal signal, and the group can be ended whole
    resource.setrlimit(resource.RLIMIT_NOFILE, birth.nofile)
    set_parent_death_signal(DEATH_SIGNAL, birth.parent)
    for name, value in environment(birth).items():
        os.environ[name] = value
    birth.title.set(f"{birth.master.name}: {birth.worker}", birth.worker)
    forget_modules(birth.foreign)


def environment(birth: Birth) -> dict[str, str]:
    """The variables of the contract, over those of the pool."""
    variables = dict(birth.pool.env)
    variables |= {
        "SUPERVISOR_NAME": birth.master.name,
        "SUPERVISOR_POOL": birth.pool.name,
        "SUPERVISOR_SLOT": str(birth.slot),
        "SUPERVISOR_WORKER": birth.worker,
        "SUPERVISOR_GENERATION": str(birth.generation),
        "NOTIFY_SOCKET": birth.notify_path,
    }
    if birth.pool.watchdog is not None:
        variables["WATCHDOG_USEC"] = str(int(birth.pool.watchdog * 1e6))
        variables["WATCHDOG_PID"] = str(os.getpid())
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
