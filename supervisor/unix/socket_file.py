"""The file of a listening unix socket: no loose moment, never stolen, removed only if ours.

Knows unix(7): how a socket file is made, probed and found stale.  Who may
listen there and what is said is the caller's matter: `control_socket` and
`sockets` put their own words around the errors.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from supervisor.errors import StartError
from supervisor.unix.files import LONGEST_PATH, bind_with_mode, refuse_planted


class LiveError(StartError):
    """Somebody answers there; they were not disturbed."""


@dataclass(frozen=True)
class SocketFile:
    """The file by which a socket is found.

    While any process holds the socket, the kernel holds the inode: its number
    is not given to another file.  So `is_ours` is to be asked before the close.
    """

    path: str
    identity: tuple[int, int]  # st_dev, st_ino

    def is_ours(self) -> bool:
        """Whether the path still leads to this socket."""
        try:
            return _identity(self.path) == self.identity
        except OSError:
            return False

    def remove(self) -> None:
        """Unlink the file unless it has become somebody else's."""
        with contextlib.suppress(OSError):
            if self.is_ours():
                os.unlink(self.path)


def listen(
    path: str,
    backlog: int,
    mode: int | None,
    patience: float,
    warn: Callable[[str], None],
    *,
    left_over: Callable[[], bool] = lambda: False,
) -> tuple[socket.socket, SocketFile]:
    """Bind and listen at ``path``; its folder must exist.

    ``mode`` None leaves it to the umask.  ``patience`` is how many seconds to
    wait for another starter in the same folder.  ``left_over`` tells of a
    socket on which somebody answers whether that is nobody to be respected.

    Raises:
        LiveError: somebody answers there.
        StartError: the path cannot be used, with the reason.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise StartError(f"{path}: a socket's path has at most {LONGEST_PATH} bytes")
    folder = os.path.dirname(path) or "."
    _check_folder(folder, warn)
    with _locked(folder, patience):  # until it listens: one that is only bound looks stale to others
        _clear_stale(path, left_over)
        return _listening(path, backlog, mode)


def _listening(path: str, backlog: int, mode: int | None) -> tuple[socket.socket, SocketFile]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bind_with_mode(listener, path, mode)
        listener.listen(backlog)
        return listener, SocketFile(path, _identity(path))
    except OSError as error:
        listener.close()
        raise StartError(f"cannot listen on {path}: {error.strerror}") from error


def _check_folder(folder: str, warn: Callable[[str], None]) -> None:
    try:
        refuse_planted(folder)
        mode = os.stat(folder).st_mode
    except OSError as error:
        advice = "name the folder that is meant" if error.errno == errno.ELOOP else "create it"
        raise StartError(f"cannot use the folder {folder}: {error.strerror}; {advice}") from error
    if not stat.S_ISDIR(mode):
        raise StartError(f"cannot use {folder}: it is not a folder")
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        problem = f"{folder}: everybody can replace the socket here; chmod o-w it"
        if os.geteuid() == 0:
            raise StartError(problem)
        warn(problem)


@contextlib.contextmanager
def _locked(folder: str, patience: float) -> Iterator[None]:
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
        until = time.monotonic() + patience
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


def _clear_stale(path: str, left_over: Callable[[], bool]) -> None:
    """Unlink a dead socket of ours; leave all else alone and say why.

    Who still has a socket whose file is replaced keeps it, with the connections in its queue.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"cannot look at {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise StartError(f"{path}: not a socket; move it away")
    match _probe(path):
        case errno.ENOENT:
            return
        case 0 | errno.EAGAIN if not left_over():  # EAGAIN: its queue is full, so somebody holds it
            raise LiveError(f"somebody answers on {path}; it was not disturbed")
        case 0 | errno.EAGAIN | errno.ECONNREFUSED:
            _unlink_own(path, found)
        case code:
            raise StartError(f"cannot probe {path}: {os.strerror(code)}")


def is_answered(path: str) -> bool:
    """Whether somebody listens there now."""
    try:
        return _probe(path) in (0, errno.EAGAIN)
    except OSError:  # no such path can be
        return False


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
