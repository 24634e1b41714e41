"""Reloads under load: no connection is refused or reset, with good code and with bad code."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from program import Program
from reloading import code, fails, least, pool, works

Start = Callable[..., Program]

SERVES = """
    import select
    def run(worker):
        listener = worker.sockets["echo"]
        listener.setblocking(False)
        while not worker.stopping:
            select.select([listener, worker], [], [])
            try:
                connection = listener.accept()[0]
            except BlockingIOError:
                continue
            with worker.job(), connection:
                connection.settimeout(10)
                connection.sendall(connection.recv(100))
"""
THREADS = 4


class Clients:
    """Each asks over a new connection, again and again."""

    def __init__(self, address: str) -> None:
        self.address, self.answered = address, [0] * THREADS
        self.errors: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(THREADS)]

    def _ask(self, number: int) -> None:
        while not self._over.is_set():
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(15)
                    connection.connect(self.address)
                    connection.sendall(b"x")
                    assert connection.recv(10) == b"x", "closed without an answer"
            except (OSError, AssertionError) as error:
                self.errors.append(repr(error))
                return
            self.answered[number] += 1

    @contextmanager
    def at_work(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()


def test_no_request_fails_over_good_and_bad_reloads(program: Start, tmp_path: Path) -> None:
    """The listener is the same all the time; every connection has its answer."""
    config = '[sockets.echo]\nbind = "unix:echo.sock"\n' + pool(workers=3, more='sockets = ["echo"]')
    one = program(SERVES, config.replace('"200ms"', '"50ms"')).ready()
    one.tracebacks_expected = True
    inode = os.stat(tmp_path / "echo.sock").st_ino
    clients = Clients(str(tmp_path / "echo.sock"))
    with clients.at_work():
        for _ in range(5):
            works(one)
            code(one, "import surely_not_there")
            fails(one)
            code(one, SERVES)
        mark = sum(clients.answered)
        one.wait_until(lambda: clients.errors or sum(clients.answered) > mark + 100)
    assert clients.errors == []
    assert all(clients.answered)
    assert os.stat(tmp_path / "echo.sock").st_ino == inode
    assert least(one) == 3
    assert one.find("worker.killed") is None
    one.stop(0)
