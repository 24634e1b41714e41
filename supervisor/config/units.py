"""How single values are written: durations, sizes, modes, references, addresses.

Each function takes what TOML gave and returns what the settings hold, or raises
ValueError or TypeError with words for the person who wrote it.  Knows no keys and no tables.
"""

from __future__ import annotations

import math
import os
import re
import resource
import signal
from typing import Any

from supervisor.config.expand import bare
from supervisor.config.problems import meant, shown
from supervisor.settings import Bytes, Mode, Reference, Seconds
from supervisor.unix.addresses import parse
from supervisor.unix.files import LONGEST_PATH

TEN_YEARS = 10 * 365.25 * 86400
LARGEST_SIZE = 1 << 60
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(" *".join(rf"(?:{_NUMBER}{unit})?" for unit in ("d", "h", "m", "s", "ms")))
_SECONDS = (86400, 3600, 60, 1, 0.001)
_SIZE = re.compile(rf"{_NUMBER} *(b|[kmgt]i?b)", re.IGNORECASE)
_LIMITS = {n[7:].lower(): n for n in dir(resource) if n.startswith("RLIMIT_")}
_SIGNALS = {s.name[3:]: s for s in signal.Signals}


def duration(value: Any) -> Seconds:
    expected = 'a duration such as "250ms", "30s", "1h30m" or a number of seconds'
    value = bare(value)
    if isinstance(value, str):
        parts = _DURATION.fullmatch(value)
        if parts is None or not any(parts.groups()):
            raise ValueError(f"expected {expected}, not {shown(value)}")
        value = sum(float(n) * unit for n, unit in zip(parts.groups(), _SECONDS, strict=True) if n)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected {expected}, not {shown(value)}")
    if value < 0 or math.isnan(value):
        raise ValueError(f"a duration cannot be {shown(value)}")
    if value > TEN_YEARS:
        raise ValueError("is longer than 10 years; leave it out for no limit, if it may be left out")
    return Seconds(float(value))


def size(value: Any) -> Bytes:
    expected = 'a size such as "512MiB", "1GB" or a number of bytes'
    value = bare(value)
    if isinstance(value, str) and (parts := _SIZE.fullmatch(value)):
        value = int(float(parts[1]) * _bytes(parts[2].lower()))
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {expected}, not {shown(value)}")
    if not 0 <= value <= LARGEST_SIZE:
        raise ValueError(f"expected {expected}, not {shown(value)}")
    return Bytes(value)


def _bytes(unit: str) -> int:
    power = "bkmgt".index(unit[0])
    base = 1024 if "i" in unit else 1000
    return int(base**power)


def mode(value: Any) -> Mode:
    """A string, for the number 27 would leave open in which base it was meant."""
    if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value):
        return Mode(int(value, 8))
    raise ValueError(f'expected an octal string such as "0027", not {shown(value)}')


def reference(value: Any) -> Reference:
    if isinstance(value, str):
        module, colon, attribute = value.partition(":")
        if colon and _is_dotted(module) and _is_dotted(attribute):
            return Reference(str(value))
        if not colon and _is_dotted(value):
            raise ValueError(f'expected "module:attribute", not {shown(value)}: the ":" is missing')
    raise ValueError(f'expected "module:attribute", such as "shop.jobs:run", not {shown(value)}')


def module(value: Any) -> str:
    if isinstance(value, str) and _is_dotted(value):
        return str(value)
    raise ValueError(f'expected the name of a module, such as "shop.hooks", not {shown(value)}')


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def name(value: Any) -> str:
    if isinstance(value, str) and NAME.fullmatch(value):
        return str(value)
    if isinstance(value, str) and NAME.fullmatch(value.lstrip("-")):
        raise ValueError(
            f"{shown(value)} cannot be a name: to a command, what begins with '-' is an option, as --all is"
        )
    raise ValueError(
        f"{shown(value)} cannot be a name: 1 to 64 of A-Z, a-z, 0-9, '_' and '-' "
        "(it becomes part of worker ids, file names and log lines)"
    )


def number(value: Any) -> int:
    value = bare(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected a whole number, not {shown(value)}")
    return value


def boolean(value: Any) -> bool:
    value = bare(value)
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, not {shown(value)}")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, not {shown(value)}")
    if "\0" in value:
        raise ValueError("holds a NUL character, which no path, argument or variable can")
    return str(value)


def account(value: Any) -> str:
    """A user or a group; `accounts` reads what is all digits as an id, as useradd(8) allows no such name."""
    found = bare(value)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if not isinstance(value, str):
        raise TypeError(f'expected a name or a number, such as "www-data" or 33, not {shown(value)}')
    return text(value)


def choice(value: Any, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in choices:
        return str(value)
    wanted = ", ".join(f'"{c}"' for c in choices)
    hint = meant(value, choices) if isinstance(value, str) else ""
    raise ValueError(f"expected one of {wanted}, not {shown(value)}{hint}")


def surge(value: Any) -> int | str:
    """Whole workers, or a share of them."""
    value = bare(value)
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]?%|100%", value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f'expected a number of workers or a share from "1%" to "100%", not {shown(value)}')


def stop_signal(value: Any) -> str:
    """The name without SIG."""
    short = text(value).upper().removeprefix("SIG")
    if short not in _SIGNALS:
        raise ValueError(f'expected a signal such as "TERM", not {shown(value)}{meant(short, _SIGNALS)}')
    if short in {"KILL", "STOP"}:
        raise ValueError(f"{short} cannot be answered by a program, so it is no way to ask it to stop")
    return short


def limit(resource_name: str, value: Any) -> int:
    if resource_name not in _LIMITS:
        raise ValueError(f"there is no limit {shown(resource_name)}{meant(resource_name, _LIMITS)}")
    try:
        return resource.RLIM_INFINITY if value == "unlimited" else size(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{resource_name}: {error}") from None


def variable(key: str) -> None:
    if not key or "=" in key or "\0" in key:
        raise ValueError(f"{shown(key)} cannot be the name of an environment variable")


def bind(value: Any) -> str:
    written = text(value)
    try:
        address = parse(written)
    except ValueError as error:
        more = f": {error}" if str(error) else ""
        raise ValueError(
            'expected "127.0.0.1:8000", "[::1]:8000", "unix:/path" or "fd:NAME" (from systemd), '
            f"not {shown(value)}{more}"
        ) from None
    if address.kind == "unix":
        socket_path(address.where)
    return written


def socket_path(path: str) -> None:
    length = len(os.fsencode(path))
    if not length:
        raise ValueError("the path of the socket is empty")
    if length > LONGEST_PATH:
        raise ValueError(
            f"the path of a unix socket has at most {LONGEST_PATH} bytes, {shown(path)} has {length}; "
            "choose a shorter one"
        )
