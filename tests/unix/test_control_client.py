"""The client's end of the control socket, against the real server and against none."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from control_box import Box, opened

from supervisor.control import protocol
from supervisor.control.client import Client, ControlError, NoMasterError
from supervisor.unix.control_socket import listen


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "c.sock")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with opened(str(tmp_path / "c.sock")) as found:
        yield found


@pytest.fixture
def running(box: Box) -> Iterator[Box]:
    """The box, turned by a thread."""
    stopping = threading.Event()

    def turn() -> None:
        while not stopping.is_set():
            box.turn(0.05)

    thread = threading.Thread(target=turn)
    thread.start()
    yield box
    stopping.set()
    thread.join()


def test_the_client_asks_and_is_answered(running: Box) -> None:
    assert Client(running.path).call("ping") == "pong"
    Client(running.path).call("scale", pool="a", workers=3)
    assert running.asked[-1] == ("scale", {"pool": "a", "workers": 3})


def test_the_client_raises_what_the_master_refuses(running: Box) -> None:
    with pytest.raises(ControlError, match="scale: 'workers' must be") as error:
        Client(running.path).call("scale", pool="a", workers=-1)
    assert error.value.code == protocol.INVALID_PARAMS


def test_the_client_knows_the_pid_of_the_master_and_follows_its_events(running: Box) -> None:
    with Client(running.path).events() as events:
        assert events.pid == os.getpid()
        assert events.next(timeout=0) is None
        running.to_publish.append({"event": "a"})
        assert events.next(timeout=10) == {"event": "a"}


def test_no_socket_and_nobody_behind_it_are_both_no_master(path: str) -> None:
    with pytest.raises(NoMasterError, match="supervisord-lite start") as error:
        Client(path).call("ping")
    assert error.value.status == 3
    listen(path).socket.close()
    with pytest.raises(NoMasterError):
        Client(path).call("ping")


def test_a_master_that_does_not_answer_is_told_apart(path: str) -> None:
    control = listen(path)
    with pytest.raises(ControlError, match="kill -CONT"):
        Client(path, timeout=0.05).call("ping")
    control.socket.close()


def test_a_stream_that_the_master_closes_says_so_after_its_last_event(box: Box) -> None:
    seen: list[dict[str, Any] | None] = []

    def follow_all() -> None:
        with Client(box.path).events() as events:
            seen.append(events.next())
            with pytest.raises(EOFError):
                events.next()
            seen.append(None)

    thread = threading.Thread(target=follow_all)
    thread.start()
    while not any(c.streaming for c in box.server._clients.values()):
        box.turn(1)
    box.settle()
    box.server.publish({"event": "master.exiting"})
    box.server.finish()
    thread.join()
    assert seen == [{"event": "master.exiting"}, None]
