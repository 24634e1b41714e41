"""The command as a person types it: what it prints, and the status it leaves with."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from supervisor.control import protocol
from supervisor.control.server import Server
from supervisor.unix.loop import Loop

TIMEOUT = 60  # a safety net

COMMANDS = (
    "start",
    "check",
    "init",
    "status",
    "stop",
    "restart",
    "reload",
    "quiet",
    "unquiet",
    "scale",
    "events",
)
ASKING = ("status", "stop", "restart", "reload", "quiet", "unquiet", "events")


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SUPERVISORD_LITE")}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80", **more}


def run(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; no way of failing prints a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "supervisor", *arguments],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    return text


# Without a master.


def test_the_version_is_told(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("supervisord-lite ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_in_80_columns(tmp_path: Path, command: str) -> None:
    done = run(command, "-h", cwd=tmp_path)
    assert done.returncode == 0
    assert f"Example: supervisord-lite {command}" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_no_command_shows_the_help_and_is_bad_usage(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.returncode == 2
    assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["stats"], "'status'"),
        (["status", "--jsn"], "'--json'"),
        (["scale", "web"], "WORKERS"),
        (["scale", "web", "many"], "many"),
        (["scale", "web", "10001"], "10000"),
        (["stop", "now"], "now"),
        (["completion", "csh"], "bash"),
        (["-x"], "-x"),
    ],
)
def test_bad_usage_is_one_line_that_helps_and_status_2(
    tmp_path: Path, arguments: list[str], hint: str
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert hint in one_line(done.stderr)
    assert "--help" in done.stderr


@pytest.mark.parametrize("command", ASKING)
def test_without_a_master_a_command_says_how_to_start_one_and_exits_3(tmp_path: Path, command: str) -> None:
    done = run(command, "--socket", str(tmp_path / "none.sock"), cwd=tmp_path)
    assert done.returncode == 3
    assert "supervisord-lite start" in one_line(done.stderr)


def test_the_socket_comes_from_the_configuration(tmp_path: Path) -> None:
    socket = tmp_path / "shop.sock"
    (tmp_path / "c.toml").write_text(f'[master]\nsocket = "{socket}"\n[pools.a]\ntarget = "app:run"\n')
    done = run("status", cwd=tmp_path, SUPERVISORD_LITE_CONFIG="c.toml")
    assert done.returncode == 3
    assert str(socket) in done.stderr


def test_a_configuration_that_is_missing_is_status_2_and_says_how_to_do_without(tmp_path: Path) -> None:
    done = run("stop", "-c", "nowhere.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("nowhere.toml: ")
    assert "--socket" in done.stderr


def test_every_mistake_is_reported_by_every_command_that_reads_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[pools.web]\ntarget = "app:run"\nwokers = 3\n[pools.b]\n')
    for command in ("check", "start", "status"):
        done = run(command, cwd=tmp_path)
        assert done.returncode == 2
        assert "config.toml: pools.web.wokers: " in done.stderr
        assert "config.toml: pools.b" in done.stderr


def test_check_is_content_with_a_good_configuration_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def run(worker): ...\n")
    (tmp_path / "config.toml").write_text(
        f'[master]\nsocket = "{tmp_path}/s"\n[pools.a]\ntarget = "app:run"\n'
    )
    done = run("check", cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")
    assert (done.returncode, done.stdout) == (0, "config.toml: good: 1 pool, 1 worker\n")
    assert sorted(os.listdir(tmp_path)) == ["app.py", "config.toml"]


def test_check_finds_a_target_that_does_not_import(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[pools.a]\ntarget = "app:run"\n')
    done = run("check", cwd=tmp_path)
    assert done.returncode == 2
    assert "config.toml: pools.a.target: " in done.stderr


def test_init_writes_a_configuration_that_check_accepts_but_for_its_target(tmp_path: Path) -> None:
    assert run("init", cwd=tmp_path).returncode == 0
    (tmp_path / "app.py").write_text("def run(worker): ...\n")
    assert run("check", cwd=tmp_path).returncode == 0


def test_init_never_writes_over_a_file_or_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("precious")
    (tmp_path / "link.toml").symlink_to(tmp_path / "elsewhere.toml")
    for name in ("mine.toml", "link.toml"):
        done = run("init", name, cwd=tmp_path)
        assert done.returncode == 1
        assert "not touched" in one_line(done.stderr)
    assert (tmp_path / "mine.toml").read_text() == "precious"
    assert not (tmp_path / "elsewhere.toml").exists()


def test_bash_completes_commands(tmp_path: Path) -> None:
    script = run("completion", "bash", cwd=tmp_path)
    assert script.returncode == 0
    (tmp_path / "supervisord-lite").write_text(f'#!/bin/sh\nexec {sys.executable} -m supervisor "$@"\n')
    (tmp_path / "supervisord-lite").chmod(0o755)
    ask = "COMP_WORDS=(supervisord-lite sta); COMP_CWORD=1; _supervisord_lite_completion supervisord-lite;"
    done = subprocess.run(
        ["bash", "-c", f'{script.stdout}\n{ask} echo "${{COMPREPLY[@]}}"'],
        env=environment(PATH=f"{tmp_path}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert done.stdout.split() == ["start", "status"]


def test_a_reader_that_goes_away_is_not_talked_about(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m supervisor completion bash | true",
        shell=True,
        executable="/bin/bash",
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stderr == ""


# With a master that does as it is told: the real server in a loop, and no workers behind it.


LISTENER = """
import socket, sys
from supervisor.unix.control_socket import listen
here = socket.socket(fileno=0)
control = listen(sys.argv[1])
socket.send_fds(here, [b"."], [control.socket.fileno()])
here.recv(1)
"""


class Stage:
    """A master in name only: ``script`` says what a request brings about.

    The socket is made by a process of its own, so that the kernel names its
    pid to clients, and that process ends when the master is to have left.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.status = status_of_a_shop()
        self.script: dict[str, Callable[[], None]] = {}
        self.asked: list[str] = []
        self.params: dict[str, protocol.Params] = {}
        self.events: list[dict[str, object]] = []
        self.loop = Loop()
        self._hold, there = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LISTENER, path], stdin=there, env=environment()
        )
        there.close()
        _, fds, _, _ = socket.recv_fds(self._hold, 1, 1)
        self.server = Server(self.loop, socket.socket(fileno=fds[0]), self.answer)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._turn)
        self._thread.start()

    def answer(self, method: str, params: protocol.Params) -> object:
        self.asked.append(method)
        self.params[method] = params
        self.script.get(method, lambda: None)()
        return self.status if method == "status" else True

    def _turn(self) -> None:
        while not self._over.is_set():
            for seen in self.loop.poll(self.loop.now() + 0.02):
                self.server.seen(seen, self.loop.now())
            while self.events:
                self.server.publish(self.events.pop(0))
        os.unlink(self.path)
        self.server.finish()
        self._hold.close()
        self.process.wait()

    def leave(self, *events: dict[str, object]) -> None:
        """After these events, be gone."""
        self.events += [{"event": "stop.phase", "message": "phase terminate"}, *events]
        self._over.set()

    def finished(self) -> None:
        self._over.set()
        self._thread.join()

    def close(self) -> None:
        self.finished()
        self.loop.close()


