"""The control server in its real loop, turned by hand, for the tests of its parts."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

from supervisor.control import protocol
from supervisor.control.server import Server
from supervisor.unix.control_socket import listen
from supervisor.unix.loop import Loop

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
EVENTS = b'{"jsonrpc":"2.0","id":1,"method":"events"}\n'
NOBODY = 65534


class Box:
    """A server in its loop, turned by hand; ``late`` moves its clock."""

    def __init__(self, path: str) -> None:
        self.loop = Loop()
        self.control = listen(path)
        self.asked: list[tuple[str, protocol.Params]] = []
        self.failures: list[Exception] = []
        self.results: dict[str, object] = {"ping": "pong"}
        self.server = Server(self.loop, self.control.socket, self.answer, self.failures.append)
        self.late = 0.0
        self.path = path
        self.to_publish: list[dict[str, object]] = []

    def answer(self, method: str, params: protocol.Params, _uid: int) -> object:
        self.asked.append((method, params))
        result = self.results.get(method, True)
        if isinstance(result, Exception):
            raise result
        return result

    def turn(self, wait: float = 0.0) -> int:
        """One turn of a master; how many things were seen."""
        seen = self.loop.poll(self.loop.now() + wait)
        now = self.loop.now() + self.late
        for one in seen:
            self.server.seen(one, now)
        self.server.expire(now)
        while self.to_publish:
            self.server.publish(self.to_publish.pop(0))
        return len(seen)

    def settle(self) -> None:
        """Turn until nothing is left to do."""
        for _ in range(10_000):
            if not self.turn():
                return
        raise AssertionError("the server spins")

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.settimeout(10)
        return client

    def ask(self, data: bytes) -> list[Any]:
        """Send, turn, and read what came back, line by line."""
        with self.connect() as client:
            client.sendall(data)
            self.settle()
            return lines(client)

    def close(self) -> None:
        self.server.close()
        self.control.remove()
        self.loop.close()


@contextlib.contextmanager
def opened(path: str) -> Iterator[Box]:
    """A box that leaves no descriptor open."""
    before = len(os.listdir("/proc/self/fd"))
    found = Box(path)
    yield found
    found.close()
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"


def received(client: socket.socket) -> bytes:
    """Whatever is there now."""
    data = b""
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        while chunk := client.recv(1 << 20):
            data += chunk
    return data


def lines(client: socket.socket) -> list[Any]:
    return [json.loads(line) for line in received(client).splitlines()]


def closed(client: socket.socket) -> bool:
    """Whether the other end is gone, once all that it sent is read."""
    received(client)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
