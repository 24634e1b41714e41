"""What is in a file that a person wrote: the configuration, or one that it names.

Such a file is small, regular and text: anything else (a FIFO that would block, a
device, a gigabyte) is refused before it is read.  Run by root, so is one that
anybody may change.  Knows neither TOML nor any other syntax.
"""

from __future__ import annotations

import errno
import os
import stat

LARGEST = 1 << 20
MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

KINDS = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


class UnusableError(Exception):
    """Says why, as the end of a line that names the file."""


def read(path: str, kind: str, advice: str = "") -> str:
    """The text; ``kind`` is what it should be, ``advice`` what to do where there is no such file."""
    return _text(_contents(path, kind, advice))


def _contents(path: str, kind: str, advice: str) -> bytes:
    try:
        # O_NONBLOCK: open(2) of a FIFO without a writer waits for one otherwise
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, half a character
        raise UnusableError(_why_not_opened(error, advice)) from None
    try:
        _refuse_what_is_no_file(os.fstat(fd))
        _refuse_what_others_may_change(path, os.fstat(fd))
        return _bounded(fd, kind)
    finally:
        os.close(fd)


def _why_not_opened(error: Exception, advice: str) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no such file{advice}"
        case PermissionError():
            return (
                f"may not be read by uid {os.geteuid()}; check the owner and mode of the file and its folders"
            )
        case OSError(errno=errno.ENXIO):
            return "is not a regular file"
        case OSError():
            return f"cannot be read: {error.strerror}"
    return "is no path that a file can have"


def _refuse_what_is_no_file(found: os.stat_result) -> None:
    for is_kind, words in KINDS:
        if is_kind(found.st_mode):
            raise UnusableError(f"{words}, not a regular file")


def _refuse_what_others_may_change(path: str, found: os.stat_result) -> None:
    """Whoever writes this file decides what root runs."""
    if os.geteuid() != 0:
        return
    if found.st_mode & stat.S_IWOTH:
        raise UnusableError("may be written by anybody and you are root; 'chmod o-w' the file first")
    for folder in sorted({os.path.dirname(path) or ".", os.path.dirname(os.path.realpath(path))}):
        mode = os.stat(folder).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise UnusableError(
                f"anybody may replace it in {folder} and you are root; 'chmod o-w' that folder first"
            )


def _bounded(fd: int, kind: str) -> bytes:
    """st_size cannot be trusted (it is 0 below /proc), so the reading itself is bounded."""
    data = b""
    try:
        while len(data) <= LARGEST and (part := os.read(fd, LARGEST + 1 - len(data))):
            data += part
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise UnusableError(f"is larger than 1 MiB: this is no {kind}")
    return data


def _text(data: bytes) -> str:
    if data.startswith(MARKS):
        raise UnusableError("begins with a byte order mark; save it as UTF-8 without one")
    if b"\0" in data:
        raise UnusableError(f"line {_line(data, data.index(0))}: holds a NUL byte; this is no text file")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UnusableError(f"line {_line(data, error.start)}: is not valid UTF-8") from None


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1
