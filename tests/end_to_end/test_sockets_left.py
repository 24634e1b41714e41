"""A start after ``kill -9`` of a master, while old workers still hold its listening sockets."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from listening import ANSWERS, ask, fds, place, refuses, written
from program import Program, wait_gone
from test_notify_reload import Manager, manager

Start = Callable[..., Program]
__all__ = ["manager"]  # a fixture

# The first life drains until `go` is there; a later one only answers.
SLOW = (
    # A start asks at a unix socket whether somebody answers, and does not wait for what is said.
    ANSWERS.replace("def run(", "def answers(").replace("with client:", "with client, suppress(OSError):")
    + """
    import os
    from contextlib import suppress

    def run(worker):
        first = not os.path.exists("been")
        open("been", "w").close()
        worker.ready()
        answers(worker)
        while first and not os.path.exists("go"):
            select.select([], [], [], 0.01)
            if os.path.exists("close"):
                for listener in worker.sockets.values():
                    listener.close()
"""
)
CONFIG = """
    [sockets.http]
    bind = "{bind}"
    [pools.web]
    target = "app:run"
    sockets = ["http"]
    ready = "notify"
    {more}
"""
DEAF = """
import os, signal, socket
signal.signal(signal.SIGTERM, signal.SIG_IGN)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"""

# What is started behind it gets one argument more.
IN_THE_BACKGROUND = (
    sys.executable,
    "-c",
    "import os, sys; os.execv(sys.argv[1], [*sys.argv[1:], '--daemon'])",
)


def config(bind: str, more: str = "") -> str:
    return CONFIG.format(bind=bind, more=more)


def killed(one: Program) -> int:
    """Kill the master; the pid of the worker that drains now and holds the listener."""
    one.ready()
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)
    return one.worker("web.0")


@pytest.mark.parametrize("preload", ["false", "true"])
def test_the_next_start_waits_for_a_port_that_old_workers_still_hold(program: Start, preload: str) -> None:
    """The log says for what and whom; when the worker is gone, the start goes on."""
    four = place()
    first = program(SLOW, config(written(four), f"preload = {preload}"))
    old = killed(first)
    second = program(SLOW, config(written(four)))
    said = second.wait_for("start.waiting")
    assert (said["level"], said["address"]) == ("warning", written(four))
    assert said["holders"] == [f"web.0 (pid {old})"]
    assert 31 < said["seconds"] <= 32  # stop_timeout, and a little for who needs all of it
    status = second.status()
    assert (status["state"], status["pools"]["web"]["workers"]) == ("starting", [])
    assert not second.find("worker.started")
    (second.folder / "go").touch()
    second.ready()
    assert second.find("start.waited", address=written(four))
    assert ask(four)["worker"] == "web.0"
    second.stop()
    assert first.orphans_end()["web.0"] == 0


def test_a_port_is_free_as_soon_as_the_old_worker_has_closed_it(program: Start) -> None:
    """It may drain on for long: only the listener is waited for."""
    four = place()
    first = program(SLOW, config(written(four)))
    old = killed(first)
    second = program(SLOW, config(written(four)))
    second.wait_for("start.waiting")
    (second.folder / "close").touch()
    second.ready()
    os.kill(old, 0)
    (second.folder / "go").touch()
    second.stop()
    first.orphans_end()


def test_a_daemon_that_gives_up_says_what_was_waited_for(program: Start, tmp_path: Path) -> None:
    """With the port and who holds it, as `status` does while it waits."""
    four = place()
    first = program(SLOW, config(written(four)))
    old = killed(first)
    second = program(SLOW, config(written(four)), before=IN_THE_BACKGROUND)
    log = tmp_path / "run/state/config.log"
    second.wait_until(lambda: log.exists() and '"start.waiting"' in log.read_text())
    shown = f"waiting for {written(four)}, still held by web.0 (pid {old})"
    reason = f"{shown} of a dead master"
    assert second.status()["reason"] == reason
    assert f"\n  {shown}" in second.cli("status").stdout
    second.process.send_signal(signal.SIGTERM)  # as when its time is over, and sooner
    second.wait(1)
    assert second.noise == [f"supervisord-lite: interrupted, stopped again; its log is {log}; {reason}"]
    os.kill(old, 0)
    (tmp_path / "go").touch()
    first.orphans_end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGQUIT])
def test_a_stop_wins_over_the_wait(program: Start, number: int) -> None:
    """It is a stop like any other, with its report and its status."""
    four = place()
    first = program(SLOW, config(written(four)))
    old = killed(first)
    second = program(SLOW, config(written(four)))
    second.wait_for("start.waiting")
    second.signal(number)
    second.wait({signal.SIGTERM: 0, signal.SIGUSR2: 4, signal.SIGQUIT: 3}[number])
    assert second.report()["seconds"] < 2
    os.kill(old, 0)
    (second.folder / "go").touch()
    first.orphans_end()


def test_old_workers_that_do_not_leave_end_the_start_after_stop_timeout(
    program: Start, tmp_path: Path
) -> None:
    """With status 1, and a line that says who holds what."""
    four = place()
    (tmp_path / "deaf.py").write_text(DEAF)
    pool = f'[pools.web]\ncommand = ["{sys.executable}", "deaf.py"]\nsockets = ["http"]\nready = "notify"\n'
    text = f'[sockets.http]\nbind = "{written(four)}"\n{pool}'
    first = program("", text, master='stop_timeout = "1s"')
    old = killed(first)
    second = program("", text, master='stop_timeout = "1s"')
    second.wait(1)
    assert second.find("start.waiting", holders=[f"web.0 (pid {old})"])
    reason = second.wait_for("start.aborted")["reason"]
    assert reason.startswith(f"sockets.http: cannot bind {written(four)}: Address already in use")
    assert f"still held by web.0 (pid {old})" in reason
    assert not second.find("worker.started")
    os.kill(old, signal.SIGKILL)  # nobody else did
    assert first.orphans_end() == {"web.0": -signal.SIGKILL}


def test_a_unix_socket_that_old_workers_still_hold_is_replaced_at_once(
    program: Start, tmp_path: Path
) -> None:
    """New clients come to the new workers; who waits in the old queue is left to the old ones."""
    path = str(tmp_path / "http.sock")
    first = program(SLOW, config(f"unix:{path}"))
    old = killed(first)
    before = os.stat(path).st_ino
    second = program(SLOW, config(f"unix:{path}")).ready()
    assert not second.find("start.waiting")
    assert os.stat(path).st_ino != before
    assert ask(path)["worker"] == "web.0"
    assert any(target.startswith("socket:") for target in fds(old).values())
    (tmp_path / "go").touch()
    wait_gone(old)
    assert ask(path)["worker"] == "web.0"
    second.stop()
    first.orphans_end()


@pytest.mark.parametrize("kind", ["port", "unix"])
def test_what_a_living_master_of_the_same_name_holds_is_refused_at_once(
    program: Start, tmp_path: Path, kind: str
) -> None:
    """Its workers look like leftovers; but it holds the listener as well."""
    bind = written(place()) if kind == "port" else f"unix:{tmp_path}/http.sock"
    (tmp_path / "other").mkdir()
    first = program(SLOW, config(bind), folder=tmp_path / "other").ready()
    second = program(SLOW, config(bind))
    second.wait(1)
    assert not second.events
    assert ("Address already in use" if kind == "port" else "somebody answers") in second.noise[0]
    (tmp_path / "other" / "go").touch()
    first.stop()


def test_a_stranger_beside_an_old_worker_is_not_waited_for(program: Start) -> None:
    """Also one who took a part of what is wanted: waiting would not help."""
    _, port = four = (place()[0], 8123)
    first = program(SLOW, config(written(four)))
    killed(first)
    with socket.create_server((place()[0], port)):
        second = program(SLOW, config(f"0.0.0.0:{port}"))
        second.wait(1)
        assert not second.events
        assert "Address already in use" in second.noise[0]
    (second.folder / "go").touch()
    first.orphans_end()


def test_an_address_on_which_nobody_listens_is_waited_for(program: Start) -> None:
    """It may have become free just now; nobody is blamed for it."""
    four = place()
    with socket.socket() as bound:
        bound.bind(four)
        one = program(SLOW, config(written(four)))
        said = one.wait_for("start.waiting")
        assert said["holders"] is None
        assert said["message"].startswith(f"{written(four)} is still in use; waiting")
    one.ready()
    (one.folder / "go").touch()
    one.stop()


def test_a_reload_does_not_wait(program: Start, tmp_path: Path) -> None:
    """What a killed master's worker still holds refuses it at once, and nothing changes."""
    four = place()
    first = program(SLOW, config(written(four)))
    killed(first)
    second = program(SLOW, '[pools.web]\ntarget = "app:run"\n').ready()
    text = second.config.read_text()
    second.config.write_text(f'{text}sockets = ["http"]\n[sockets.http]\nbind = "{written(four)}"\n')
    second.signal(signal.SIGHUP)
    error = second.wait_for("reload.failed")["error"]
    assert "Address already in use" in error
    assert not second.find("start.waiting")
    (tmp_path / "go").touch()
    second.stop()
    first.orphans_end()


