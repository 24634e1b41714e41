"""The command with a real master and real workers behind it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import TIMEOUT, environment, run

from supervisor.control.client import Client, ControlError, NoMasterError

pytestmark = pytest.mark.long

APPS = {
    "good": "def run(worker):\n    while not worker.wait(60): pass\n",
    "broken": "raise RuntimeError('no database')\n",
    "stubborn": "import time\ndef run(worker):\n    with worker.job():\n        time.sleep(600)\n",
}


def configured(folder: Path, app: str, more: str = "") -> None:
    (folder / "app.py").write_text(APPS[app])
    (folder / "config.toml").write_text(
        f'[master]\nname = "shop"\nsocket = "{folder}/s"\nstate_dir = "{folder}/state"\nstop_timeout = "1s"\n'
        f'[pools.web]\ntarget = "app:run"\nworkers = 2\nstart_timeout = "1s"\n{more}'
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose master, if any, does not outlive the test."""
    yield tmp_path
    with (
        contextlib.suppress(NoMasterError, ControlError, EOFError),
        Client(str(tmp_path / "s")).events() as events,
    ):
        Client(str(tmp_path / "s")).call("stop", force=True)
        while events.next(TIMEOUT):
            pass


def status(folder: Path) -> dict[str, Any]:
    return dict(json.loads(run("status", "--json", cwd=folder).stdout))


def gone(pid: int) -> bool:
    """Whether a process has ended; who reaps a daemon is not for us to say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_daemon_is_ready_when_start_returns_and_gone_when_stop_does(folder: Path) -> None:
    configured(folder, "good")
    started = run("start", "--daemon", cwd=folder)
    assert (started.returncode, started.stderr) == (0, "")
    found = status(folder)
    assert (found["state"], found["pools"]["web"]["ready"]) == ("running", 2)
    assert os.getsid(found["pid"]) == found["pid"], "it has a session of its own"
    assert f"pid {found['pid']}" in started.stdout
    assert (folder / "state" / "shop.log").read_text().count('"master.ready"') == 1
    stopped = run("stop", cwd=folder)
    assert stopped.returncode == 0
    assert gone(found["pid"])
    assert not (folder / "s").exists()
    assert run("status", cwd=folder).returncode == 3


def test_a_second_daemon_is_refused_with_100_and_the_first_goes_on(folder: Path) -> None:
    configured(folder, "good")
    assert run("start", "--daemon", cwd=folder).returncode == 0
    before = status(folder)["pid"]
    second = run("start", "--daemon", cwd=folder)
    assert second.returncode == 100
    assert "not disturbed" in second.stderr
    assert status(folder)["pid"] == before


def test_a_daemon_that_does_not_get_ready_is_stopped_and_says_who_was_not(folder: Path) -> None:
    configured(folder, "broken")
    started = run("start", "--daemon", cwd=folder)
    assert started.returncode == 1
    assert "not ready within 6 s" in started.stderr
    assert "web (0 of 2)" in started.stderr
    assert run("status", cwd=folder).returncode == 3


def test_a_daemon_that_cannot_start_says_why_in_its_own_words(folder: Path) -> None:
    configured(folder, "good")
    (folder / "s").write_text("no socket")
    started = run("start", "--daemon", cwd=folder)
    assert started.returncode == 1
    assert "not a socket" in started.stderr
    assert (folder / "s").read_text() == "no socket"
    (folder / "s").unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_daemon_whose_start_is_interrupted_is_stopped(folder: Path, number: int) -> None:
    configured(folder, "broken", 'backoff = { initial = "1s" }')
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "start", "--daemon"],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        wait_for_a_master(folder)
        process.send_signal(number)
        _, told = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "interrupted" in told
    assert run("status", cwd=folder).returncode == 3


def wait_for_a_master(folder: Path) -> None:
    pause = threading.Event()
    while True:
        with contextlib.suppress(NoMasterError):
            Client(str(folder / "s")).call("ping")
            return
        pause.wait(0.01)


def test_scale_quiet_and_unquiet_are_done_when_they_return(folder: Path) -> None:
    configured(folder, "good")
    run("start", "--daemon", cwd=folder)
    for count in (5, 1):
        assert run("scale", "web", str(count), cwd=folder).returncode == 0
        workers = status(folder)["pools"]["web"]["workers"]
        assert [w["state"] for w in workers] == ["ready"] * count
    assert run("quiet", cwd=folder).returncode == 0
    assert [w["state"] for w in status(folder)["pools"]["web"]["workers"]] == ["quiet"]
    assert run("unquiet", cwd=folder).returncode == 0
    assert [w["state"] for w in status(folder)["pools"]["web"]["workers"]] == ["ready"]
    wrong = run("scale", "wbe", "2", cwd=folder)
    assert wrong.returncode == 1
    assert "there are: web" in wrong.stderr


def test_a_stop_that_cuts_work_is_1_and_shows_where_it_was_blocked(folder: Path) -> None:
    configured(folder, "stubborn")
    run("start", "--daemon", cwd=folder)
    stopped = run("stop", cwd=folder)
    assert stopped.returncode == 1
    assert "web.0" in stopped.stderr
    assert "1 in flight" in stopped.stderr
    assert "app.py" in stopped.stderr, "the stack of who had to be killed"


def test_a_forced_stop_does_not_wait_for_work(folder: Path) -> None:
    configured(folder, "stubborn")
    run("start", "--daemon", cwd=folder)
    assert run("stop", "--force", cwd=folder).returncode == 0


def test_restart_comes_back_as_another_process_where_somebody_starts_it_again(folder: Path) -> None:
    configured(folder, "good")
    loop = 'while "$0" -m supervisor start; [ $? = 4 ]; do :; done'
    with subprocess.Popen(["sh", "-c", loop, sys.executable], cwd=folder, env=environment()) as outer:
        wait_for_a_master(folder)
        before = status(folder)["pid"]
        restarted = run("restart", cwd=folder)
        assert restarted.returncode == 0, restarted.stderr
        after = status(folder)
        assert after["pid"] != before
        assert after["state"] == "running"
        assert run("stop", cwd=folder).returncode == 0
        assert outer.wait(TIMEOUT) == 0
