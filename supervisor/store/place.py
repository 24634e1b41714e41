"""The state file as a file: where it lies, who may read it, whether it is still there.

Knows nothing of what is in it.  SQLite holds POSIX locks on it, which the kernel
drops when any descriptor of the file is closed in the same process, fcntl(2): so
nothing here opens a file that SQLite may have open.
"""

from __future__ import annotations

import contextlib
import os
import stat

from supervisor.errors import StartError
from supervisor.unix.held import make_folder_of

MODE = 0o600
BESIDE = ("-wal", "-shm", "-journal")  # SQLite's own names
Identity = tuple[int, int]  # device and inode


def prepare(path: str) -> None:
    """Have a private file, in a folder that is safe; StartError or OSError."""
    make_folder_of(path)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE))
        folder = os.path.dirname(path)
        for made in (folder, os.path.dirname(folder)):  # a name is on the disk once its folder is
            _sync(made, os.O_RDONLY | os.O_DIRECTORY)
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise StartError(f"state file {path}: it is no regular file; move it away")
    if stat.S_IMODE(found.st_mode) & 0o077:  # SQLite gives the files beside it the same mode
        os.chmod(path, stat.S_IMODE(found.st_mode) & ~0o077)


def identity(path: str) -> Identity | None:
    """Which file it is; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def put(new: str, path: str) -> None:
    """Have the whole file ``new`` at ``path``, also after a power loss.

    What lies beside belonged to a file that is gone.  It must not be taken for the new one's,
    nor be cut while it is mapped: the memory behind it would be gone too (SIGBUS).
    """
    _sync(new, os.O_RDWR)
    for end in BESIDE:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + end)
    os.rename(new, path)
    _sync(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: str, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
