"""A master that listens at another place than its file says now: `socket` or `name` was changed since.

It is told of and not taken for the one that was meant: where ``${VAR}`` stands in
them, a file has several masters, and a stop of the wrong one cannot be undone.
A master is known by what only it has: a control socket with its notify socket
beside it, and the file in its title.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict


def advice(config: str) -> str:
    """What to say beside "no master is running"; nothing where there is no such master."""
    from supervisor.config.paths import of_file

    found = sorted(_listening(of_file(config)))
    if not found:
        return ""
    pid, path = found[0]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f"; but one with this file (pid {pid}){more} listens at {path}, the socket of when it was started: "
        f"reach it with '--socket {path}'"
    )


def _listening(file: str) -> set[tuple[int, str]]:
    """Pid and control socket of our own masters that were started with ``file``."""
    return {(pid, path) for pid, path in _controls() if _is_ours(pid) and _has_title_of(pid, file)}


def _controls() -> set[tuple[int, str]]:
    import psutil  # a rare need, and not free

    from supervisor.unix.doors import notify_beside

    held: dict[int, set[str]] = defaultdict(set)
    with contextlib.suppress(psutil.Error, OSError):  # no /proc
        for one in psutil.net_connections("unix"):
            if one.pid is not None and one.laddr:
                held[one.pid].add(str(one.laddr))
    return {(pid, path) for pid, paths in held.items() for path in paths if notify_beside(path) in paths}


def _is_ours(pid: int) -> bool:
    with contextlib.suppress(OSError):  # gone
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()
    return False


def _has_title_of(pid: int, file: str) -> bool:
    from supervisor.unix.title import of_master

    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as told:
        return told.read().rstrip(b"\0").endswith(of_master("", file).encode("utf-8", "replace"))
    return False
