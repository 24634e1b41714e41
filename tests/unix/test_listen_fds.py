"""What the service manager hands over: named, checked, and never believed."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from supervisor.errors import StartError
from supervisor.unix.listen_fds import received

OUT = 100  # where the child's answer goes: out of the way of 3, 4, ...


def in_a_child(opened: int, ask: Callable[[], object]) -> Any:
    """Ask in a forked child whose only descriptors from 3 on are that many sockets."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.dup2(theirs, OUT)
            os.closerange(3, OUT)
            os.write(OUT, json.dumps(answered(opened, ask)).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(data)


def answered(opened: int, ask: Callable[[], object]) -> object:
    sockets = [socket.socket() for _ in range(opened)]
    for each in sockets:
        each.set_inheritable(True)
    try:
        return ask()
    except StartError as error:
        return str(error)


def handed(opened: int, **environ: str) -> Any:
    """What `received` answers; the pid in LISTEN_PID is the child's unless given."""
    return in_a_child(opened, lambda: received({"LISTEN_PID": str(os.getpid())} | environ, os.getpid()))


def test_descriptors_come_by_their_names() -> None:
    assert handed(2, LISTEN_FDS="2", LISTEN_FDNAMES="http:admin") == {"http": 3, "admin": 4}


def test_they_are_closed_on_exec_from_then_on() -> None:
    def ask() -> list[bool]:
        received({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}, os.getpid())
        return [os.get_inheritable(fd) for fd in (3, 4)]

    assert in_a_child(2, ask) == [False, False]


def test_the_sockets_of_one_unit_are_numbered() -> None:
    assert handed(4, LISTEN_FDS="4", LISTEN_FDNAMES="http:x:http:http") == {
        "http": 3, "x": 4, "http.1": 5, "http.2": 6,
    }  # fmt: skip


def test_sockets_without_names_are_numbered_too() -> None:
    assert handed(2, LISTEN_FDS="2") == {"unknown": 3, "unknown.1": 4}


@pytest.mark.parametrize(
    "environ",
    [
        {"LISTEN_PID": "1", "LISTEN_FDS": "2"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "garbage"},
        {"LISTEN_PID": "", "LISTEN_FDS": "2"},
        {"LISTEN_FDS": "0"},
        {},
    ],
)
def test_what_is_meant_for_another_or_is_nothing_is_nothing(environ: dict[str, str]) -> None:
    assert handed(2, **environ) == {}


def test_without_any_variable_there_is_nothing() -> None:
    assert received({}, os.getpid()) == {}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"LISTEN_PID": "abc", "LISTEN_FDS": "1"}, "LISTEN_PID='abc': expected a number"),
        ({"LISTEN_FDS": "abc"}, "LISTEN_FDS='abc': expected a number"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS='-1': expected a number"),
        ({"LISTEN_FDS": "٢"}, "expected a number"),
        ({"LISTEN_FDS": "9" * 5000}, "expected a number"),
        ({"LISTEN_FDS": "1000000"}, "promises descriptors 3 to 1000002, but 5 is not open"),
        ({"LISTEN_FDS": "3"}, "promises descriptors 3 to 5, but 5 is not open"),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "http"}, "has 1 names, but LISTEN_FDS=2"),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b:c"}, "has 3 names, but LISTEN_FDS=2"),
        ({"LISTEN_FDS": "98"}, "but 5 is not open"),
    ],
)
def test_garbage_is_a_clear_error(environ: dict[str, str], words: str) -> None:
    assert words in handed(2, **environ)


def test_two_sockets_of_one_name_are_refused() -> None:
    found = handed(3, LISTEN_FDS="3", LISTEN_FDNAMES="a:a:a.1")
    assert "two sockets would be called 'a.1'" in found


def test_a_file_is_not_taken_for_a_socket() -> None:
    def ask() -> object:
        os.open(os.devnull, os.O_RDONLY)
        return received({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, os.getpid())

    assert in_a_child(0, ask) == "LISTEN_FDS=1: descriptor 3 is not a socket"
