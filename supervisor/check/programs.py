"""Whether the program of a command is there, as far as that can be told without running it.

Where the configuration names a user, looks by owner and mode whether that one
may: the folders above, access lists and mounts are left to the kernel.  Changes
nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence

from supervisor.child.command import candidates
from supervisor.config.problems import KeyPath, Problem, meant, shown
from supervisor.settings import Account, PoolSettings, Settings

MOST_NAMES = 20_000  # of all folders in PATH; a slip is looked for among them


def problems(
    settings: Settings, pool: PoolSettings, path: KeyPath, environ: Mapping[str, str]
) -> Iterator[Problem]:
    """Of the program of one pool, and of the folder that its user must enter first."""
    folder = pool.working_dir or settings.master.working_dir
    at = (*path, "working_dir") if pool.working_dir else ("master", "working_dir")
    account = settings.accounts.get(pool.name)
    if (pool.command or account) and (wrong := _wrong_with_folder(folder, account)):
        yield Problem(at, wrong)
    elif pool.command and (wrong := wrong_with(pool.command, folder, environ, account)):
        yield Problem((*path, "command"), wrong)


def _wrong_with_folder(folder: str, account: Account | None) -> str | None:
    try:
        found = os.stat(folder)
    except OSError as error:
        return f"cannot enter {folder}: {error.strerror}"
    if not stat.S_ISDIR(found.st_mode):
        return f"{folder} is no folder"
    return None if _may_execute(folder, found, account) else f"{_who(account)} may not enter {folder}"


def wrong_with(
    command: Sequence[str], folder: str, environ: Mapping[str, str], account: Account | None
) -> str | None:
    """What keeps a command from being executed in ``folder``, or None."""
    program, path = command[0], environ.get("PATH", os.defpath)
    wrong = None
    for candidate in candidates(program, path):
        found = os.path.join(folder, candidate)
        if os.path.lexists(found):
            wrong = _wrong_with_file(found, account)
            if wrong is None:
                return None
    if wrong is not None:
        return wrong
    if "/" in program:
        return f"there is no {os.path.join(folder, program)}"
    if os.path.exists(os.path.join(folder, program)):
        return f"{shown(program)} is not in PATH ({path}); for the one in {folder}, write {'./' + program!r}"
    return f"{shown(program)} is not in PATH ({path}){meant(program, _names(path, folder))}"


def _wrong_with_file(path: str, account: Account | None) -> str | None:
    try:
        found = os.stat(path)
    except OSError as error:
        return f"{path} cannot be used: {error.strerror}"
    if stat.S_ISDIR(found.st_mode):
        return f"{path} is a folder"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is no regular file"
    if not _may_execute(path, found, account):
        return f"{_who(account)} may not execute {path}: 'chmod +x' it, or name its interpreter first"
    return None


def _may_execute(path: str, found: os.stat_result, account: Account | None) -> bool:
    """By the bits of the owner, the group or the others: the first that fits counts."""
    if account is None or account.uid == os.geteuid() or account.uid == 0:
        return os.access(path, os.X_OK, effective_ids=True)
    if account.uid == found.st_uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid in {account.gid, *account.groups}:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)


def _who(account: Account | None) -> str:
    return f"uid {os.geteuid()}" if account is None else account.name


def _names(path: str, folder: str) -> list[str]:
    """All that could have been meant."""
    names: list[str] = []
    for entry in path.split(":"):
        try:
            names += os.listdir(os.path.join(folder, entry))
        except OSError:
            continue
    return names[:MOST_NAMES]
