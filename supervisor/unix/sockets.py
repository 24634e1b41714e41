"""The listening sockets of one master: bound once, handed to all, closed when nobody names them.

A change is tried before it holds: `prepare` binds what is new, `commit` closes
what is no longer named, `undo` leaves everything as it was.  A socket is known by
its address, so it outlives a change of its name, its backlog or its mode.
Nothing here waits.  Knows nothing of pools.  socket(7), ip(7), unix(7)

The sockets are left in blocking mode.  O_NONBLOCK belongs to the open file
description, which all workers share: set here, or by one of them, it holds for
every accept() in every process.  Whoever polls must be ready for EAGAIN anyway,
since another worker may have been faster; whoever just accepts must not get it.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from supervisor.errors import StartError
from supervisor.settings import SocketSettings
from supervisor.unix import socket_file
from supervisor.unix.addresses import Address, parse
from supervisor.unix.leftovers import Leftovers
from supervisor.unix.listen_fds import listening
from supervisor.unix.socket_file import SocketFile

LOWEST_FREE_PORT = 1024
BOOT_SECONDS = 2.0  # how long the first `prepare` waits for another starter in a folder; later ones never


class TakenError(StartError):
    """Another socket has the address."""

    def __init__(self, text: str, address: Address) -> None:
        super().__init__(text)
        self.address = address


@dataclass(frozen=True)
class Held:
    """One socket that listens.

    A plain descriptor and no socket object: in a forked child, which closes what
    is not its own, such an object would one day close somebody else's number.
    """

    address: Address
    fd: int
    backlog: int
    mode: int | None = None
    file: SocketFile | None = None  # of a unix socket that we bound

    def let_go(self) -> None:
        """Close it, unless the service manager gave it: that one would not come back."""
        if self.file:
            self.file.remove()  # before the close: see there
        if self.address.kind != "fd":
            os.close(self.fd)


@dataclass(frozen=True)
class Change:
    """A set of sockets that is being tried, by name, and which of them are new."""

    held: Mapping[str, Held]
    bound: tuple[Held, ...] = ()


class Listeners:
    """All of them.  At most one change at a time is open."""

    def __init__(self, inherited: Mapping[str, int], warn: Callable[[str], None] = lambda _: None) -> None:
        self._inherited = dict(inherited)  # what `listen_fds.received` returned; ours to close
        self._held: Mapping[str, Held] = MappingProxyType({})
        self._open: Change | None = None
        self._patience = BOOT_SECONDS
        self._warn = warn
        self._leftovers: Leftovers | None = None  # whose unix sockets may be replaced

    def prepare(self, wanted: Mapping[str, SocketSettings], leftovers: Leftovers | None = None) -> Change:
        """Bind and listen to what is new.  What is held already keeps its descriptor.

        A unix socket whose file was removed or replaced is bound anew: nobody could find it.  One on
        which none but ``leftovers`` could answer is replaced.

        Raises:
            TakenError: another socket has one of the addresses; nothing has changed then.
            StartError: one of them cannot be had; nothing has changed then.
        """
        assert self._open is None, "commit or undo the last change first"
        self._leftovers = leftovers
        there = {held.address: held for held in self._held.values() if not held.file or held.file.is_ours()}
        held: dict[str, Held] = {}
        bound: list[Held] = []
        try:
            for name, settings in wanted.items():
                held[name] = self._have(settings, there, held)
                if held[name].address not in there and held[name].address.kind != "fd":
                    bound.append(held[name])
        except BaseException:
            _let_go(bound)
            raise
        finally:
            self._patience = 0.0
        self._open = Change(held, tuple(bound))
        return self._open

    def commit(self, change: Change) -> None:
        """From now on the new set holds; those that nobody names any more are closed."""
        before = {held.fd: held for held in self._held.values()}
        kept = {held.fd for held in change.held.values()}
        _let_go(held for held in self._held.values() if held.fd not in kept)
        for name, held in change.held.items():
            self._adjust(name, before.get(held.fd, held), held)
        self._held, self._open = change.held, None

    def undo(self, change: Change) -> None:
        """As it was before `prepare`."""
        _let_go(change.bound)
        self._open = None

    def fds(self, names: Sequence[str]) -> tuple[tuple[str, int], ...]:
        """Names and descriptors of the set that holds."""
        return tuple((name, self._held[name].fd) for name in names)

    @staticmethod
    def fds_of(change: Change, names: Sequence[str]) -> tuple[tuple[str, int], ...]:
        """The same of a set that is being tried."""
        return tuple((name, change.held[name].fd) for name in names)

    def unclaimed(self) -> list[str]:
        """What the service manager gave and nobody names: clients there wait for ever."""
        claimed = {held.fd for held in self._held.values()}
        return [name for name, fd in self._inherited.items() if fd not in claimed]

    def close(self) -> None:
        """At the master's end.  The files of inherited sockets stay: they are not ours."""
        if self._open:
            self.undo(self._open)
        _let_go(self._held.values())
        for fd in self._inherited.values():
            os.close(fd)
        self._held, self._inherited = {}, {}

    # -- one socket ----------------------------------------------------------------

    def _have(
        self, settings: SocketSettings, there: Mapping[Address, Held], others: Mapping[str, Held]
    ) -> Held:
        key, address = f"sockets.{settings.name}", parse(settings.bind)
        for name, other in others.items():
            if other.address == address:
                raise StartError(f"{key}: sockets.{name} listens on {address} already; name one of them")
        if address in there:
            return dataclasses.replace(there[address], backlog=settings.backlog, mode=settings.mode)
        try:
            return self._listen(address, settings)
        except StartError as error:
            raise StartError(f"{key}: {error}") from error
        except OSError as error:
            words = f"{key}: cannot bind {address}: {error.strerror or error}"
            words += _advice(address, error.errno or 0, self._held)
            taken = error.errno == errno.EADDRINUSE
            raise (TakenError(words, address) if taken else StartError(words)) from error

    def _listen(self, address: Address, settings: SocketSettings) -> Held:
        backlog, mode = settings.backlog, settings.mode
        match address.kind:
            case "fd":
                return Held(address, listening(address.where, self._inherited), backlog)
            case "unix":
                listener, file = self._listen_at(address.where, settings)
                return Held(address, listener.detach(), backlog, mode, file)
            case _:
                return Held(address, _listen_tcp(address, backlog), backlog)

    def _listen_at(self, path: str, settings: SocketSettings) -> tuple[socket.socket, SocketFile]:
        def warn(text: str) -> None:
            self._warn(f"sockets.{settings.name}: {text}")

        def left_over() -> bool:
            return self._leftovers is not None and bool(self._leftovers.at(Address("unix", path)))

        try:
            return socket_file.listen(
                path, settings.backlog, settings.mode, self._patience, warn, left_over=left_over
            )
        except StartError as error:
            raise StartError(f"{error}, or bind another path") from error

    def _adjust(self, name: str, old: Held, new: Held) -> None:
        """Bring about what changed of a socket that is kept; what cannot be is said, and the rest goes on."""
        try:
            if new.backlog != old.backlog and new.address.kind != "fd":
                _listen_again(new.fd, new.backlog)
            if new.mode != old.mode and new.file and new.file.is_ours():
                os.chmod(new.file.path, 0o777 & ~_umask() if new.mode is None else new.mode)
        except OSError as error:
            self._warn(f"sockets.{name}: cannot change {new.address}: {error.strerror}")


