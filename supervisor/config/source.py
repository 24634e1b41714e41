"""From a path to a TOML document, or one line that says why not.

Knows files, bytes and TOML's syntax; not one key.  A configuration is a small
regular file: anything else (a FIFO that would block, a device, a gigabyte) is
refused before it is read.  Run by root, so is a file that anybody may change.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

import tomli

from supervisor.config.problems import Problem, line, shown
from supervisor.errors import ConfigError

LARGEST = 1 << 20
MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

KINDS = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


def load(path: str) -> dict[str, Any]:
    """Raises `ConfigError` with one line."""
    try:
        return _parsed(_text(_contents(path)))
    except _UnusableError as reason:
        raise ConfigError([line(path, Problem((), str(reason)))]) from None


class _UnusableError(Exception):
    """Carries the line to be."""


def _contents(path: str) -> bytes:
    try:
        # O_NONBLOCK: open(2) of a FIFO without a writer waits for one otherwise
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, half a character
        raise _UnusableError(_why_not_opened(path, error)) from None
    try:
        _refuse_what_is_no_file(os.fstat(fd))
        _refuse_what_others_may_change(path, os.fstat(fd))
        return _bounded(fd)
    finally:
        os.close(fd)


def _why_not_opened(path: str, error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return (
                f"there is no such file; 'supervisord-lite init {shown(path)[1:-1]}' writes one to start from"
            )
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
            raise _UnusableError(f"{words}, not a regular file")


def _refuse_what_others_may_change(path: str, found: os.stat_result) -> None:
    """Whoever writes this file decides what root runs."""
    if os.geteuid() != 0:
        return
    if found.st_mode & stat.S_IWOTH:
        raise _UnusableError("may be written by anybody and you are root; 'chmod o-w' the file first")
    for folder in sorted({os.path.dirname(path) or ".", os.path.dirname(os.path.realpath(path))}):
        mode = os.stat(folder).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _UnusableError(
                f"anybody may replace it in {folder} and you are root; 'chmod o-w' that folder first"
            )


def _bounded(fd: int) -> bytes:
    """st_size cannot be trusted (it is 0 below /proc), so the reading itself is bounded."""
    data = b""
    try:
        while len(data) <= LARGEST and (part := os.read(fd, LARGEST + 1 - len(data))):
            data += part
    except OSError as error:
        raise _UnusableError(f"cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise _UnusableError("is larger than 1 MiB: this is no configuration")
    return data


def _text(data: bytes) -> str:
    if data.startswith(MARKS):
        raise _UnusableError("begins with a byte order mark; save it as UTF-8 without one")
    if b"\0" in data:
        raise _UnusableError(f"line {_line(data, data.index(0))}: holds a NUL byte; this is no text file")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _UnusableError(f"line {_line(data, error.start)}: is not valid UTF-8") from None


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except RecursionError:
        raise _UnusableError("arrays or tables are nested too deeply") from None
    except ValueError as error:  # also what int() says of a number with thousands of digits
        raise _UnusableError(f"not valid TOML: {error}") from None
