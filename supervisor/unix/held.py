"""One master for one state file: a lock beside it.  flock(2)

The lock is on a file of its own: SQLite locks the state file itself, and on a
network file system both kinds of locks are one.  It lasts as long as any process has
the descriptor open: the master, after an execve(2) over which it must be inheritable,
and the one that writes the file.  So what that still writes when its master was killed
is written before a successor reads.  All other children close it.
"""

from __future__ import annotations

import fcntl
import os
import time

from supervisor.errors import StartError
from supervisor.unix.files import make_folder, refuse_planted

# Seconds for the writer of a killed master: it has one for what it was told, see `decide.inner`.
PATIENCE = 3.0


class Held:
    """The lock of one master, where it has tasks: taken once, for its whole life."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = fd
        if fd is not None:
            os.set_inheritable(fd, False)  # the execve is behind us: what hooks run must not keep it

    def hold(self, path: str) -> None:
        """Keep the state file ``path`` for this master; StartError if another one has it."""
        if self.fd is None:
            self.fd = hold(path)


def make_folder_of(path: str) -> None:
    """Have the folder of the state file ``path``, 0700 if it is not there; StartError.

    Of a new user, ~/.local/state is not there yet either: hence a tree.
    """
    folder = os.path.dirname(path)
    try:
        refuse_planted(folder)
        os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
    except OSError as error:
        raise StartError(f"cannot make the folder {folder}: {error.strerror}; give another one") from error
    make_folder(folder)


def hold(path: str, patience: float = 0.0) -> int:
    """The descriptor that keeps the state file ``path`` for this master.

    Raises:
        StartError: another one has it, also after ``patience`` seconds.
    """
    make_folder_of(path)
    lock = f"{path}-lock"
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(lock, flags, 0o600)
    except OSError as error:
        raise StartError(
            f"cannot open {lock}: {error.strerror}; give another folder (master.state_dir)"
        ) from error
    try:
        _lock(fd, patience)
    except BlockingIOError as error:
        os.close(fd)
        raise StartError(
            f"another master uses the state file {path}, or what is left of one (see 'fuser {lock}'): "
            "stop it first, or give this one another master.name"
        ) from error
    except OSError as error:
        os.close(fd)
        raise StartError(f"cannot lock {lock}: {error.strerror}") from error
    return fd


def _lock(fd: int, patience: float) -> None:
    # Looked at again and again, as nothing tells when a lock is let go; no loop runs in here yet.
    until = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
        time.sleep(0.01)