def status_of_a_shop() -> dict[str, Any]:
    return {
        "name": "shop",
        "pid": 1,
        "version": "1",
        "state": "running",
        "generation": 1,
        "uptime": 192.0,
        "stop_deadline": None,
        "pools": {"web": pool("ready", 2, [worker("web.0", "ready"), worker("web.1", "ready")])},
    }


def pool(state: str, desired: int, workers: list[dict[str, Any]]) -> dict[str, Any]:
    ready = sum(w["state"] == "ready" for w in workers)
    return {
        "state": state,
        "desired": desired,
        "ready": ready,
        "generation": 1,
        "restarts": 0,
        "workers": workers,
    }


def worker(name: str, state: str, **more: object) -> dict[str, Any]:
    return {
        "id": name,
        "slot": int(name.split(".")[1]),
        "pid": 4711,
        "state": state,
        "generation": 1,
        "uptime": 192.4,
        "restarts": 0,
        "status": None,
        "jobs": 1234,
        "in_flight": 2,
        "memory": 24 << 20,
        "cpu": 3.4,
        "last_exit": None,
        **more,
    }


def report(status: int, *killed: str) -> dict[str, object]:
    workers = [
        {
            "worker": k,
            "pid": 7,
            "acknowledged_after": None,
            "gone_after": 30.0,
            "killed": True,
            "in_flight": 3,
        }
        for k in killed
    ]
    return {"event": "stop.report", "message": "", "status": status, "seconds": 30.0, "workers": workers}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(str(tmp_path / "stage.sock"))
    yield found
    found.close()


