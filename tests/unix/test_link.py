"""A worker's last words reach a master whose queue is full, and wait for none that does not read."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.child.link import MasterLink
from supervisor.unix.notify import hand_over


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The master's, which many workers write to, and a worker's; the queue is full."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as master,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as worker,
    ):
        master.bind(str(tmp_path / "notify"))
        worker.connect(str(tmp_path / "notify"))
        link = MasterLink(worker, -1)
        while link.send(STATUS="busy"):
            pass
        yield master, worker


class Reading(socket.socket):
    """A worker's end; an attempt to send that fails has the master read all that is there.

    Less would not do: poll(2) calls it writable when three quarters of its buffer are free.
    """

    master: socket.socket

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        try:
            return super().send(data, flags)
        except BlockingIOError:
            with contextlib.suppress(BlockingIOError):
                while self.master.recv(100, socket.MSG_DONTWAIT):
                    pass
            raise


def test_last_words_wait_for_room(ends: tuple[socket.socket, socket.socket]) -> None:
    """The first attempt finds a full queue; the master reads, and the next one comes through."""
    master, worker = ends
    sender = Reading(fileno=worker.detach())
    sender.master = master
    MasterLink(sender, -1).send_last({"STOPPING": 1}, 60.0)
    sender.close()
    told = b""
    while told != b"STOPPING=1":
        told = master.recv(100, socket.MSG_DONTWAIT)  # BlockingIOError where it never came


def test_a_master_that_does_not_read_is_not_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    """It may be stopped (T): then nobody will read, and a worker must be able to leave."""
    _, worker = ends
    began = time.monotonic()
    MasterLink(worker, -1).send_last({"STOPPING": 1}, 0.05)
    assert 0.05 <= time.monotonic() - began < 10


def test_a_master_that_is_gone_is_not_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    """ECONNREFUSED or EPIPE at once."""
    master, worker = ends
    master.close()
    began = time.monotonic()
    MasterLink(worker, -1).send_last({"STOPPING": 1}, 60.0)
    assert time.monotonic() - began < 10


def test_what_an_application_sets_for_its_sockets_changes_none_that_all_share(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """With a default timeout Python's sockets do not block, and neither would those of other workers."""
    _, worker = ends
    socket.setdefaulttimeout(5.0)
    try:
        assert not hand_over(worker.fileno(), b"X_LOG={}", 0.0)
    finally:
        socket.setdefaulttimeout(None)
    assert os.get_blocking(worker.fileno())
