"""Listening sockets over a reload: what stays is not touched, what cannot be had refuses the whole."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from listening import ANSWERS, ask, dial, fds, place, refuses, told, written
from program import Program
from reloading import STABLE, code, configure, fails, pids, works

Start = Callable[..., Program]

CONFIG = f"""
    [sockets.http]
    bind = "{{}}"
    [pools.web]
    target = "app:run"
    sockets = ["http"]
    {STABLE}
"""
DEAF = """
    def run(worker):
        worker.wait()
"""
LISTEN = 'sockets = ["http"]'
NEITHER = "sockets = []"


# What stays


@pytest.mark.parametrize("preload", ["", "preload = true"])
def test_a_socket_that_is_named_as_before_keeps_descriptor_and_inode(program: Start, preload: str) -> None:
    four = place()
    one = program(ANSWERS, CONFIG.format(written(four)) + f"    {preload}\n").ready()
    worker, before = fds(one.worker("web.0"))[3], fds(one.pid)
    for generation in (2, 3):
        works(one)
        assert ask(four)["generation"] == generation
        assert fds(one.worker("web.0"))[3] == worker
        assert {fd: what for fd, what in fds(one.pid).items() if what == worker} == {
            fd: what for fd, what in before.items() if what == worker
        }
    one.stop()


def test_a_connection_in_the_queue_is_answered_by_the_new_generation(program: Start) -> None:
    four = place()
    one = program(DEAF, CONFIG.format(written(four))).ready()
    with dial(four) as client:
        code(one, ANSWERS)
        works(one)
        assert told(client)["generation"] == 2
    one.stop()


def test_a_new_name_for_the_same_address_is_the_same_socket(program: Start) -> None:
    four = place()
    one = program(ANSWERS, CONFIG.format(written(four))).ready()
    inode = fds(one.worker("web.0"))[3]
    configure(one, ("[sockets.http]", "[sockets.front]"), (LISTEN, 'sockets = ["front"]'))
    works(one)
    assert ask(four) == {"socket": "front", "worker": "web.0", "generation": 2}
    assert fds(one.worker("web.0"))[3] == inode
    one.stop()


def test_the_mode_and_the_backlog_change_on_the_same_socket(program: Start, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    one = program(
        ANSWERS, CONFIG.format('unix:http.sock"\n    mode = "0600"\n    backlog = "7').replace('"7"', "7")
    ).ready()
    inode = path.stat().st_ino
    configure(one, ('mode = "0600"', 'mode = "0666"'), ("backlog = 7", "backlog = 9"))
    works(one)
    assert path.stat().st_mode & 0o777 == 0o666
    assert path.stat().st_ino == inode
    assert ask(str(path))["generation"] == 2
    one.stop()


# What changes


def test_sockets_are_added_moved_and_removed(program: Start, tmp_path: Path) -> None:
    first, second, path = place(), place(), str(tmp_path / "http.sock")
    one = program(ANSWERS, CONFIG.format(written(first))).ready()
    held = len(fds(one.pid))
    configure(
        one,
        ("[pools.web]", '[sockets.file]\nbind = "unix:http.sock"\n[pools.web]'),
        (LISTEN, 'sockets = ["file", "http"]'),
    )
    works(one)
    assert (ask(first)["socket"], ask(path)["socket"]) == ("http", "file")
    configure(one, (written(first), written(second)))
    works(one)
    assert refuses(first)
    assert (ask(second)["generation"], ask(path)["generation"]) == (3, 3)
    configure(one, ('[sockets.file]\nbind = "unix:http.sock"\n', ""), ('sockets = ["file", "http"]', LISTEN))
    works(one)
    assert ask(second)["generation"] == 4
    assert not os.path.exists(path)
    one.wait_until(lambda: len(fds(one.pid)) == held)
    one.stop()


def test_an_old_address_serves_until_the_new_one_does(program: Start) -> None:
    """While the new generation is tried, both listen; when it fails, only the old one."""
    first, second = place(), place()
    one = program(ANSWERS, CONFIG.format(written(first))).ready()
    one.tracebacks_expected = True
    worker = pids(one, "web")
    code(one, ANSWERS + "\n    raise ImportError('broken')\n")
    configure(one, (written(first), written(second)))
    assert "broken" in fails(one)
    assert ask(first)["generation"] == 1
    assert pids(one, "web") == worker
    one.wait_until(lambda: refuses(second))
    one.stop()


def test_a_unix_socket_whose_file_was_removed_is_bound_anew(program: Start, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    one = program(ANSWERS, CONFIG.format("unix:http.sock")).ready()
    path.unlink()
    works(one)
    assert ask(str(path))["generation"] == 2
    one.stop()
    assert not path.exists()


# What cannot be had


def test_one_that_cannot_be_bound_refuses_the_whole_reload(program: Start, tmp_path: Path) -> None:
    """Nothing else of the new file takes effect, and nothing stays bound."""
    first, second, taken = place(), place(), place()
    one = program(ANSWERS, CONFIG.format(written(first))).ready()
    before, worker = fds(one.pid), one.worker("web.0")
    binds = {"b": written(second), "c": "unix:c.sock", "d": written(taken)}
    more = "".join(f'[sockets.{name}]\nbind = "{bind}"\n' for name, bind in binds.items())
    configure(one, ("[pools.web]", f"{more}[pools.web]\nworkers = 3"))
    with socket.create_server(taken):
        error = fails(one)
        asked = one.cli("reload")
        one.wait_for("reload.failed", generation=3)
    assert error.startswith(f"sockets.d: cannot bind {written(taken)}: Address already in use")
    assert (asked.returncode, error in asked.stderr) == (1, True)
    assert ask(first) == {"socket": "http", "worker": "web.0", "generation": 1}
    assert one.worker("web.0") == worker
    one.wait_until(lambda: fds(one.pid) == before)  # when the command's connection is closed, too
    assert refuses(second)
    assert not (tmp_path / "c.sock").exists()
    works(one)  # the port is free now
    assert ask(first)["generation"] > 1
    one.stop()


def test_a_socket_that_the_service_manager_did_not_pass_refuses_the_reload(program: Start) -> None:
    one = program(ANSWERS, CONFIG.format(written(place()))).ready()
    configure(one, ("[pools.web]", '[sockets.given]\nbind = "fd:nope"\n[pools.web]'))
    assert fails(one).startswith(
        "sockets.given: the service manager passed no socket named 'nope', no sockets at all;"
    )
    one.stop()


def test_a_pool_with_a_socket_that_is_not_there_is_a_mistake_of_the_file(program: Start) -> None:
    one = program(ANSWERS, CONFIG.format(written(place()))).ready()
    configure(one, (LISTEN, 'sockets = ["htpt"]'))
    assert "pools.web.sockets" in fails(one)
    one.stop()
