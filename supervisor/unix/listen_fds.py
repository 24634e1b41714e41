"""Listening sockets that the service manager opened for us.  sd_listen_fds(3), systemd.socket(5)

It says in the environment that descriptors 3, 4, ... are sockets, what they are
called, and for which pid they are meant.  To be asked before anything else is
opened: a wrong count would else lead to a descriptor of our own.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Mapping

from supervisor.errors import StartError
from supervisor.unix.descriptors import FIRST

UNNAMED = "unknown"  # as libsystemd calls them
_NUMBER = re.compile(r"[0-9]{1,9}")


def received(environ: Mapping[str, str], pid: int) -> dict[str, int]:
    """Name to descriptor; empty if nothing is meant for ``pid``.  Sets CLOEXEC.

    A unit with several ListenStream= gives all of them its one name: the first
    is NAME, the next ones are NAME.1, NAME.2 and so on, in the unit's order.

    Raises:
        StartError: what the environment says is not so.
    """
    if not environ.get("LISTEN_PID") or _number(environ, "LISTEN_PID") != pid:
        return {}
    count = _number(environ, "LISTEN_FDS") if environ.get("LISTEN_FDS") else 0
    descriptors = range(FIRST, FIRST + count)
    for fd in descriptors:
        _check(fd, count)
    names = _numbered(_names(environ, count))
    for fd in descriptors:
        os.set_inheritable(fd, False)
    return dict(zip(names, descriptors, strict=True))


def listening(name: str, inherited: Mapping[str, int]) -> int:
    """The descriptor of that name.

    Raises:
        StartError: there is none, or no worker could accept from it.
    """
    if name not in inherited:
        passed = f"only {', '.join(inherited)}" if inherited else "no sockets at all"
        raise StartError(
            f"the service manager passed no socket named {name!r}, {passed}; is its socket unit started, "
            "and what is its FileDescriptorName=?"
        )
    borrowed = socket.socket(fileno=inherited[name])
    try:
        kind = borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        listens = borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    finally:
        borrowed.detach()
    if kind != socket.SOCK_STREAM:
        raise StartError(f"fd:{name} is no stream socket; its unit needs ListenStream=")
    if not listens:
        raise StartError(f"fd:{name} does not listen; its unit needs ListenStream= and Accept=no")
    return inherited[name]


def _number(environ: Mapping[str, str], key: str) -> int:
    text = environ[key]
    if not _NUMBER.fullmatch(text):
        raise StartError(f"{key}={text[:40]!r}: expected a number; unset it, or start by a socket unit")
    return int(text)


def _check(fd: int, count: int) -> None:
    """The first that is missing ends it, however many there are said to be."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError as error:
        said = f"LISTEN_FDS={count} promises descriptors {FIRST} to {FIRST + count - 1}"
        raise StartError(f"{said}, but {fd} is not open; unset it, or start by a socket unit") from error
    if not stat.S_ISSOCK(mode):
        raise StartError(f"LISTEN_FDS={count}: descriptor {fd} is not a socket")


def _names(environ: Mapping[str, str], count: int) -> list[str]:
    written = environ.get("LISTEN_FDNAMES")
    names = written.split(":") if written else [UNNAMED] * count
    if len(names) != count:
        raise StartError(f"LISTEN_FDNAMES={written!r} has {len(names)} names, but LISTEN_FDS={count}")
    return names


def _numbered(names: list[str]) -> list[str]:
    found: list[str] = []
    for i, name in enumerate(names):
        before = names[:i].count(name)
        found.append(f"{name}.{before}" if before else name)
    for i, name in enumerate(found):
        if name in found[:i]:
            raise StartError(
                f"LISTEN_FDNAMES: two sockets would be called {name!r}; change a FileDescriptorName="
            )
    return found