def on(stage: Stage, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, "--socket", stage.path, cwd=Path(stage.path).parent, **more)


def test_status_fits_80_columns_without_colour_and_cannot_steer_the_terminal(stage: Stage) -> None:
    stage.status["pools"]["web"]["workers"][0]["status"] = "\x1b[2Jevil\nline " + "x" * 200
    failed = {
        "code": None,
        "signal": "SIGKILL",
        "reason": "SIGKILL, not sent by supervisord-lite",
        "at": None,
    }
    gone = worker("web.2", "backoff", pid=None, restarts=3, last_exit=failed, retry_in=2.0)
    stage.status["pools"]["web"]["workers"].append(gone)
    done = on(stage, "status")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    for words in (
        "shop: running",
        "up 3m12s",
        "2 of 2 ready",
        "24 MiB",
        "2 in flight",
        "again in 2.0s",
        "not sent by",
    ):
        assert words in done.stdout


def test_status_as_json_is_the_object_as_it_is(stage: Stage) -> None:
    assert json.loads(on(stage, "status", "--json").stdout) == stage.status


def test_stop_follows_to_the_report_and_is_0_if_all_work_was_finished(stage: Stage) -> None:
    stage.script["stop"] = lambda: stage.leave(report(0), {"event": "master.exiting"})
    done = on(stage, "stop")
    assert done.returncode == 0
    assert "all work finished" in done.stdout
    assert "phase terminate" in done.stderr
    assert stage.params["stop"] == {"force": False}


def test_stop_is_1_and_names_who_was_killed_if_work_was_cut(stage: Stage) -> None:
    stage.script["stop"] = lambda: stage.leave(report(3, "web.1"), {"event": "master.exiting"})
    done = on(stage, "stop")
    assert done.returncode == 1
    assert "web.1 (pid 7) killed after 30s, never acknowledged, 3 in flight" in done.stderr


def test_a_forced_stop_is_0_though_work_was_cut(stage: Stage) -> None:
    stage.script["stop"] = lambda: stage.leave(report(3, "web.1"), {"event": "master.exiting"})
    done = on(stage, "stop", "--force")
    assert done.returncode == 0
    assert "web.1" in done.stdout
    assert stage.params["stop"] == {"force": True}


def test_a_stream_that_breaks_without_a_report_is_1(stage: Stage) -> None:
    stage.script["stop"] = stage.leave
    done = on(stage, "stop")
    assert done.returncode == 1
    assert "without a report" in done.stderr


@pytest.mark.parametrize("command", ["stop", "restart", "quiet", "unquiet"])
def test_no_wait_only_asks(stage: Stage, command: str) -> None:
    assert on(stage, command, "--no-wait").returncode == 0
    assert stage.asked == [command]


def test_restart_waits_for_the_next_master(stage: Stage) -> None:
    following: list[Stage] = []

    def leave() -> None:
        stage.leave(report(4), {"event": "master.exiting"})
        threading.Thread(target=start_again).start()

    def start_again() -> None:
        stage.finished()
        following.append(Stage(stage.path))
        following[0].status |= {"pid": 2, "state": "starting"}
        following[0].script["status"] = ready

    def ready() -> None:
        if following[0].asked.count("status") == 2:
            following[0].status["state"] = "running"

    stage.script["restart"] = leave
    done = on(stage, "restart")
    following[0].close()
    assert done.returncode == 0
    assert "now pid 2" in done.stdout


def test_a_restart_that_became_a_stop_is_1(stage: Stage) -> None:
    stage.script["restart"] = lambda: stage.leave(report(0), {"event": "master.exiting"})
    done = on(stage, "restart")
    assert done.returncode == 1
    assert "stopped instead" in done.stderr


def test_reload_is_not_built_yet_and_says_so(stage: Stage) -> None:
    done = on(stage, "reload")
    assert done.returncode == 1
    assert "not built yet in this version" in one_line(done.stderr)