def test_the_service_manager_is_told_of_the_wait(program: Start, manager: Manager) -> None:
    """What is waited for, and for how long: TimeoutStartSec= does not end it."""
    four = place()
    first = program(SLOW, config(written(four)))
    killed(first)
    second = program(SLOW, config(written(four)), env={"NOTIFY_SOCKET": str(manager.path)})
    second.wait_for("start.waiting")
    told: dict[str, Any] = {}
    while not {"STATUS", "EXTEND_TIMEOUT_USEC"} <= told.keys():
        told |= manager.until()
    # The wait, a start after it, and some.
    assert 76e6 < int(told["EXTEND_TIMEOUT_USEC"]) <= 77e6
    assert told["STATUS"].startswith(f"starting: waiting for {written(four)}")
    (second.folder / "go").touch()
    manager.until(READY="1")
    second.ready().stop()
    first.orphans_end()


def test_nothing_is_signalled_and_nothing_grows(program: Start) -> None:
    """However often it is tried: an old worker is only looked at, and no descriptor is left open."""
    four = place()
    first = program(SLOW, config(written(four)))
    old = killed(first)
    second = program(SLOW, config(written(four)))
    second.wait_for("start.waiting")
    before = second.fds_and_threads()
    used = psutil.Process(second.pid).num_ctx_switches().voluntary
    second.wait_until(lambda: psutil.Process(second.pid).num_ctx_switches().voluntary > used + 3)
    assert second.fds_and_threads() == before
    os.kill(old, 0)
    (second.folder / "go").touch()
    second.ready().stop()
    assert first.orphans_end()["web.0"] == 0
    assert refuses(four)
