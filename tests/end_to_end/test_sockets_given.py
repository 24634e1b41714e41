"""Sockets that whoever started the master has opened: fd:NAME, and what is wrong with LISTEN_FDS."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from listening import ANSWERS, COMMAND, ask, fds, passing, place, refuses, written
from program import Program
from reloading import STABLE, configure, works

Start = Callable[..., Program]

CONFIG = f"""
    [sockets.front]
    bind = "fd:http"
    [pools.web]
    target = "app:run"
    sockets = ["front"]
    {STABLE}
"""
GIVEN = "LISTEN_PID=PID LISTEN_FDS={} LISTEN_FDNAMES={}"


def test_a_target_accepts_from_what_was_given(program: Start) -> None:
    four = place()
    one = program(ANSWERS, CONFIG, before=passing(written(four), GIVEN.format(1, "http"))).ready()
    assert ask(four) == {"socket": "front", "worker": "web.0", "generation": 1}
    inode = fds(one.pid)[3]
    works(one)
    assert ask(four)["generation"] == 2
    assert fds(one.pid)[3] == fds(one.worker("web.0"))[3] == inode
    one.stop()
    assert refuses(four)


def test_a_command_is_given_them_anew_under_its_own_names(program: Start, tmp_path: Path) -> None:
    """The order is the pool's, and the names are the configuration's."""
    first, second = place(), place()
    (tmp_path / "program.py").write_text(COMMAND)
    config = f"""
        [sockets.front]
        bind = "fd:b"
        [sockets.back]
        bind = "fd:a"
        [pools.web]
        command = ["{sys.executable}", "program.py"]
        sockets = ["front", "back"]
    """
    given = passing(f"{written(first)} {written(second)}", GIVEN.format(2, "a:b"))
    one = program("", config, before=given).ready()
    facts = ask(second)  # "b", which is 3 there
    assert facts["listen"] == {
        "LISTEN_FDS": "2", "LISTEN_FDNAMES": "front:back", "LISTEN_PID": str(one.worker("web.0")),
    }  # fmt: skip
    assert sorted(facts["fds"]) == ["0", "1", "2", "3", "4"]
    assert (facts["fds"]["3"], facts["fds"]["4"]) == (fds(one.pid)[4], fds(one.pid)[3])
    one.stop()


def test_several_of_one_name_are_numbered(program: Start) -> None:
    first, second = place(), place()
    given = passing(f"{written(first)} {written(second)}", GIVEN.format(2, "http:http"))
    config = CONFIG.replace("fd:http", "fd:http.1")
    one = program(ANSWERS, config, before=given).ready()
    assert ask(second)["socket"] == "front"
    one.stop()


def test_the_file_of_a_given_unix_socket_stays(program: Start, tmp_path: Path) -> None:
    """It is the service manager's, and so is who may use it."""
    path = str(tmp_path / "given.sock")
    one = program(ANSWERS, CONFIG, before=passing(path, GIVEN.format(1, "http"))).ready()
    assert ask(path)["worker"] == "web.0"
    one.stop()
    assert os.path.exists(path)


def test_one_that_nobody_names_is_warned_of_and_kept_for_a_reload(program: Start) -> None:
    first, second = place(), place()
    given = passing(f"{written(first)} {written(second)}", GIVEN.format(2, "http:spare"))
    one = program(ANSWERS, CONFIG, before=given).ready()
    assert "'spare'" in one.wait_for_line("the service manager passed the socket")
    configure(one, ("fd:http", "fd:spare"))
    works(one)
    assert ask(second)["generation"] == 2
    configure(one, ("fd:spare", "fd:http"))
    works(one)
    assert ask(first)["generation"] == 3
    one.stop()


def test_what_is_meant_for_another_process_is_not_touched(program: Start) -> None:
    """LISTEN_PID of somebody else, or none: then fd:NAME is not there, and nothing of it is passed on."""
    four = place()
    for environment in ("LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=http", "LISTEN_FDS=1 LISTEN_FDNAMES=http"):
        one = program(ANSWERS, CONFIG, before=passing(written(four), environment))
        assert line_of_refusal(one).startswith(
            "supervisord-lite: sockets.front: the service manager passed no socket"
        )


def line_of_refusal(one: Program) -> str:
    """The one line of a start that cannot be."""
    one.wait(1)
    assert not one.events, one.log()
    [line] = one.noise
    return line


@pytest.mark.parametrize(
    ("given", "environment", "words"),
    [
        ("", "LISTEN_PID=PID LISTEN_FDS=abc", "LISTEN_FDS='abc': expected a number"),
        ("", "LISTEN_PID=PID LISTEN_FDS=-1", "LISTEN_FDS='-1': expected a number"),
        ("", "LISTEN_PID=abc LISTEN_FDS=1", "LISTEN_PID='abc': expected a number"),
        ("", "LISTEN_PID=PID LISTEN_FDS=1000000", "but 3 is not open"),
        ("", "LISTEN_PID=PID LISTEN_FDS=1", "but 3 is not open"),
        ("TCP", "LISTEN_PID=PID LISTEN_FDS=2 LISTEN_FDNAMES=http:b", "but 4 is not open"),
        ("TCP", "LISTEN_PID=PID LISTEN_FDS=1 LISTEN_FDNAMES=http:b", "has 2 names, but LISTEN_FDS=1"),
        ("TCP", "LISTEN_PID=PID LISTEN_FDS=1 LISTEN_FDNAMES=web", "passed no socket named 'http', only web;"),
        ("TCP", "LISTEN_PID=PID LISTEN_FDS=1", "passed no socket named 'http', only unknown;"),
        ("udp:TCP", "LISTEN_PID=PID LISTEN_FDS=1 LISTEN_FDNAMES=http", "fd:http is no stream socket;"),
    ],
)
def test_garbage_is_one_clear_line_and_no_start(
    program: Start, given: str, environment: str, words: str
) -> None:
    where = given.replace("TCP", written(place()))
    line = line_of_refusal(program(ANSWERS, CONFIG, before=passing(where, environment)))
    assert line.startswith("supervisord-lite: ")
    assert words in line