def test_quiet_waits_until_every_worker_is(stage: Stage) -> None:
    workers = stage.status["pools"]["web"]["workers"]

    def begin() -> None:
        stage.status["state"] = "quiet"
        stage.script["status"] = one_more

    def one_more() -> None:
        if stage.asked.count("status") > 1:
            workers[stage.asked.count("status") - 2]["state"] = "quiet"
        if stage.asked.count("status") == 3:
            del stage.script["status"]

    stage.script["quiet"] = begin
    done = on(stage, "quiet")
    assert done.returncode == 0
    assert stage.asked == ["quiet", "status", "status", "status"]


def test_scale_waits_for_exactly_so_many_ready_workers(stage: Stage) -> None:
    def scaled() -> None:
        stage.status["pools"]["web"] = pool("ready", 3, [worker(f"web.{n}", "ready") for n in range(3)])

    stage.script["scale"] = scaled
    done = on(stage, "scale", "web", "3")
    assert (done.returncode, done.stdout) == (0, "web: 3 ready\n")


def test_scale_of_a_parked_pool_is_1(stage: Stage) -> None:
    stage.status["pools"]["web"]["state"] = "parked"
    done = on(stage, "scale", "web", "3")
    assert done.returncode == 1
    assert "parked" in one_line(done.stderr)


def test_a_wait_ends_when_the_master_leaves_meanwhile(stage: Stage) -> None:
    stage.script["scale"] = lambda: stage.leave(report(0))
    done = on(stage, "scale", "web", "5")
    assert done.returncode in {1, 3}
    assert one_line(done.stderr)


def test_events_end_with_the_master_and_are_the_objects_as_they_are(stage: Stage) -> None:
    with following(stage, "events", "--json") as process:
        event = {"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "a", "message": "caf\u00e9"}
        streaming(stage)
        stage.events.append(dict(event))
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == event
        stage.events.append({"event": "master.exiting", "message": "bye"})
        assert json.loads(process.stdout.readline())["event"] == "master.exiting"
        stage.close()
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("arguments", [["events"], ["status", "--watch"], ["status", "--watch", "--json"]])
def test_ctrl_c_ends_what_has_no_end_with_0_and_without_a_word(stage: Stage, arguments: list[str]) -> None:
    with following(stage, *arguments) as process:
        streaming(stage)
        stage.events.append(
            {"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "a", "message": "hello"}
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@contextlib.contextmanager
def following(stage: Stage, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", *arguments, "--socket", stage.path],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def streaming(stage: Stage) -> None:
    """Wait until somebody follows the events."""
    arrived = threading.Event()
    while not any(client.streaming for client in list(stage.server._clients.values())):
        arrived.wait(0.005)


def on_a_terminal(stage: Stage, *arguments: str, **more: str) -> tuple[int, str]:
    """Run the command on a terminal of 80 columns; its status and all it drew."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", *arguments, "--socket", stage.path],
        env=environment(TERM="xterm", **more),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    drawn = b""
    with contextlib.suppress(OSError):  # EIO: the last one has closed it
        while chunk := os.read(master, 65536):
            drawn += chunk
    os.close(master)
    return process.wait(TIMEOUT), drawn.decode()


def test_status_has_colours_on_a_terminal_but_not_against_NO_COLOR(stage: Stage) -> None:
    assert "\x1b[32m" in on_a_terminal(stage, "status")[1]
    assert "\x1b" not in on_a_terminal(stage, "status", NO_COLOR="1")[1]


def test_stop_shows_on_a_terminal_who_is_left_and_the_time_that_is(stage: Stage) -> None:
    soon = datetime.now(timezone.utc) + timedelta(seconds=25)

    def begin() -> None:
        stage.status |= {"state": "stopping", "stop_deadline": soon.isoformat()}
        stage.script["status"] = leave

    def leave() -> None:
        if stage.asked.count("status") == 3:
            stage.leave(report(0), {"event": "master.exiting"})

    stage.script["stop"] = begin
    status, drawn = on_a_terminal(stage, "stop")
    assert status == 0
    assert "2 workers left (web.0 with 2 in flight" in drawn
    assert "until SIGKILL" in drawn
    assert drawn.rstrip().endswith("all work finished")
