"""Private folders, the pidfile lock, and standard descriptors.  flock(2), open(2)

Refuses what somebody else could have planted: symlinks, folders of others,
folders that others may write to.  Knows nothing of what is kept there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat

from supervisor.errors import AlreadyRunningError, StartError

STDERR = 2
MOST_LINKS = 40  # as the kernel follows: path_resolution(7)
LONGEST_PATH = 107  # of a socket: sun_path holds 108 bytes, one of them the closing NUL


def open_standard() -> None:
    """Have fds 0, 1 and 2 open, so that no later file or socket becomes one of them."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(fd, True)
    os.close(fd)


def make_folder(path: str) -> None:
    """Have a folder, made 0700 if only it is not there; it must be safe to keep sockets in."""
    try:
        refuse_planted(path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode=0o700)
        found = os.stat(path)
    except OSError as error:  # its own parent is not made: a typo must not become a tree of folders
        raise StartError(f"cannot make the folder {path}: {error.strerror}; give another one") from error
    if not stat.S_ISDIR(found.st_mode):
        raise StartError(f"{path} is no folder: give another one")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise StartError(f"{path} may be written by everyone: chmod o-w {path}, or give another folder")
    if path.startswith("/tmp/supervisord-lite-") and (found.st_uid != os.getuid() or os.path.islink(path)):  # noqa: S108  # the last default of the contract, checked here
        raise StartError(f"{path} belongs to somebody else: set XDG_RUNTIME_DIR, or master.socket")


def where_it_leads(path: str) -> str:
    """What a symlink that we are to write through leads to: an administrator's is followed, nobody else's.

    Each link on the way counts.  OSError (ELOOP): somebody else could have made one of them.
    """
    refuse_planted(os.path.dirname(path))
    for _ in range(MOST_LINKS):
        if not os.path.islink(path):
            return path
        folder, real = os.path.dirname(path) or ".", os.path.realpath(path)
        for one in (folder, os.path.dirname(real)):
            if _is_open_to_others(one):
                raise OSError(errno.ELOOP, f"it is a symlink, and others may write to {one}")
        path = os.path.join(folder, os.readlink(path))
    raise OSError(errno.ELOOP, "its symlinks lead in a circle")


def refuse_planted(folder: str) -> None:
    """A folder may be a link, and each on the way to it: not one of somebody else's, where he could put it.

    OSError (ELOOP): one of them is.
    """
    folder = os.path.abspath(folder)
    while (above := os.path.dirname(folder)) != folder:
        theirs = os.path.islink(folder) and os.lstat(folder).st_uid not in (0, os.geteuid())
        if theirs and _is_open_to_others(above):
            raise OSError(errno.ELOOP, f"{folder} is a symlink, and others may write to {above}")
        folder = above


def _is_open_to_others(folder: str) -> bool:
    """Whether somebody else could plant a symlink there, by which we would write to any file of ours."""
    found = os.stat(folder)
    user = os.geteuid()
    by_group = user == 0 and found.st_gid != 0 and found.st_mode & stat.S_IWGRP
    return bool(found.st_uid not in (0, user) or found.st_mode & stat.S_IWOTH or by_group)


def bind_private(unbound: socket.socket, path: str) -> None:
    """Bind a unix socket at ``path``, mode 0600 from its first moment."""
    bind_with_mode(unbound, path, 0o600)


def bind_with_mode(unbound: socket.socket, path: str, mode: int | None) -> None:
    """Bind a unix socket at ``path``, of just this mode from its first moment; None: by the umask.

    bind(2) creates the file with 0777 & ~umask: a chmod afterwards would come too late.
    """
    if mode is None:
        unbound.bind(path)
        return
    before = os.umask(0o777 & ~mode)
    try:
        unbound.bind(path)
    finally:
        os.umask(before)


class Pidfile:
    """A file that is locked as long as its master lives; what it says is for people.

    A stale one is harmless: the lock, not the number, says who runs.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        while True:
            self.fd = self._open()
            try:
                self._lock()
                if self._is_still_there():
                    self._write()
                    return
            except BaseException:
                os.close(self.fd)
                raise
            os.close(self.fd)  # its last owner removed it between our open and our lock: once more

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            fd = os.open(self.path, flags, 0o644)
        except OSError as error:
            why = "it is a symlink" if error.errno == errno.ELOOP else error.strerror
            raise StartError(f"cannot open the pidfile {self.path}: {why}; give another one") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise StartError(f"the pidfile {self.path} is no regular file: remove it, or give another path")
        return fd

    def _lock(self) -> None:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(
                f"another master holds the pidfile {self.path}: stop it first, or give another pidfile"
            ) from error
        except OSError as error:
            raise StartError(f"cannot lock the pidfile {self.path}: {error.strerror}") from error

    def _write(self) -> None:
        try:
            os.fchmod(self.fd, 0o644)
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise StartError(f"cannot write the pidfile {self.path}: {error.strerror}") from error

    def _is_still_there(self) -> bool:
        held = os.fstat(self.fd)
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)

    def remove(self) -> None:
        """Remove the file if it is still the one we locked, then let go of the lock."""
        if self._is_still_there():
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        os.close(self.fd)
