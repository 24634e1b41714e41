"""What a worker may do and who it is: limits, nice, umask, user and groups, folder.

All of it comes before the first line of application code.  What cannot be had is
a `StandingError`, after which the process must end: it may still be root.  Knows
nothing of how that is told.  setpriority(2), setrlimit(2), credentials(7)
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping
from typing import Any

from supervisor.errors import StandingError
from supervisor.settings import Account, MasterSettings, PoolSettings
from supervisor.unix.prctl import set_no_new_privs


def stand(
    pool: PoolSettings, master: MasterSettings, account: Account | None, nofile: tuple[int, int]
) -> None:
    """Take the place that the pool gives; ``nofile`` is the limit where the pool sets none."""
    _limit(pool, nofile)
    if pool.nice is not None:
        _be_nice(pool, pool.nice)
    umask = master.umask if pool.umask is None else pool.umask
    if umask is not None:
        os.umask(umask)
    if account is not None:
        become(account, pool.name)
    elif pool.user is not None or pool.group is not None:  # a bug, and never a reason to run as root
        raise StandingError(f"pool {pool.name} has a user or a group that nobody looked up")
    # Only now, as the one who will work there; and always, since a symlink may have been swapped.
    _enter(pool.working_dir or master.working_dir)
    if pool.user is not None if pool.no_new_privs is None else pool.no_new_privs:
        _give_up_new_privileges(pool)


def variables(account: Account) -> Mapping[str, str]:
    """What login(1) sets, and systemd where it has ``User=``."""
    return {"HOME": account.home, "USER": account.name, "LOGNAME": account.name, "SHELL": account.shell}


def _limit(pool: PoolSettings, nofile: tuple[int, int]) -> None:
    if "nofile" not in pool.limits:  # the master has raised it for itself
        resource.setrlimit(resource.RLIMIT_NOFILE, nofile)
    for name, value in pool.limits.items():
        kind = getattr(resource, f"RLIMIT_{name.upper()}")
        try:
            resource.setrlimit(kind, (value, value))
        except (OSError, ValueError) as error:  # ValueError is what Python makes of EPERM
            most = written(resource.getrlimit(kind)[1])
            raise StandingError(
                f"cannot set limits.{name} of pool {pool.name} to {written(value)}: {error}; the most is "
                f"{most} here: lower it, or raise the limit where the master is started"
            ) from error


def in_force(*names: str) -> str:
    """What holds here of these limits, written as in `limits`; those that are unlimited are left out."""
    values = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[0] for name in names}
    return ", ".join(f"{name} = {value}" for name, value in values.items() if value != resource.RLIM_INFINITY)


def written(value: int) -> str:
    """A limit as in `limits`."""
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def _be_nice(pool: PoolSettings, nice: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)  # not nice(2), which adds to what the master has
    except OSError as error:
        raise StandingError(
            f"cannot set nice of pool {pool.name} to {nice}: {error.strerror}; only root may go below "
            f"what the master has ({os.getpriority(os.PRIO_PROCESS, 0)})"
        ) from error


def become(account: Account, pool: str) -> None:
    """Be ``account`` and nobody else, with no way back.

    Groups first: without root they cannot be given up.  The real, effective
    and saved ids all change, so that none is left to return to.
    """
    uid, gid, groups = account.uid, account.gid, {account.gid, *account.groups}
    if not _is(uid, gid, groups):
        _step(os.setgroups, sorted(groups), account=account, pool=pool)
        _step(os.setresgid, gid, gid, gid, account=account, pool=pool)
        _step(os.setresuid, uid, uid, uid, account=account, pool=pool)
    if not _is(uid, gid, groups):
        raise StandingError(f"{_cannot(account, pool)}: the kernel said yes and did something else")
    if uid != 0 and _can_be_root():
        raise StandingError(
            f"{_cannot(account, pool)}: it could become root again; start the master without CAP_SETUID "
            "in its securebits and ambient capabilities, see capabilities(7)"
        )


def _step(call: Callable[..., object], *arguments: Any, account: Account, pool: str) -> None:
    try:
        call(*arguments)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise StandingError(
            f"{_cannot(account, pool)}: {call.__name__}: {why}; start the master as root with CAP_SETUID "
            "and CAP_SETGID, or leave 'user' and 'group' out"
        ) from error


def _cannot(account: Account, pool: str) -> str:
    return f"cannot become {account.name} (uid {account.uid}, gid {account.gid}) for pool {pool}"


def _is(uid: int, gid: int, groups: set[int]) -> bool:
    users, own = os.getresuid(), os.getresgid()
    # The gid is there whether it is listed or not, so it is added: it makes no difference.
    return set(users) == {uid} and set(own) == {gid} and {gid, *os.getgroups()} == groups


def _can_be_root() -> bool:
    """Tried, as no rule about capabilities is as sure; where it works, the process ends for it."""
    try:
        os.setuid(0)
    except OSError:
        return False
    return True


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise StandingError(
            f"cannot enter the working_dir {folder} as uid {os.geteuid()}: {error.strerror}; make it, "
            "or let that user into it and the folders above"
        ) from error


def _give_up_new_privileges(pool: PoolSettings) -> None:
    if not set_no_new_privs():
        raise StandingError(
            f"cannot set no_new_privs of pool {pool.name}: the kernel denies it (seccomp?); "
            "set no_new_privs = false if that is meant"
        )
