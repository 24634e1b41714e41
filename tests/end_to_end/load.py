"""HTTP load on a listening socket, and what of it failed.

`Wrk` sends thousands a second, or as much as it can, and counts.  A `Visitor` is slower, looks at each
answer, and tells in words what went wrong.  A refused or reset connection is a
failure, and so is one that ends before its answer is complete; to wait is none.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 30  # seconds: a safety net
PACE = str(Path(__file__).with_name("pace.lua"))
PAUSE = 0.01  # seconds that a visitor thinks, so that connections are idle at times
CLOSE = "Connection: close"
HOST = "Host: test"

Address = tuple[str, int]


class Wrk:
    """wrk, from its start until `end`."""

    def __init__(self, address: Address, header: str, *, paced: bool, connections: int = 8) -> None:
        url = f"http://{address[0]}:{address[1]}/wrk"
        options = ["-t1", f"-c{connections}", "-d1h", f"--timeout={PATIENCE}s", "-H", header]
        if paced:
            options += ["-s", PACE]
        self.process = subprocess.Popen(["wrk", *options, url], stdout=subprocess.PIPE, text=True)

    def end(self) -> tuple[int, list[str]]:
        """How many requests were answered, and what failed, as wrk says it."""
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate(timeout=PATIENCE)
        found = re.search(r"(\d+) requests in", said)
        assert found, said
        return int(found[1]), re.findall(r"(?:Socket errors|Non-2xx).*", said)


@dataclass
class Visitor:
    """One request after the other, each on a new connection unless ``keeps``."""

    address: Address
    keeps: bool
    answered: Counter[str] = field(default_factory=Counter)  # by the first line of the answer's text
    failed: list[str] = field(default_factory=list)
    _leave: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> threading.Thread:
        thread = threading.Thread(target=self._visit)
        thread.start()
        return thread

    def end(self) -> None:
        self._leave.set()

    def _visit(self) -> None:
        while not self._leave.is_set():
            try:
                with socket.create_connection(self.address, timeout=PATIENCE) as connection:
                    self._talk(connection)
            except (OSError, AssertionError) as error:
                self.failed.append(repr(error))

    def _talk(self, connection: socket.socket) -> None:
        more = True
        while more and not self._leave.is_set():
            line = HOST if self.keeps else f"{HOST}\r\n{CLOSE}"
            connection.sendall(f"GET /visit HTTP/1.1\r\n{line}\r\n\r\n".encode())
            head, text = answer(connection)
            assert head.startswith("HTTP/1.1 200 OK\r\n"), head
            self.answered[text.strip()] += 1
            more = "connection: close" not in head.lower()
            self._leave.wait(PAUSE)


def answer(connection: socket.socket) -> tuple[str, str]:
    """The head and the body of one response."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += more(connection, said)
    head, _, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert length, head
    while len(body) < int(length[1]):
        body += more(connection, said + body)
    return head.decode(), body.decode()


def more(connection: socket.socket, said: bytes) -> bytes:
    data = connection.recv(65536)
    assert data, f"the connection ended after {said!r}"
    return data


@dataclass
class Result:
    """What came of a load."""

    requests: int = 0
    failed: list[str] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def load(address: Address, *, keep: bool = True, new: bool = True, paced: bool = True) -> Iterator[Result]:
    """Load by connections that are kept, and by one for each request; the result is there at the end."""
    result = Result()
    kinds = [True] * keep + [False] * new
    wrks = [Wrk(address, HOST if keeps else CLOSE, paced=paced) for keeps in kinds]
    visitors = [Visitor(address, keeps) for keeps in kinds for _ in range(2)]
    threads = [visitor.begin() for visitor in visitors]
    try:
        yield result
    finally:
        for visitor in visitors:
            visitor.end()
        for thread in threads:
            thread.join(2 * PATIENCE)
        for requests, failed in [wrk.end() for wrk in wrks]:
            result.requests += requests
            result.failed += failed
        for visitor in visitors:
            result.requests += visitor.answered.total()
            result.failed += visitor.failed
            result.answered += visitor.answered
