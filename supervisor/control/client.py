"""The client's end of the control socket: blocking, for commands that a person types.

Knows how to ask one question and how to follow the events, and turns every way
in which that can go wrong into an error that says what to do next.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from supervisor.control import protocol
from supervisor.errors import SupervisorError
from supervisor.exits import ClientExit
from supervisor.unix.control_socket import peer
from supervisor.unix.files import LONGEST_PATH

TIMEOUT = 10.0  # a master answers within a turn; one that does not is stopped or stuck
CHUNK = 256 * 1024

Event = dict[str, Any]


class NoMasterError(SupervisorError):
    """Nobody answers at the socket."""

    status = ClientExit.NO_MASTER


class ControlError(SupervisorError):
    """The master refused, or could not be asked; ``code`` is the protocol's, if it answered."""

    status = ClientExit.FAILED

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class LeftError(ControlError):
    """The master was gone before it answered."""


class Connection:
    """One connection, line by line, with a time limit on each wait."""

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        """Connect.

        Raises:
            NoMasterError: there is no socket, or nobody behind it.
            ControlError: there is, but not for us.
        """
        self._path = path
        self._timeout = timeout
        self._received = bytearray()
        self._searched = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._connect()
        except BaseException:
            self._socket.close()
            raise

    def _connect(self) -> None:
        path = self._path
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise ControlError(f"{path}: a socket's path has at most {LONGEST_PATH} bytes")
        try:
            self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            advice = "start one with 'supervisord-lite start -c FILE'"
            raise NoMasterError(f"no master is running at {path}; {advice}") from None
        except PermissionError:
            advice = "use the master's own user, or sudo"
            raise ControlError(f"not allowed to connect to {path}; {advice}") from None
        except (BlockingIOError, TimeoutError):
            raise self._silent() from None
        except OSError as error:
            raise ControlError(f"cannot connect to {path}: {error.strerror}") from error

    def _silent(self) -> ControlError:
        silent = f"the master at {self._path} does not answer within {self._timeout:g} s"
        return ControlError(f"{silent}; is it stopped (kill -CONT it) or very busy?")

    @property
    def pid(self) -> int:
        """The master's pid as the kernel tells it; 0 if it lives in another pid namespace."""
        return peer(self._socket)[0]

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, line: bytes) -> None:
        # A refused or crowded-out client finds the connection closed, with the reason still to be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(line)

    def line(self, until: float | None) -> bytes | None:
        """The next line; None when monotonic ``until`` has passed.

        Raises:
            EOFError: there is none and there will be none.
        """
        while (end := self._received.find(b"\n", self._searched)) < 0:
            self._searched = len(self._received)
            if not self._readable(until):
                return None
            self._receive()
        self._searched = 0
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def _readable(self, until: float | None) -> bool:
        poller = select.poll()  # not select(2): a descriptor may be above 1023
        poller.register(self._socket, select.POLLIN)
        left = None if until is None else max(0.0, until - time.monotonic()) * 1000
        return bool(poller.poll(left))

    def _receive(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        self._received += data

    def reply(self) -> Any:
        """Read one reply's result.

        Raises:
            ControlError: it is an error, or none comes.
        """
        try:
            line = self.line(time.monotonic() + self._timeout)
        except EOFError:
            text = f"the master at {self._path} closed the connection without a reply; see its log"
            raise LeftError(text) from None
        if line is None:
            raise self._silent()
        return self._result(line)

    def _result(self, line: bytes) -> Any:
        try:
            reply = json.loads(line)
            error = reply.get("error")
        except (ValueError, AttributeError, RecursionError):
            raise ControlError(f"what answers at {self._path} is no supervisord-lite") from None
        if error is not None:
            raise ControlError(str(error.get("message")), error.get("code"))
        return reply.get("result")

    def close(self) -> None:
        self._socket.close()


class Events:
    """A followed event stream: every event from the moment `Client.events` was entered."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.pid = connection.pid

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None if none came within ``timeout`` seconds.

        Raises:
            EOFError: the master has closed the stream.
        """
        until = None if timeout is None else time.monotonic() + timeout
        line = self._connection.line(until)
        return None if line is None else dict(json.loads(line))


class Client:
    """Asks the master at ``path``, each question on a connection of its own.

    The master closes a connection that is idle for 5 s, so none is kept.
    """

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout
        self._ids = itertools.count(1)

    def call(self, method: str, **params: object) -> Any:
        """Ask one thing and return its result.

        Raises:
            NoMasterError: nobody is there.
            ControlError: the master refused, is not ours to ask, or does not answer.
        """
        with self._connected() as connection:
            connection.send(self._request(method, params))
            return connection.reply()

    def status(self) -> dict[str, Any]:
        return dict(self.call("status"))

    def events(self) -> AbstractContextManager[Events]:
        """Follow the events; once entered, none is missed."""
        return self._following()

    @contextmanager
    def _following(self) -> Iterator[Events]:
        with self._connected() as connection:
            connection.send(self._request("events", {}))
            connection.reply()
            yield Events(connection)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        connection = Connection(self.path, self._timeout)
        try:
            yield connection
        finally:
            connection.close()

    def _request(self, method: str, params: dict[str, object]) -> bytes:
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        return protocol.encode(request)
