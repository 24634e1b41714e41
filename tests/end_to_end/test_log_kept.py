"""The log is the master's: workers speak in it and cannot reach it; nor can who may write to its folder."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from printed import QUICK, lines
from program import Program
from reloading import WAITS, configure, pool
from somebody import as_root, folder

Start = Callable[..., Program]
__all__ = ["folder"]

# Empties whatever it can: nothing may be left of a file that it holds or may open.
EMPTIES = """
    import os, sys
    print("imported", flush=True)
    def run(worker):
        print("printed", flush=True)
        print("complained", file=sys.stderr, flush=True)
        for fd in range(100):
            for anew in (False, True):
                try:
                    os.ftruncate(os.open(f"/proc/self/fd/{fd}", os.O_RDWR) if anew else fd, 0)
                except OSError:
                    continue
        worker.status("tried")
        worker.ready()
        worker.wait()
"""


def logged(path: Path) -> list[dict[str, Any]]:
    """The events in a file, which has nothing else but what workers print."""
    found = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in found if line.startswith("{")]


# Another user


@as_root
@pytest.mark.parametrize("preload", ["false", "true"])
def test_a_worker_of_another_user_cannot_empty_the_log(program: Start, folder: Path, preload: str) -> None:
    """Where the master's stdout and stderr are the log file, as in a daemon, it has pipes instead."""
    log = folder / "m.log"
    os.close(os.open(log, os.O_CREAT, 0o640))
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    more = f'ready = "notify"\npreload = {preload}\n'
    config = f'[pools.a]\ntarget = "app:run"\nuser = "www-data"\n{more}'
    one = program(EMPTIES, config, folder, master='log_file = "m.log"', output=out)
    os.close(out)
    one.wait_until(lambda: any(e["event"] == "master.ready" for e in logged(log)))
    for process in os.listdir("/proc"):
        if process.isdigit() and _user(int(process)) == 33:
            links = _links(int(process))
            assert str(log) not in links.values(), (process, links)
    one.wait_until(lambda: {"imported", "printed", "complained"} <= set(lines(one, "m.log")))
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)
    names = [event["event"] for event in logged(log)]
    assert (names[0], names[-1]) == ("master.started", "master.exiting")


def _user(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(re.findall(r"^Uid:\t(\d+)", status, re.MULTILINE)[0])


def _links(pid: int) -> dict[str, str]:
    try:
        return {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    except OSError:
        return {}


@as_root
def test_a_daemons_worker_of_another_user_has_not_its_log(folder: Path) -> None:
    """What it prints is in the log all the same."""
    head = '[master]\nname = "shop"\nsocket = "s"\nstate_dir = "state"\nlog_format = "json"\n'
    (folder / "app.py").write_text(EMPTIES.replace("\n    ", "\n"))
    pool = '[pools.a]\ntarget = "app:run"\nuser = "www-data"\nready = "notify"\n'
    (folder / "config.toml").write_text(head + pool)
    for name in (".", "app.py", "config.toml"):
        os.chmod(folder / name, stat.S_IMODE((folder / name).stat().st_mode) | 0o055)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "supervisor", *arguments, "-c", "config.toml"]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)

    started = run("start", "--daemon")
    assert started.returncode == 0, started.stderr
    try:
        assert run("stop").returncode == 0
    finally:
        run("stop", "--force")
    found = (folder / "state/shop.log").read_text().splitlines()
    assert {"imported", "complained"} - set(found) <= {"imported"}, "stdout of a daemon goes nowhere"
    assert json.loads(found[0])["event"] == "master.started"


@as_root
def test_what_another_user_says_after_usr1_is_in_the_new_log(program: Start, folder: Path) -> None:
    """The master writes it, so it goes where the log goes now."""
    app = """
        import os
        def run(worker):
            while not os.path.exists("go"):
                worker.wait(0.01)
            raise ValueError("broken")
    """
    config = f'[pools.a]\ntarget = "app:run"\nuser = "www-data"\nstderr = "err.log"\n{QUICK}'
    one = program(app, config, folder, master='log_file = "m.log"')
    log = folder / "m.log"
    one.wait_until(lambda: any(e["event"] == "master.ready" for e in logged(log)))
    log.rename(folder / "moved.log")
    one.process.send_signal(signal.SIGUSR1)
    one.wait_until(log.exists)
    (folder / "go").touch()
    one.wait_until(lambda: any(e["event"] == "worker.error" for e in logged(log)))
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)
    assert not any(e["event"] == "worker.error" for e in logged(folder / "moved.log"))


# Anybody


def test_a_worker_can_say_only_what_is_its_own_to_say(program: Start) -> None:
    """No event of the master's, nobody else's name, no line that is none."""
    app = r"""
        import json, os, socket
        def run(worker):
            way = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            way.connect(os.environ["NOTIFY_SOCKET"])
            def say(text):
                way.send(b"X_LOG=" + text.encode())
            for text in ("", "{", "[" * 30_000, "7", '{"event": []}', '{"event": "worker.error"}'):
                say(text)
            forged = {"level": "error", "worker": "b.9", "pid": 1, "pool": "b", "message": "forged"}
            say(json.dumps({"event": "master.exiting", "status": 0, **forged}))
            say(json.dumps({"event": "hook.failed", "hook": {}, "traceback": 7, **forged}))
            say(json.dumps({"event": "worker.error", "reason": "mine\n{\"event\": \"x\"}\x1b[31m", **forged}))
            worker.wait()
    """
    one = program(app, '[pools.a]\ntarget = "app:run"\n').ready()
    error = one.wait_for("worker.error", level="error", reason='mine\n{"event": "x"}\x1b[31m')
    assert (error["worker"], error["pool"], error["pid"]) == ("a.0", "a", one.worker("a.0"))
    assert error["message"] == 'a.0: mine\n{"event": "x"}\x1b[31m'
    failed = one.wait_for("hook.failed")
    assert "hook" not in failed
    assert "traceback" not in failed
    assert not one.noise
    assert not one.find("master.exiting")
    one.stop(0)


