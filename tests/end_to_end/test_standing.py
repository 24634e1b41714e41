"""Who workers are and what they may do: as the kernel tells it of real ones."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from program import Program
from somebody import LATER, LOOKS, WITH_MORE_GROUPS, WWW, as_root, config, dropped, folder

Start = Callable[..., Program]
__all__ = ["folder"]
pytestmark = as_root


# -- who they are --------------------------------------------------------------------


@pytest.mark.parametrize("preload", ["false", "true"])
def test_a_worker_is_its_user_from_the_first_line_of_the_application_on(
    program: Start, folder: Path, preload: str
) -> None:
    """Exactly its ids and groups, no capability, no way back, no new privileges; its login's variables."""
    more = f'user = "www-data"\nworkers = 2\npreload = {preload}\n'
    one = program(LOOKS, config(folder, more), folder, before=WITH_MORE_GROUPS).ready()
    one.stop(0)
    seen = [*dropped(folder, "import"), *dropped(folder, "a.0"), *dropped(folder, "a.1")]
    assert len(seen) == (3 if preload == "true" else 4)
    for told in seen:
        assert set(told["uids"]) == set(told["gids"]) == {str(WWW)}
        assert told["groups"] == [str(WWW)]
        assert told["capabilities"] == ["0000000000000000"]
        assert told["no_new_privs"] == ["1"]
        variables = ("HOME", "USER", "LOGNAME", "SHELL")
        assert [told["environ"][v] for v in variables] == [
            "/var/www",
            "www-data",
            "www-data",
            "/usr/sbin/nologin",
        ]
    assert all(told["back"] == "denied" for told in seen if "back" in told)


@pytest.mark.parametrize("preload", ["false", "true"])
def test_what_a_pool_may_do(program: Start, folder: Path, preload: str) -> None:
    """Limits, nice, umask, folder and environment are there before the application is; env wins."""
    (folder / "elsewhere").mkdir()
    (folder / "worker.env").write_text("A=of the file\n# a comment\nB='of the file'\n")
    more = f"""
        env_file = "worker.env"
        preload = {preload}
        working_dir = "elsewhere"
        umask = "0027"
        nice = 5
        limits = {{ nofile = 321, core = 0, as = "4GiB" }}
    """
    text = config(folder, more).replace("env = {", 'env = { B = "of the table",')
    one = program(LOOKS, text, folder).ready()
    one.stop(0)
    for (told,) in (dropped(folder, "import"), dropped(folder, "a.0")):
        assert told["umask"] == ["0027"]
        assert told["nice"] == 5
        assert told["folder"] == str(folder / "elsewhere")
        assert told["nofile"] == [321, 321]
        assert told["core"] == [0, 0]
        assert told["as"] == [4 << 30, 4 << 30]
        assert told["environ"]["A"] == "of the file"
        assert told["environ"]["B"] == "of the table"
        assert set(told["uids"]) == {"0"}
        assert told["no_new_privs"] == ["0"]


def test_a_group_alone_and_a_user_by_number(program: Start, folder: Path) -> None:
    """The one keeps the uid, the other needs no account."""
    text = config(folder, 'group = "www-data"\n') + config(folder, "user = 4321\ngroup = 4322\n").replace(
        "pools.a", "pools.b"
    )
    one = program(LOOKS, text.replace("= 4322", '= "4322"'), folder)  # as a number, and as a text
    one.ready().stop(0)
    (a,) = dropped(folder, "a.0")
    assert (set(a["uids"]), set(a["gids"]), a["groups"]) == ({"0"}, {str(WWW)}, [str(WWW)])
    (b,) = dropped(folder, "b.0")
    assert (set(b["uids"]), set(b["gids"]), b["groups"]) == ({"4321"}, {"4322"}, ["4322"])
    assert b["back"] == "denied"


# -- what they hold ------------------------------------------------------------------

WAITS = """
    def run(worker):
        worker.wait()
"""
ALWAYS = ["eventfd", "pidfd", "pipe", "pipe", "socket", "stacks"]  # the socket is the one to the master
HELD = {  # stdout and stderr, sockets from 3 on
    "plain": (["master's", "master's"], []),
    "files": (["pipe", "pipe"], []),
    "null": (["/dev/null", "/dev/null"], []),
    "http": (["master's", "master's"], ["socket"]),
    "www": (["master's", "master's"], []),
    "all": (["pipe", "pipe"], ["socket", "socket"]),
}


