"""Who workers are and what they may do: as the kernel tells it of real ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from program import Program

Start = Callable[..., Program]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")

WWW, NOBODY = 33, 65534
# It may read everything: the interpreter may be in a folder of root's.
READS = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *READS)
WITH_MORE_GROUPS = ("setpriv", "--groups", "0,4,27")

# Tells what it finds when it is imported, and when it runs.
LOOKS = """
    import json, os, resource, time

    def look():
        with open("/proc/self/status") as file:
            told = {key: value.split() for key, _, value in (line.partition(":") for line in file)}
        return {
            "uids": told["Uid"], "gids": told["Gid"], "groups": told["Groups"],
            "no_new_privs": told["NoNewPrivs"], "umask": told["Umask"], "capabilities": told["CapEff"],
            "nice": os.getpriority(os.PRIO_PROCESS, 0), "folder": os.getcwd(),
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE), "core": resource.getrlimit(resource.RLIMIT_CORE),
            "as": resource.getrlimit(resource.RLIMIT_AS),
            "environ": {name: os.environ.get(name) for name in ("HOME", "USER", "LOGNAME", "SHELL", "A", "B", "C")},
        }

    def back():
        try:
            os.setuid(0)
        except OSError:
            return "denied"

    def say(name, **fields):
        path = f"{os.environ['DROP']}/{name}.{os.getpid()}"
        with open(path + ".part", "x") as file:
            json.dump(fields, file)
        os.rename(path + ".part", path)

    say("import", **look())

    def run(worker):
        say(worker.id, back=back(), **look())
        worker.wait()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that anybody may enter, with a ``drop`` that anybody may write to: pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "drop").mkdir()
        (path / "drop").chmod(0o1777)
        yield path


def dropped(folder: Path, name: str) -> list[dict[str, Any]]:
    """What was told under that name."""
    return [json.loads(path.read_text()) for path in (folder / "drop").glob(f"{name}.*[0-9]")]


def config(folder: Path, more: str, target: str = "app:run") -> str:
    return f'[pools.a]\ntarget = "{target}"\nenv = {{ DROP = "{folder}/drop" }}\n{more}'


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
    """Limits, nice, umask, folder and environment are there before the application is; env wins over env_file."""
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
        assert told["nice"] == os.getpriority(os.PRIO_PROCESS, 0) + 5 or told["nice"] == 5
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
    one = program(LOOKS, text.replace("user = 4321", 'user = "4321"').replace("= 4322", '= "4322"'), folder)
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
HELD = {  # stdout and stderr, sockets from 3 on, the rest
    "plain": (["master's", "master's"], [], []),
    "files": (["pipe", "pipe"], [], ["master's"]),
    "null": (["/dev/null", "/dev/null"], [], ["master's"]),
    "http": (["master's", "master's"], ["socket"], []),
    "www": (["master's", "master's"], [], ["master's"]),
    "all": (["pipe", "pipe"], ["socket", "socket"], ["master's"]),
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
    """Its output, its sockets in order, its ways to the master; the log only where stderr is not the master's."""
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
    for name, (stdio, sockets, rest) in HELD.items():
        found = kinds(one, one.worker(f"{name}.0"))
        first = len(stdio + sockets)
        assert found[:first] == stdio + sockets, name
        assert sorted(found[first:]) == sorted([*ALWAYS, *rest]), name
    one.stop(0)


@pytest.mark.parametrize("preload", ["false", "true"])
@pytest.mark.parametrize("log_file", ["", 'log_file = "m.log"'])
def test_what_another_user_says_is_in_the_masters_log(
    program: Start, folder: Path, preload: str, log_file: str
) -> None:
    """Though it could not open the log, nor may write to the master's stderr: its error comes with its traceback."""
    app = """
        def run(worker):
            raise ValueError("broken")
    """
    more = f'user = "www-data"\npreload = {preload}\nstderr = "err.log"\nbackoff = {{ initial = "1h", max = "1h" }}'
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


# -- what cannot be had -----------------------------------------------------------------

LATER = 'backoff = { initial = "1h", max = "1h" }\n'


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
    if preload == "true":
        reason = one.wait_for("inner.failed")["reason"]
    else:
        reason = refusal(one)
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