def test_a_worker_that_floods_the_log_is_cut_short_and_told(program: Start) -> None:
    """The master answers meanwhile; others are heard; how much was left out is said."""
    app = """
        import json, os, socket
        def run(worker):
            way = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            way.connect(os.environ["NOTIFY_SOCKET"])
            for n in range(5000):
                said = {"event": "worker.error", "level": "error", "reason": f"{n} " + "x" * 100}
                way.send(b"X_LOG=" + json.dumps(said).encode())
            worker.status("said")
            worker.wait()
        def other(worker):
            worker.ready()
            worker.wait()
            raise ValueError("heard")
    """
    config = '[pools.a]\ntarget = "app:run"\n[pools.b]\ntarget = "app:other"\nready = "notify"\n'
    one = program(app, config).ready()
    one.tracebacks_expected = True
    one.wait_until(lambda: one.status()["pools"]["a"]["workers"][0]["status"] == "said")
    os.kill(one.worker("b.0"), signal.SIGTERM)
    one.wait_for("worker.error", worker="b.0")
    one.stop(0)
    said = [e for e in one.events if e["event"] == "worker.error" and e["worker"] == "a.0"]
    assert 64 <= len(said) < 200
    left_out = sum(e["count"] for e in one.events if e["event"] == "worker.flooded")
    assert len(said) + left_out == 5000


def test_a_traceback_of_any_length_comes_with_its_bounds(program: Start) -> None:
    """A megabyte is cut as every field of the log is; what it says first is there."""
    app = """
        def run(worker):
            raise ValueError("é\\n\\x1b" * 300_000)
    """
    one = program(app, f'[pools.a]\ntarget = "app:run"\nstderr = "null"\n{QUICK}')
    one.tracebacks_expected = True
    error = one.wait_for("worker.error")
    assert error["traceback"].startswith("Traceback")
    assert 8_000 < len(error["traceback"].encode()) <= 32 * 1024
    one.stop(0)


def test_what_a_worker_says_without_a_master_is_on_its_stderr(program: Start) -> None:
    """Nobody else is left to say it to."""
    app = """
        def run(worker):
            worker.ready()
            worker.wait()
            raise ValueError("broken")
    """
    one = program(app, '[pools.a]\ntarget = "app:run"\nready = "notify"\nstderr = "err.log"\n').ready()
    one.wait_for("inner.ready", worker="@output.0")
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)
    one.orphans_end()
    one.tracebacks_expected = True
    [error] = logged(one.folder / "err.log")
    assert (error["event"], error["worker"]) == ("worker.error", "a.0")
    assert "ValueError: broken" in error["traceback"]


# A symlink in the place of the log


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A folder that others may write to, with a symlink in it: where that leads."""
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    (tmp_path / "logs").mkdir()
    os.chmod(tmp_path / "logs", 0o1777)
    (tmp_path / "logs/m.log").symlink_to(victim)
    return victim


def test_a_symlink_that_somebody_may_have_planted_is_not_followed(program: Start, planted: Path) -> None:
    """One line and exit 1; what it leads to is as it was."""
    one = program(WAITS, pool("a", 1), master='log_file = "logs/m.log"')
    one.wait(1)
    [line] = one.noise
    assert "logs/m.log: it is a symlink, and others may write to" in line
    assert planted.read_text() == "precious\n"


def test_nor_by_a_reload(program: Start, planted: Path) -> None:
    one = program(WAITS, pool("a", 1)).ready()
    configure(one, ('log_level = "debug"', 'log_level = "debug"\nlog_file = "logs/m.log"'))
    one.signal(signal.SIGHUP)
    assert "it is a symlink" in one.wait_for("reload.failed")["error"]
    one.stop(0)
    assert planted.read_text() == "precious\n"


def test_nor_when_it_is_opened_anew(program: Start, planted: Path) -> None:
    """The old file is written on, and has the reason."""
    link, log = planted.parent / "logs/m.log", planted.parent / "logs/old.log"
    link.unlink()
    one = program(WAITS, pool("a", 1), master='log_file = "logs/m.log"')
    one.wait_until(lambda: any(e["event"] == "master.ready" for e in logged(link)))
    link.rename(log)
    link.symlink_to(planted)
    one.process.send_signal(signal.SIGUSR1)
    one.wait_until(lambda: any(e["event"] == "log.failed" for e in logged(log)))
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)
    assert planted.read_text() == "precious\n"
    assert logged(log)[-1]["event"] == "master.exiting"


def test_nor_by_a_daemon(planted: Path) -> None:
    folder = planted.parent
    (folder / "app.py").write_text("def run(worker):\n    worker.wait()\n")
    head = '[master]\nsocket = "s"\nstate_dir = "state"\nlog_file = "logs/m.log"\n'
    (folder / "config.toml").write_text(head + '[pools.a]\ntarget = "app:run"\n')
    command = [sys.executable, "-m", "supervisor", "start", "--daemon"]
    started = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert started.returncode == 1
    assert "it is a symlink" in started.stderr
    assert planted.read_text() == "precious\n"


def test_an_administrators_symlink_to_the_log_is_followed(program: Start, tmp_path: Path) -> None:
    """Where nobody else may write."""
    (tmp_path / "data").mkdir()
    (tmp_path / "m.log").symlink_to("data/real.log")
    one = program(WAITS, pool("a", 1), master='log_file = "m.log"')
    one.wait_until(lambda: any(e["event"] == "master.ready" for e in logged(tmp_path / "data/real.log")))
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)