def _let_go(sockets: Iterable[Held]) -> None:
    for held in sockets:
        held.let_go()


def _listen_tcp(address: Address, backlog: int) -> int:
    six = address.kind == "tcp6"
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM) as listener:
        # Connections of the last master that are in TIME_WAIT must not keep the next one from its
        # port.  Never SO_REUSEPORT: with it a second master would take half of the connections
        # unnoticed, and the close of one socket would reset those in its queue.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:  # else [::] would take IPv4's port too, or not, as the machine is set up
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted connections inherit it.  Servers set it themselves, unless they were told only a
        # number: `uvicorn --fd 3` does not, and then each of its answers waits 40 ms for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(_sockaddr(address))
        listener.listen(backlog)  # the kernel caps it at net.core.somaxconn
        return listener.detach()


def _sockaddr(address: Address) -> tuple[str, int] | tuple[str, int, int, int]:
    """In numbers alone, so that Python looks nothing up."""
    host, _, scope = address.where.partition("%")
    if address.kind == "tcp4":
        return host, address.port
    return host, address.port, 0, socket.if_nametoindex(scope) if scope else 0


def _listen_again(fd: int, backlog: int) -> None:
    """On a socket that listens, listen(2) only changes the backlog."""
    borrowed = socket.socket(fileno=fd)
    try:
        borrowed.listen(backlog)
    finally:
        borrowed.detach()


def _advice(address: Address, code: int, held: Mapping[str, Held]) -> str:
    match code:
        case errno.EADDRINUSE:
            for name, other in held.items():
                if other.address.clashes(address):
                    return f"; sockets.{name} of this master holds {other.address} until a restart (USR2)"
            return f"; 'ss -ltnp sport = :{address.port}' tells who listens there"
        case errno.EACCES if address.port < LOWEST_FREE_PORT:
            return (
                f'; ports below {LOWEST_FREE_PORT} need root, CAP_NET_BIND_SERVICE or "fd:NAME" from systemd'
            )
        case errno.EADDRNOTAVAIL:
            return "; no interface of this machine has that address"
        case errno.EAFNOSUPPORT:
            return "; this machine has no such protocol"
        case _:
            return ""


def _umask() -> int:
    """It can be read only by setting it."""
    now = os.umask(0o077)
    os.umask(now)
    return now
