"""How the address of a listening socket is written.  ip(7), ipv6(7), unix(7)

The one grammar of `bind`, for the configuration and for the master alike.
Purely text: names of hosts are not looked up, since that may take minutes and
the master must never wait; only ``localhost`` is known, as 127.0.0.1.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Literal

LARGEST_PORT = 65535

_TCP = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<four>[A-Za-z0-9._*-]+)):(?P<port>[0-9]{1,5})")
_SCOPE = re.compile(r"[A-Za-z0-9._-]{1,15}")
_FD_NAME = re.compile(r"[!-9;-~]{1,255}")  # as systemd has it: printable, no ':'; and no blank


@dataclass(frozen=True)
class Address:
    """Where to listen; equal ones are the same place, however they were written."""

    kind: Literal["tcp4", "tcp6", "unix", "fd"]
    where: str  # the number of a host, a path, or the name of an inherited descriptor
    port: int = 0

    def __str__(self) -> str:
        match self.kind:
            case "tcp4":
                return f"{self.where}:{self.port}"
            case "tcp6":
                return f"[{self.where}]:{self.port}"
            case _:
                return f"{self.kind}:{self.where}"

    def clashes(self, other: Address) -> bool:
        """Whether the kernel refuses the one while the other is held: one of them is all of the machine."""
        same = self.kind == other.kind and self.port == other.port != 0
        return same and (self.is_whole_machine() or other.is_whole_machine())

    def is_whole_machine(self) -> bool:
        """All addresses of its kind; never of both kinds, see `sockets`."""
        return self.where in ("0.0.0.0", "::")  # noqa: S104  # compared, not bound


def parse(bind: str) -> Address:
    """Read ``127.0.0.1:80``, ``[::1]:80``, ``unix:PATH`` or ``fd:NAME``.

    Raises:
        ValueError: it is none of these; where there is more to say, with words.
    """
    scheme, _, rest = bind.partition(":")
    if scheme == "unix":
        return Address("unix", rest)
    if scheme == "fd":
        if not _FD_NAME.fullmatch(rest):
            raise ValueError("the name of a descriptor has no blank and no ':'")
        return Address("fd", rest)
    parts = _TCP.fullmatch(bind)
    if parts is None or int(parts["port"]) > LARGEST_PORT:
        raise ValueError
    port = int(parts["port"])
    return Address("tcp6", _six(parts["six"]), port) if parts["six"] else _four(parts["four"], port)


def _four(host: str, port: int) -> Address:
    if host == "*":
        raise ValueError('"0.0.0.0" is every IPv4 address, "[::]" every IPv6 one')
    where = "127.0.0.1" if host == "localhost" else host
    if _number(socket.AF_INET, where) is None:
        raise ValueError("names are not looked up, write the address in numbers")
    return Address("tcp4", where, port)


def _six(host: str) -> str:
    """The shortest form, with the scope of a link-local address as it was written."""
    number, percent, scope = host.partition("%")
    packed = _number(socket.AF_INET6, number)
    if packed is None or (percent and not _SCOPE.fullmatch(scope)):
        raise ValueError
    return socket.inet_ntop(socket.AF_INET6, packed) + percent + scope


def _number(family: int, host: str) -> bytes | None:
    try:
        return socket.inet_pton(family, host)
    except (OSError, ValueError):  # ValueError: what cannot be encoded
        return None
