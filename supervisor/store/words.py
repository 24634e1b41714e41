"""What is wrong with the state file, as words that say what to do.

Knows the messages of SQLite: their numbers are told only from Python 3.11 on.
"""

from __future__ import annotations

import errno
import sqlite3

from supervisor.errors import SupervisorError

_ELSEWHERE = "give another folder (master.state_dir)"
# What SQLite says begins with: what we say, and what is to be done.
_SQLITE = {
    "database or disk is full": ("the disk is full", "make room"),
    "attempt to write a readonly database": ("it cannot be written", f"make it writable, or {_ELSEWHERE}"),
    "database is locked": ("another program keeps it locked", "close that program (see 'fuser FILE')"),
    "database schema is locked": ("another program keeps it locked", "close that program (see 'fuser FILE')"),
    "unable to open database file": (
        "it cannot be opened",
        f"make it readable and writable, or {_ELSEWHERE}",
    ),
    "database disk image is malformed": ("it is damaged", "put back a copy, or move it away to start anew"),
    "malformed database schema": ("it is damaged", "put back a copy, or move it away to start anew"),
    "no such table": ("it is damaged", "put back a copy, or move it away to start anew"),
    "no such column": ("it is damaged", "put back a copy, or move it away to start anew"),
    "file is not a database": ("it is no database", "put back a copy, or move it away to start anew"),
    "disk I/O error": (
        "the disk is full, or its quota is used up, or it fails",
        "make room, or see the kernel's log (dmesg)",
    ),
}
_ERRNO = {errno.ENOSPC: "make room", errno.EDQUOT: "make room"}


def explained(path: str, error: Exception) -> str:
    """One line: the file, what is wrong, and what to do."""
    if isinstance(error, SupervisorError):
        return str(error)
    what, todo = _found(error)
    return f"state file {path}: {what}; {todo}"


def _found(error: Exception) -> tuple[str, str]:
    if isinstance(error, OSError):
        return error.strerror or str(error), _ERRNO.get(error.errno or 0, _ELSEWHERE)
    text = str(error)
    for beginning, found in _SQLITE.items():
        if text.startswith(beginning):
            return found
    if isinstance(error, sqlite3.Error):
        return text, "see the documentation of SQLite"
    return f"internal error, please report it: {type(error).__name__}: {text}", "the file is as it was"