def descriptors(pid: int) -> dict[int, str]:
    """Of all but stdin, what each is, as the kernel names it."""
    folder = f"/proc/{pid}/fd"
    return {int(n): os.readlink(f"{folder}/{n}") for n in os.listdir(folder) if n != "0"}


def kinds(one: Program, pid: int) -> list[str]:
    """In the order of their numbers."""
    out = os.readlink(f"/proc/{one.pid}/fd/2")
    return [_kind(link, out) for _, link in sorted(descriptors(pid).items())]


def _kind(link: str, out: str) -> str:
    if link == out:
        return "master's"
    kinds = {"pipe:": "pipe", "socket:": "socket", "anon_inode:[": link[12:-1]}
    kinds["/memfd:supervisor-stacks"] = "stacks"
    return next((kind for start, kind in kinds.items() if link.startswith(start)), link)


@pytest.mark.parametrize("preload", ["false", "true"])
def test_a_worker_holds_what_is_meant_for_it_and_nothing_else(
    program: Start, folder: Path, preload: str
) -> None:
    """Output, sockets in order, ways to the master; of the log nothing but an inherited stderr."""
    pools = {
        "plain": "",
        "files": 'stdout = "out.log"\nstderr = "err.log"\n',
        "null": 'stdout = "null"\nstderr = "null"\n',
        "http": 'sockets = ["http"]\n',
        "www": 'user = "www-data"\n',
        "all": 'user = "www-data"\nsockets = ["http", "unix"]\nstdout = "out.log"\nstderr = "out.log"\n',
    }
    head = f'target = "app:run"\npreload = {preload}\n'
    text = "".join(f"[pools.{name}]\n{head}{more}" for name, more in pools.items())
    text += '[sockets.http]\nbind = "127.0.0.1:0"\n[sockets.unix]\nbind = "unix:u.sock"\n'
    one = program(WAITS, text, folder).ready()
    for name, (stdio, sockets) in HELD.items():
        found = kinds(one, one.worker(f"{name}.0"))
        first = len(stdio + sockets)
        assert found[:first] == stdio + sockets, name
        assert sorted(found[first:]) == ALWAYS, name
    one.stop(0)


@pytest.mark.parametrize("preload", ["false", "true"])
@pytest.mark.parametrize("log_file", ["", 'log_file = "m.log"'])
def test_what_another_user_says_is_in_the_masters_log(
    program: Start, folder: Path, preload: str, log_file: str
) -> None:
    """Its error comes with its traceback, though it could not open the log by itself."""
    app = """
        def run(worker):
            raise ValueError("broken")
    """
    more = f'user = "www-data"\npreload = {preload}\nstderr = "err.log"\n{LATER}'
    one = program(app, config(folder, more), folder, master=log_file)
    one.tracebacks_expected = True

    def logged(event: str) -> list[dict[str, Any]]:
        if log_file and (folder / "m.log").exists():
            lines = (folder / "m.log").read_text().splitlines()
            return [found for found in map(json.loads, lines) if found["event"] == event]
        return [found for found in one.events if found["event"] == event]

    one.wait_until(lambda: logged("worker.failed"))
    (error,) = logged("worker.error")
    assert "ValueError: broken" in error["traceback"]
    assert (error["worker"], error["reason"]) == ("a.0", "app:run raised")
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)
    assert (folder / "err.log").read_text() == ""


def test_a_program_of_another_user_notifies_by_the_path(program: Start, folder: Path) -> None:
    """systemd-notify, run as whoever the worker is, with the folder of the socket as the master made it."""
    script = "systemd-notify --ready --status=here && exec sleep 1000"
    pools = [
        f'[pools.{name}]\ncommand = ["sh", "-c", "{script}"]\nready = "notify"\nuser = "{name}"\n'
        for name in ("www-data", "nobody")
    ]
    one = program("", "".join(pools), folder).ready()
    for name in ("www-data", "nobody"):
        one.wait_shown(f"{name}.0", lambda w: w["status"] == "here")
    assert folder.joinpath("run").stat().st_mode & 0o777 == 0o711
    one.stop(0)
