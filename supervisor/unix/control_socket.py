"""The control socket's file: bound with no loose moment, never stolen, removed only if ours.

Knows unix(7): how a socket file is made, probed and found stale, and whose
process is at the other end.  Knows nothing of what is said over it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from supervisor.errors import AlreadyRunningError, StartError
from supervisor.unix.files import LONGEST_PATH, bind_private

BACKLOG = 64
LOCK_SECONDS = 2.0
ELSEWHERE = "set another [master] socket"


@dataclass(frozen=True)
class ControlSocket:
    """A listening socket and the file by which it is found."""

    path: str
    socket: socket.socket
    identity: tuple[int, int]  # st_dev, st_ino

    def remove(self) -> None:
        """Unlink the file unless it has become somebody else's."""
        with contextlib.suppress(OSError):
            if _identity(self.path) == self.identity:
                os.unlink(self.path)


def listen(path: str, warn: Callable[[str], None] = lambda _: None) -> ControlSocket:
    """Bind and listen at ``path``, mode 0600; its folder must exist.

    Raises:
        AlreadyRunningError: somebody answers there; they were not disturbed.
        StartError: the path cannot be used, with the reason.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise StartError(f"{path}: a socket's path has at most {LONGEST_PATH} bytes; {ELSEWHERE}")
    folder = os.path.dirname(path) or "."
    _check_folder(folder, warn)
    with _locked(folder):
        _clear_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bind_private(listener, path)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            return ControlSocket(path, listener, _identity(path))
        except OSError as error:
            listener.close()
            raise StartError(
                f"cannot listen on {path}: {error.strerror}; set another [master] socket"
            ) from error


def _check_folder(folder: str, warn: Callable[[str], None]) -> None:
    try:
        mode = os.stat(folder).st_mode
    except OSError as error:
        raise StartError(
            f"cannot use {folder} for the control socket: {error.strerror}; create it"
        ) from error
    if not stat.S_ISDIR(mode):
        raise StartError(f"cannot use {folder} for the control socket: it is not a folder")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        problem = f"{folder}: everybody can replace the control socket here; chmod o-w it"
        if os.geteuid() == 0:
            raise StartError(problem)
        warn(problem)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """One starter at a time: of two that find a stale socket, none unlinks the other's new one.

    The lock is the folder's own, so it leaves no file; who cannot get it in
    time goes on, since whoever may read the folder could hold it for ever.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        until = time.monotonic() + LOCK_SECONDS
        while not _try_lock(fd) and time.monotonic() < until:
            time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: there is nothing to wait for
    return True


def _clear_stale(path: str) -> None:
    """Unlink a dead socket of ours; leave all else alone and say why."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot look at {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise StartError(f"{path}: not a socket; move it away or {ELSEWHERE}")
    match _probe(path):
        case errno.ENOENT:
            return
        case 0 | errno.EAGAIN:  # EAGAIN: its queue is full, so somebody holds it
            raise AlreadyRunningError(
                f"another master answers on {path}; it was not disturbed. Stop it, or {ELSEWHERE}",
            )
        case errno.ECONNREFUSED:
            _unlink_own(path, found)
        case code:
            raise StartError(f"cannot probe {path}: {os.strerror(code)}; {ELSEWHERE}")


def _probe(path: str) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path)


def _unlink_own(path: str, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise StartError(f"{path}: a dead socket of uid {found.st_uid}; let its owner remove it")
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot remove the dead socket {path}: {error.strerror}") from error


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def peer(connection: socket.socket) -> tuple[int, int]:
    """Pid and uid of the other end as the kernel saw them at connect (or listen): SO_PEERCRED."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _gid = struct.unpack("3i", credentials)
    return pid, uid
