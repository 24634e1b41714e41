"""Whom the workers of a pool become: what the system knows of its `user` and `group`.

Looked up when the configuration is read, so that a mistake is told then and the
master never asks a name service.  A number is an id.  A uid without an account
has only the group that `group` names, which must be set for it.  `group` alone
keeps the uid that the master has.  Where the master is not root, both can only
say what it is already.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator, Mapping

from supervisor.config.problems import KeyPath, Problem, meant, shown
from supervisor.settings import Account, PoolSettings

LARGEST_ID = 2**32 - 2  # the one above means "leave it as it is": setresuid(2)


def accounts(pools: Mapping[str, PoolSettings], problems: list[Problem]) -> dict[str, Account]:
    """Of the pools that set `user` or `group`."""
    found = {}
    for name, pool in pools.items():
        if pool.user is not None or pool.group is not None:
            try:
                account = _account(pool)
            except _UnknownError as error:
                problems.append(Problem(("pools", name, error.key), str(error)))
                continue
            problems += _denied(pool, account, ("pools", name))
            found[name] = account
    return found


class _UnknownError(Exception):
    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def _account(pool: PoolSettings) -> Account:
    gid = None if pool.group is None else _gid(pool.group)
    user = _user(os.geteuid() if pool.user is None else pool.user)
    if isinstance(user, int):
        if gid is None:
            raise _UnknownError(
                "user", f"there is no account with uid {user} that says its group: set 'group' as well"
            )
        return Account(str(user), user, gid, (gid,))
    gid = user.pw_gid if gid is None else gid
    return Account(
        user.pw_name, user.pw_uid, gid, _groups(user, gid), user.pw_dir or "/", user.pw_shell or "/bin/sh"
    )


def _groups(user: pwd.struct_passwd, gid: int) -> tuple[int, ...]:
    """Who is not root keeps those it was started with: it cannot give them up."""
    own = os.geteuid() != 0 and user.pw_uid == os.geteuid()
    return tuple(sorted({gid, *(os.getgroups() if own else os.getgrouplist(user.pw_name, gid))}))


def _user(written: str | int) -> pwd.struct_passwd | int:
    """The account; for an id without one, the id."""
    uid = written if isinstance(written, int) else _number("user", written)
    try:
        return pwd.getpwnam(str(written)) if uid is None else pwd.getpwuid(uid)
    except (KeyError, ValueError):
        if uid is not None:
            return uid
    hint = meant(str(written), (user.pw_name for user in pwd.getpwall()))
    raise _UnknownError("user", f"there is no user {shown(written)}{hint}")


def _gid(written: str) -> int:
    gid = _number("group", written)
    if gid is not None:
        return gid
    try:
        return grp.getgrnam(written).gr_gid
    except (KeyError, ValueError):
        hint = meant(written, (group.gr_name for group in grp.getgrall()))
        raise _UnknownError("group", f"there is no group {shown(written)}{hint}") from None


def _number(key: str, written: str) -> int | None:
    if not (written.isascii() and written.isdigit()):
        return None
    if len(written) > len(str(LARGEST_ID)) or int(written) > LARGEST_ID:
        raise _UnknownError(key, f"an id is a number up to {LARGEST_ID}, not {shown(written)}")
    return int(written)


def _denied(pool: PoolSettings, account: Account, path: KeyPath) -> Iterator[Problem]:
    """Only root can become somebody else: better said now than by each worker that cannot start."""
    if os.geteuid() == 0:
        return
    advice = "only root can start workers as somebody else: start the master as root, or leave the key out"
    if account.uid != os.geteuid():
        yield Problem((*path, "user"), f"is not the user that you are (uid {os.geteuid()}); {advice}")
    elif account.gid != os.getegid():
        key = "group" if pool.group is not None else "user"
        yield Problem((*path, key), f"is not the group that you have (gid {os.getegid()}); {advice}")
