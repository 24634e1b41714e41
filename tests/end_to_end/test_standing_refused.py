"""What a worker is to be and cannot: it does not begin, and says why."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program
from somebody import AS_NOBODY, LATER, LOOKS, NOBODY, WWW, as_root, config, dropped, folder

Start = Callable[..., Program]
__all__ = ["folder"]
pytestmark = as_root


def refusal(one: Program) -> str:
    """Why the worker did not begin, which its error and its failure both tell."""
    failed = one.wait_for("worker.failed", worker="a.0")
    error = one.wait_for("worker.error", worker="a.0")
    assert failed["reason"] == f"exit status 1: {error['reason']}"
    assert one.status()["pools"]["a"]["workers"][0]["last_exit"]["reason"] == failed["reason"]
    return str(error["reason"])


@pytest.mark.parametrize("preload", ["false", "true"])
def test_a_folder_that_its_user_may_not_enter_ends_the_start(
    program: Start, folder: Path, preload: str
) -> None:
    """Told with the folder and the user; nothing of the application has run."""
    (folder / "closed").mkdir(mode=0o700)
    more = f'user = "www-data"\nworking_dir = "closed"\npreload = {preload}\n{LATER}'
    one = program(LOOKS, config(folder, more), folder)
    reason = one.wait_for("inner.failed")["reason"] if preload == "true" else refusal(one)
    assert f"cannot enter the working_dir {folder}/closed as uid {WWW}: Permission denied" in reason
    one.stop(0)
    assert not list((folder / "drop").iterdir())


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("limits = { nofile = 1000000000 }", "cannot set limits.nofile of pool a to 1000000000: "),
        ("nice = -5", "cannot set nice of pool a to -5: Permission denied; only root may go below"),
    ],
)
def test_what_the_kernel_denies_ends_the_start(
    program: Start, folder: Path, more: str, expected: str
) -> None:
    """A worker that would run with less or more than was asked for does not run."""
    os.chown(folder, NOBODY, NOBODY)
    one = program(LOOKS, config(folder, f"{more}\n{LATER}"), folder, before=AS_NOBODY)
    assert refusal(one).startswith(expected)
    one.stop(0)
    assert not list((folder / "drop").iterdir())


@pytest.mark.parametrize(
    ("more", "limit"),
    [
        ('user = "www-data"\nlimits = { nproc = 1 }', "nproc = 1"),
        ('limits = { as = "8MiB" }', "as = 8388608"),
    ],
)
def test_a_thread_that_is_refused_ends_the_start(program: Start, folder: Path, more: str, limit: str) -> None:
    """No worker without its attendant: told with the limit, as a failed start, and with no traceback."""
    one = program(LOOKS, config(folder, f"{more}\n{LATER}"), folder)
    reason = refusal(one)
    assert reason.startswith("cannot start a.0: can't start new thread; its limits are {")
    assert limit in reason
    assert reason.endswith("raise the one that is too low in pools.a.limits, or where the master is started")
    one.stop(0)
    assert not list((folder / "drop").iterdir())


@pytest.mark.parametrize("most", [1, 2])
def test_a_fork_that_is_refused_to_a_template_is_told_with_the_limit(
    program: Start, folder: Path, most: int
) -> None:
    """The template, a process between and the worker are three: told as without preload; nothing begins."""
    more = f'user = "www-data"\nlimits = {{ nproc = {most} }}\npreload = true\n'
    one = program(LOOKS, config(folder, more + LATER), folder)
    failed = one.wait_for("worker.failed", worker="a.0")
    assert failed["reason"] == (
        f"cannot fork: Resource temporarily unavailable; its limits are {{ nproc = {most} }}: raise the one "
        "that is too low in pools.a.limits, or where the master is started"
    )
    assert one.status()["pools"]["a"]["workers"][0]["last_exit"]["reason"] == failed["reason"]
    one.stop(0)
    assert not dropped(folder, "a.0")


def test_another_user_where_the_master_is_not_root_is_a_mistake_of_the_configuration(
    program: Start, folder: Path
) -> None:
    """Found before anything is started: exit 2, one line."""
    os.chown(folder, NOBODY, NOBODY)
    one = program(LOOKS, config(folder, 'user = "www-data"\n'), folder, before=AS_NOBODY)
    one.wait(2)
    (line,) = one.noise
    assert "pools.a.user: " in line
    assert "root" in line


def test_its_own_user_needs_no_root(program: Start, folder: Path) -> None:
    """A configuration that names the user whom the master has runs as it is."""
    os.chown(folder, NOBODY, NOBODY)
    one = program(LOOKS, config(folder, 'user = "nobody"\n'), folder, before=AS_NOBODY).ready()
    one.stop(0)
    (told,) = dropped(folder, "a.0")
    assert set(told["uids"]) == {str(NOBODY)}
    assert told["groups"] in ([], [str(NOBODY)])


@pytest.mark.long
def test_a_worker_that_became_somebody_else_is_told_of_and_given_up(program: Start, folder: Path) -> None:
    """A set-user-ID program under a master without rights: EPERM is said by name, the stop ends with 3."""
    os.chown(folder, NOBODY, NOBODY)
    changer = folder / "become"
    shutil.copy(shutil.which("setpriv") or "setpriv", changer)
    changer.chmod(0o4755)
    command = ["./become", "--reuid=33", "--regid=33", "--clear-groups", "sleep", "1000"]
    text = f'[pools.a]\ncommand = {json.dumps(command)}\nstop_timeout = "1s"\n'
    one = program("", text, folder, before=AS_NOBODY, master='stop_timeout = "1s"').ready()
    pid = one.worker("a.0")
    one.wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    one.signal(signal.SIGTERM)
    one.wait_for("signal.denied", worker="a.0", pid=pid)
    one.wait(3)
    assert one.find("stop.stuck", workers=["a.0"])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
