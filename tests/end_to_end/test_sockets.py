"""Listening sockets of the configuration: who gets them, and how; what stands in their way."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from listening import ANSWERS, COMMAND, ask, dial, fds, place, port, refuses, told, written
from program import Program, wait_gone

Start = Callable[..., Program]

KINDS = """
    [sockets.six]
    bind = "[::1]:0"
    [sockets.file]
    bind = "unix:http.sock"
    mode = "0640"
    [sockets.four]
    bind = "{four}"
    [sockets.other]
    bind = "127.0.0.1:0"
    [pools.web]
    sockets = ["four", "six", "file"]
    {more}
"""
ONE = """
    [sockets.http]
    bind = "{four}"
    [pools.web]
    target = "app:run"
    sockets = ["http"]
"""
MEMORY = "/memfd:supervisor-stacks (deleted)"
TARGET = 'target = "app:run"'


def command(one: str = "program.py") -> str:
    return f'command = ["{sys.executable}", "{one}"]'


# Who gets what


@pytest.mark.parametrize("preload", ["false", "true"])
def test_a_target_accepts_from_every_kind_by_its_name(program: Start, tmp_path: Path, preload: str) -> None:
    four = place()
    one = program(ANSWERS, KINDS.format(four=written(four), more=f"{TARGET}\npreload = {preload}")).ready()
    file = str(tmp_path / "http.sock")
    for name, address in (("four", four), ("six", ("::1", port(one.worker("web.0"), 4))), ("file", file)):
        assert ask(address) == {"socket": name, "worker": "web.0", "generation": 1}
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o640
    one.stop()
    assert not os.path.exists(file)
    assert refuses(four)


@pytest.mark.parametrize("preload", ["false", "true"])
def test_a_target_has_the_sockets_of_its_pool_at_3_and_none_other(program: Start, preload: str) -> None:
    one = program(ANSWERS, KINDS.format(four=written(place()), more=f"{TARGET}\npreload = {preload}")).ready()
    ours, masters = fds(one.worker("web.0")), fds(one.pid)
    listeners = [ours.pop(fd) for fd in (3, 4, 5)]
    assert set(listeners) < set(masters.values())
    own = sorted(ours.pop(fd).partition(":[")[0] for fd in list(ours) if fd > 2)
    # Its master's life and its stop, the stacks it may be asked for, what wakes its attendant, its way out.
    assert own == sorted(["anon_inode", "anon_inode", MEMORY, "pipe", "pipe", "socket"])
    assert set(ours.values()) <= {"/dev/null", masters[1], masters[2]}
    one.stop()


def test_a_command_has_the_sockets_of_its_pool_at_3_and_nothing_else(program: Start, tmp_path: Path) -> None:
    """In the order in which the pool names them; LISTEN_PID is its own."""
    four = place()
    (tmp_path / "program.py").write_text(COMMAND)
    one = program("", KINDS.format(four=written(four), more=command())).ready()
    facts = ask(four)
    assert facts["pid"] == one.worker("web.0")
    names = {"LISTEN_FDS": "3", "LISTEN_FDNAMES": "four:six:file", "LISTEN_PID": str(facts["pid"])}
    assert facts["listen"] == names
    assert sorted(facts["fds"], key=int) == ["0", "1", "2", "3", "4", "5"]
    assert set(facts["fds"].values()) <= {"/dev/null", *fds(one.pid).values()}
    one.stop()


def test_a_pool_without_sockets_hears_of_none(program: Start) -> None:
    """Neither descriptors nor variables, also where the master itself was given some."""
    app = """
        import os

        def run(worker):
            names = [name for name in os.environ if name.startswith("LISTEN_")]
            print("HEARD", names, worker.sockets, flush=True)
            worker.wait()
    """
    config = f'[sockets.http]\nbind = "{written(place())}"\n[pools.a]\ntarget = "app:run"\n'
    one = program(app, config, env={"LISTEN_PID": "1", "LISTEN_FDS": "7", "LISTEN_FDNAMES": "x"}).ready()
    assert one.wait_for_line("HEARD") == "HEARD [] {}"
    one.stop()


def test_two_pools_share_one_listener(program: Start) -> None:
    """One inode in all of them: the queue is one."""
    four = place()
    pools = "".join(
        f'[pools.{name}]\ntarget = "app:run"\nsockets = ["http"]\nworkers = 2\n' for name in ("a", "b")
    )
    one = program(ANSWERS, f'[sockets.http]\nbind = "{written(four)}"\n{pools}').ready()
    inodes = {fds(one.worker(name))[3] for name in ("a.0", "a.1", "b.0", "b.1")}
    assert len(inodes) == 1
    one.wait_until(lambda: ask(four)["worker"][0] == "a")
    one.wait_until(lambda: ask(four)["worker"][0] == "b")
    one.stop()


def test_connections_wait_in_the_queue_until_the_first_worker_is_there(
    program: Start, tmp_path: Path
) -> None:
    """Sockets listen before anybody is born who could accept."""
    four = place()
    os.mkfifo(tmp_path / "gate")
    app = ANSWERS + "\n    open('gate').read()\n"
    one = program(app, ONE.format(four=written(four)))
    one.wait_for("worker.started")
    with dial(four) as client:
        (tmp_path / "gate").write_text("open")
        assert told(client)["worker"] == "web.0"
    one.ready().stop()


# What stands in the way of a start


def refused(one: Program) -> str:
    """The one line that a start says which cannot be."""
    one.wait(1)
    assert not one.events, one.log()
    [line] = one.noise
    return line


def test_a_port_that_is_taken_is_one_clear_line(program: Start) -> None:
    four = place()
    with socket.create_server(four):
        config = KINDS.format(four=written(four), more=TARGET)
        line = refused(program(ANSWERS, config))
    assert line.startswith(
        f"supervisord-lite: sockets.four: cannot bind {written(four)}: Address already in use;"
    )


def test_what_was_bound_before_the_refusal_is_not_left(program: Start, tmp_path: Path) -> None:
    four = place()
    with socket.create_server(four):
        refused(program(ANSWERS, KINDS.format(four=written(four), more=TARGET)))
    assert not (tmp_path / "http.sock").exists()


def test_a_live_unix_socket_of_somebody_else_is_not_disturbed(program: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "http.sock")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        line = refused(program(ANSWERS, KINDS.format(four=written(place()), more=TARGET)))
        assert line.startswith(f"supervisord-lite: sockets.file: somebody answers on {path}")
        dial(path).close()


def test_a_file_in_the_place_of_a_unix_socket_is_left_alone(program: Start, tmp_path: Path) -> None:
    (tmp_path / "http.sock").write_text("precious")
    line = refused(program(ANSWERS, KINDS.format(four=written(place()), more=TARGET)))
    assert "http.sock: not a socket; move it away" in line
    assert (tmp_path / "http.sock").read_text() == "precious"


def test_the_unix_socket_of_a_master_that_was_killed_is_replaced(program: Start, tmp_path: Path) -> None:
    config = KINDS.format(four=written(place()), more=TARGET)
    first = program(ANSWERS, config).ready()
    os.kill(first.pid, signal.SIGKILL)
    wait_gone(first.worker("web.0"))
    first.wait(-signal.SIGKILL)
    second = program(ANSWERS, config).ready()
    assert ask(str(tmp_path / "http.sock"))["worker"] == "web.0"
    second.stop()
    first.orphans_end()
