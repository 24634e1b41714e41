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
    """Its folder is there, and is safe; StartError or OSError."""
    make_folder_of(path)


def exists(path: str) -> bool:
    """Whether something is there, be it a link that leads nowhere."""
    return os.path.lexists(path)


def make(path: str) -> None:
    """Have an empty private file, in place of what is left of one."""
    prepare(path)
    discard(path)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE))


def check(path: str) -> None:
    """It is a file of ours, and private from here on; StartError or OSError."""
    found = os.lstat(path)
    if wrong := _wrong(found):
        raise StartError(f"state file {path}: {wrong}")
    if stat.S_IMODE(found.st_mode) & 0o077:  # SQLite gives the files beside it the same mode
        os.chmod(path, stat.S_IMODE(found.st_mode) & ~0o077)


def _wrong(found: os.stat_result) -> str | None:
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file; move it away"
    if found.st_uid not in (0, os.geteuid()):
        return f"it belongs to uid {found.st_uid}, who could change it at any time; chown it, or move it away"
    if found.st_mode & stat.S_IWOTH:
        return "everybody could have changed it; chmod 600 it if what it holds is right, or move it away"
    if found.st_size == 0:  # ours has tables from its first moment, see `Store`
        return "it is empty, so what it held is lost; put back a copy, or move it away to start anew"
    return None


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
        _unlink(path + end)
    os.rename(new, path)
    folder = os.path.dirname(path)
    for made in (folder, os.path.dirname(folder)):  # a name is on the disk once its folder is
        _sync(made, os.O_RDONLY | os.O_DIRECTORY)


def discard(path: str) -> None:
    """Have nothing of that file, nor of what lies beside it."""
    for end in ("", *BESIDE):
        _unlink(path + end)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _sync(path: str, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
