"""Time zones: their files, read when the configuration is.

The data goes with the settings of a task, so the master, which must not block,
opens no such file.  A file that is not whole (somebody writes it) is refused:
Python's own reader would look for its last line for ever.  Knows where zones are
and what TZif is (RFC 8536); nothing of schedules.
"""

from __future__ import annotations

import os
import struct
import zoneinfo
from collections.abc import Iterator, Mapping
from importlib import resources

from supervisor import calendar
from supervisor.config.problems import meant, shown

LOCAL_TIME = "/etc/localtime"
LARGEST = 1 << 16  # bytes; the largest that there are have some 4 KiB
HEADER = struct.Struct(">4s c 15x 6L")
DAY = 86400
UTC = b""


def read(name: str | None, environ: Mapping[str, str]) -> bytes:
    """The data of this zone; by default of that of the machine, as the C library finds it.

    Raises:
        ValueError: there is no such zone, or its file cannot be used.
    """
    if name is None:
        return _of_machine(environ)
    try:
        found = _named(name)
    except _UnusableError as why:
        raise ValueError(f"the time zone {shown(name)} cannot be used: {why}") from None
    if found is None:
        hint = meant(name, zoneinfo.available_timezones()) or '; expected a name such as "Europe/Berlin"'
        raise ValueError(f"no time zone {shown(name)} is known here{hint}")
    return found


class _UnusableError(Exception):
    """Says why."""


def _of_machine(environ: Mapping[str, str]) -> bytes:
    written = environ.get("TZ", "")
    where = written.removeprefix(":") or LOCAL_TIME
    said = f"TZ={written!r}" if written else LOCAL_TIME
    try:
        found = (_contents(where) or UTC) if where.startswith("/") else _named(where)
    except _UnusableError as why:
        raise ValueError(
            f"the time zone of this machine ({said}) cannot be used: {why}; set 'timezone'"
        ) from None
    if found is None:
        raise ValueError(f"the time zone of this machine ({said}) is not known: set 'timezone'")
    return found


def _named(name: str) -> bytes | None:
    if name == "UTC":
        return UTC
    if not name or os.path.isabs(name) or os.path.normpath(name) != name or name.startswith(".."):
        return None
    for path in _places(name):
        if (found := _contents(path)) is not None:
            return found
    return None


def _places(name: str) -> Iterator[str]:
    """In the order of `zoneinfo`: the system's, then those of the package."""
    yield from (os.path.join(folder, name) for folder in zoneinfo.TZPATH)
    try:
        package = resources.files("tzdata")
    except ModuleNotFoundError:
        return
    yield str(package.joinpath("zoneinfo", name))


def _contents(path: str) -> bytes | None:
    """What is in this file; None if there is none."""
    try:
        # O_NONBLOCK: a FIFO is no reason to wait, it is no whole zone either
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL, half a character
        return None
    except OSError as error:
        raise _UnusableError(f"{shown(path)} cannot be read: {error.strerror}") from None
    try:
        data = os.read(fd, LARGEST)
    except OSError as error:
        raise _UnusableError(f"{shown(path)} cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)
    if not is_usable(data):
        raise _UnusableError(f"{shown(path)} is no time zone, or not a whole one")
    return data


def is_usable(data: bytes) -> bool:
    if not _is_whole(data):
        return False
    try:
        calendar.zone(data)
    except Exception:  # whatever else Python does not like in it
        return False
    return True


def _is_whole(data: bytes) -> bool:
    """Whether this is TZif to its end, of which Python can make use."""
    try:
        version, end = _block(data, 0, 4)
        if version == b"\0":
            return True
        _, end = _block(data, end, 8)
    except (struct.error, _UnusableError):  # the former: the data ends within a header
        return False
    return data[end : end + 1] == b"\n" and b"\n" in data[end + 1 :]


def _block(data: bytes, begin: int, size: int) -> tuple[bytes, int]:
    """The version in a header, and where what the header counts ends; moments have ``size`` bytes."""
    magic, version, utc, standard, leaps, times, types, letters = HEADER.unpack_from(data, begin)
    chosen = begin + HEADER.size + times * size
    end = chosen + times + types * 6 + letters + leaps * (size + 4) + standard + utc
    if magic != b"TZif" or end > len(data):
        raise _UnusableError
    kinds = struct.iter_unpack(">lBB", data[chosen + times : chosen + times + 6 * types])
    # Python believes these numbers: the process would die of a wrong one.
    if any(kind >= types for kind in data[chosen : chosen + times]):
        raise _UnusableError
    if any(abs(offset) >= DAY or summer > 1 or letter >= letters for offset, summer, letter in kinds):
        raise _UnusableError
    return version, end
