"""A file of whole lines that rotates by size and survives what befalls its disk.

Knows how such a file is opened, renamed and found missing; knows nothing of who
writes.  Nothing here raises: a problem is words in `problem`, lines that found
no way are counted, and later lines try again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable

from supervisor.unix.files import where_it_leads

RETRY = 1.0  # seconds between two attempts to open or rotate, and between two looks whether it is there
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MEMORY_DEVICES = 1  # /dev/null, /dev/full: no reader can make them wait
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW
_FLAGS |= os.O_NONBLOCK  # open(2) of a FIFO would otherwise wait for its reader


class RotatingFile:
    """``path``, then ``path.1`` to ``path.keep``, each of at most ``max_size`` bytes (None: never rotates).

    With ``keep = 0`` the file is emptied instead.  Only a line that is longer than ``max_size`` exceeds it.
    """

    def __init__(
        self,
        path: str,
        max_size: int | None = None,
        keep: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self.max_size, self.keep = path, max_size, keep
        self.problem = ""  # of the last `write` or `reopen`, in words; as long as it is not open, why
        self._clock = clock
        self._fd = -1
        self._real = path  # where the symlink leads, if it is one
        self._size = 0
        self._torn = False  # a part of a line is out whose rest was lost
        self._open_at = self._look_at = self._rotate_at = clock()
        self.reopen()

    def write(self, block: bytes) -> int:
        """Append whole lines, each with its newline; return how many of them were lost."""
        self._be_open()
        lost = 0
        while block:
            part = self._fitting(block)
            lost += self._append(part)
            block = block[len(part) :]
        return lost

    def reopen(self) -> None:
        """Open the path anew, after the file was moved away; if that cannot be, nothing is open."""
        self.close()
        self.problem = ""
        self._open_at = self._look_at = self._clock() + RETRY
        try:
            self._real = where_it_leads(self.path)
            self._fd = _opened(self._real)
            self._size = os.fstat(self._fd).st_size
            self._torn = _ends_within_a_line(self._real, self._size)
        except OSError as error:
            self.problem = f"cannot open {self.path}: {_advice(error)}"

    def close(self) -> None:
        """Close it; a later `write` opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._torn = -1, False

    def _be_open(self) -> None:
        now = self._clock()
        if self._fd < 0:
            if now >= self._open_at:
                self.reopen()
            return
        self.problem = ""
        if now >= self._look_at:
            self._look_at = now + RETRY
            if os.fstat(self._fd).st_nlink == 0 and stat.S_ISREG(os.fstat(self._fd).st_mode):
                self.reopen()  # it was removed: what is written there would be lost without a word

    # -- rotating --------------------------------------------------------------

    def _fitting(self, block: bytes) -> bytes:
        """The beginning of ``block`` that goes into the file, which may be a new one by now."""
        if self.max_size is None or self._size + len(block) <= self.max_size:
            return block
        if self._size and not self._end(block) and not self._made_room():
            return block
        return block[: self._end(block) or block.index(b"\n") + 1]

    def _end(self, block: bytes) -> int:
        """How much of ``block`` there is room for, in whole lines."""
        return block.rfind(b"\n", 0, max(0, (self.max_size or 0) - self._size)) + 1

    def _made_room(self) -> bool:
        """Rotate; false where that cannot be: a file that grows is better than lines that are lost."""
        if self._fd < 0 or self._clock() < self._rotate_at:
            return False
        try:
            if os.fstat(self._fd).st_size > 0 and self._is_still_there():
                self._rotate()
            elif os.fstat(self._fd).st_size > 0:
                self.reopen()  # somebody else has moved it
            else:
                self._size = 0  # somebody else has emptied it
        except OSError as error:
            self.problem = f"cannot rotate {self.path}: {error.strerror}; it grows on"
            self._rotate_at = self._clock() + RETRY
            return False
        return self._fd >= 0

    def _is_still_there(self) -> bool:
        held = os.fstat(self._fd)
        try:
            found = os.lstat(self._real)
        except FileNotFoundError:
            return False
        return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)

    def _rotate(self) -> None:
        """rename(2) replaces at once: whoever reads finds every name, or the older file under it."""
        if self.keep == 0:
            os.ftruncate(self._fd, 0)
            self._size, self._torn = 0, False
            return
        for number in range(self.keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._real}.{number}", f"{self._real}.{number + 1}")
        os.rename(self._real, f"{self._real}.1")
        self.reopen()

    # -- writing ---------------------------------------------------------------

    def _append(self, part: bytes) -> int:
        """One write(2) to a file opened with O_APPEND: lines of several writers never mix."""
        if self._fd < 0:
            return part.count(b"\n")
        data, done = b"\n" * self._torn + part, 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:] if done else data)
        except OSError as error:
            self._failed(error)
        if done:
            self._torn = data[done - 1 : done] != b"\n"
            self._size += done
        return min(data.count(b"\n", done), part.count(b"\n"))

    def _failed(self, error: OSError) -> None:
        """A full disk keeps its file.  Of all else (EIO, ESTALE) the file may be to blame: open it anew."""
        self.problem = f"cannot write {self.path}: {error.strerror}"
        if error.errno not in _FULL:
            self.close()


def _opened(path: str) -> int:
    fd = os.open(path, _FLAGS, 0o640)
    found = os.fstat(fd)
    is_device = stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == _MEMORY_DEVICES
    if not stat.S_ISREG(found.st_mode) and not is_device:
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file")
    return fd


def _ends_within_a_line(path: str, size: int) -> bool:
    """SIGKILL and a power cut end a write(2) between two pages: the next line begins on a new one."""
    if not size:
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # it may be written and not read
        return False
    try:
        return os.pread(fd, 1, size - 1) not in (b"\n", b"")
    except OSError:
        return False
    finally:
        os.close(fd)


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.ENXIO:
            return "it is a FIFO or a socket; name a regular file"
        case errno.EINVAL:
            return "it is no regular file; name another one"
        case errno.EISDIR:
            return "it is a directory; name a file in it"
        case errno.ENOENT:
            return "its folder does not exist; create it"
        case errno.ELOOP:
            words = error.strerror if not error.filename else "it is a symlink"
            return f"{words}; name the file that is meant"
        case _:
            return f"{error.strerror}; allow it or name another file"
