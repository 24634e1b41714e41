"""From the fork to the program, and what is said where there is none."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from births import Born, bear, make

from supervisor.child import command
from supervisor.child.birth import Birth
from supervisor.settings import Account

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

LOOK = """
import json, os, sys
status = {k: v.strip() for k, _, v in (line.partition(":") for line in open("/proc/self/status"))}
links = {}
for fd in os.listdir("/proc/self/fd"):
    try: links[fd] = os.readlink("/proc/self/fd/" + fd)
    except OSError: pass
print(json.dumps({"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd(), "fds": links,
    "status": status, "pid": os.getpid(), "sid": os.getsid(0)}))
"""


class Program:
    """One command that was born: how the child ended, what it printed, what the pipe said of exec."""

    def __init__(self, folder: Path, *argv: str, **more: Any) -> None:
        pool = {"target": None, "command": argv, **more.pop("pool", {})}
        reader, writer = os.pipe()
        out, into = os.pipe()
        birth = make(folder, pool=pool, stdout=into, told=writer, **more)
        self.born: Born = bear(birth, command.live)
        os.close(writer)
        os.close(into)
        with open(reader, "rb") as told, open(out, "rb") as printed:
            self.told, self.printed = told.read(), printed.read()

    @property
    def failure(self) -> str:
        """The one reason, in the log and in the line to the master."""
        ((told),) = self.born.told
        assert self.told == b"x"
        assert self.born.sent == [f"X_ERROR={' '.join(told['reason'].split())[:300]}"]
        assert told["event"] == "worker.error"
        return str(told["reason"])


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_program_has_its_arguments_environment_and_folder(tmp_path: Path) -> None:
    """And no byte comes on the pipe: its end of file says that exec worked."""
    there = tmp_path / "there"
    there.mkdir()
    pool = {"env": {"COLOUR": "blue"}, "working_dir": str(there), "watchdog": 3.0}
    program = Program(tmp_path, sys.executable, "-c", LOOK, "a b", "", pool=pool)
    assert (program.born, program.told) == (Born(0, [], []), b"")
    said = json.loads(program.printed)
    assert said["argv"] == ["-c", "a b", ""]
    assert said["cwd"] == str(there)
    assert said["env"]["COLOUR"] == "blue"
    assert said["env"]["SUPERVISOR_WORKER"] == "web.3"
    assert said["env"]["NOTIFY_SOCKET"] == "/notify"
    assert said["env"]["WATCHDOG_PID"] == str(said["pid"])
    assert said["sid"] == said["pid"]


def test_a_program_starts_with_clean_signals(tmp_path: Path) -> None:
    """Nothing is blocked or ignored, not even what Python ignores; Python itself sets PIPE, XFSZ, INT."""
    program = Program(tmp_path, "/bin/cat", "/proc/self/status")
    status = dict(line.split(":\t", 1) for line in program.printed.decode().splitlines())
    # 32 and 33 are the C library's own (nptl(7)): nobody else can block, ignore or catch them.
    ours = ~(1 << 31 | 1 << 32)
    sets = ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd")
    assert {key: int(status[key], 16) & ours for key in sets} == dict.fromkeys(sets, 0)


def test_its_descriptors_are_the_standard_ones_and_its_sockets(tmp_path: Path) -> None:
    """Neither the way to the master nor the pipe that tells of exec."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = Program(
            tmp_path, "/bin/ls", "-l", "/proc/self/fd", listeners=(("http", server.fileno()),)
        )  # the folder that it reads is one more: the next free number
        links = [line.split(maxsplit=8)[8] for line in program.printed.decode().splitlines()[1:]]
        assert [link.split(" -> ")[0] for link in links] == ["0", "1", "2", "3", "4"]
        assert links[3].startswith("3 -> socket:")
        assert links[4].startswith("4 -> /proc/")


def test_a_socket_is_at_three_under_its_name(tmp_path: Path) -> None:
    look = (
        "import os, socket; e = os.environ; assert e['LISTEN_PID'] == str(os.getpid()); "
        "print(e['LISTEN_FDS'], e['LISTEN_FDNAMES'], socket.socket(fileno=3).getsockname()[1])"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = Program(tmp_path, sys.executable, "-c", look, listeners=(("http", server.fileno()),))
        assert program.printed.decode().split() == ["1", "http", str(server.getsockname()[1])]


def test_path_is_that_of_the_worker(tmp_path: Path) -> None:
    """The first folder that has it wins; an empty entry is the working folder."""
    script(tmp_path / "hello", "#!/bin/sh\necho here\n")
    other = tmp_path / "other"
    other.mkdir()
    script(other / "hello", "#!/bin/sh\necho other\n")
    first = Program(tmp_path, "hello", pool={"env": {"PATH": f"/nowhere:{other}:{tmp_path}"}})
    assert first.printed == b"other\n"
    assert Program(tmp_path, "hello", pool={"env": {"PATH": "/nowhere:"}}).printed == b"here\n"
    assert Program(tmp_path, "./other/hello").printed == b"other\n", "relative to its folder"


def test_what_may_not_be_executed_is_passed_over_for_what_may(tmp_path: Path) -> None:
    script(tmp_path / "hello", "", 0o644)
    other = tmp_path / "other"
    other.mkdir()
    script(other / "hello", "#!/bin/sh\necho other\n")
    assert Program(tmp_path, "hello", pool={"env": {"PATH": f"{tmp_path}:{other}"}}).printed == b"other\n"


@pytest.mark.parametrize("length", [1, 70])
def test_of_a_long_path_only_the_beginning_is_told(tmp_path: Path, length: int) -> None:
    """It stands in the reason of every run that failed for it."""
    first = "/" + "a" * length
    program = Program(tmp_path, "ngnix", pool={"env": {"PATH": ":".join([first] + ["/b/c/d"] * 20)}})
    shown = ":".join([first] + ["/b/c/d"] * (8 if length == 1 else 0))
    assert program.failure is not None
    assert f"(PATH={shown}:... of 21 folders, in {tmp_path})" in program.failure


def test_a_program_that_is_nowhere_is_told_with_where_it_was_looked_for(tmp_path: Path) -> None:
    program = Program(tmp_path, "ngnix", "-g", pool={"env": {"PATH": "/usr/bin:/bin"}})
    assert program.failure == (
        f"cannot execute 'ngnix': No such file or directory (PATH=/usr/bin:/bin, in {tmp_path})"
    )
    assert program.born.code == 127
    gone = Program(tmp_path, "./gone")
    assert gone.failure == f"cannot execute './gone': No such file or directory (./gone in {tmp_path})"
    assert gone.born.code == 127


def elf(path: Path, machine: int, interpreter: bytes = b"") -> Path:
    """The head of a program for some machine, and the loader that it asks for."""
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400000, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(interpreter), len(interpreter), 1)
    path.write_bytes(header + segment + interpreter)
    path.chmod(0o755)
    return path


def machine() -> int:
    """The number of this one, as its own programs have it."""
    with open(sys.executable, "rb") as file:
        return int(struct.unpack("<H", file.read(20)[18:20])[0])


MADE: list[tuple[str, Callable[[Path], object], str]] = [
    ("plain", lambda p: script(p, "echo hi\n", 0o644), "Permission denied (PATH): uid 0 may not execute it"),
    ("folder", lambda p: p.mkdir(), "Permission denied (PATH): it is a folder"),
    ("bare", lambda p: script(p, "echo hi\n"), "Exec format error (PATH): it has no #! line that names"),
    ("empty", lambda p: script(p, ""), "Exec format error (PATH): it is empty, or may not be read"),
    (
        "no_interpreter",
        lambda p: script(p, "#! /usr/bin/pythn -u\n"),
        "No such file or directory (PATH): its interpreter '/usr/bin/pythn' is not there",
    ),
    (
        "windows",
        lambda p: script(p, "#!/bin/sh\r\necho\r\n"),
        r"No such file or directory (PATH): its interpreter '/bin/sh\r' is not there; the file has the line",
    ),
    (
        "link",
        lambda p: p.symlink_to(p.parent / "target"),
        "No such file or directory (PATH): it is a symlink to TARGET, which is not there",
    ),
    (
        "no_loader",
        lambda p: elf(p, machine(), b"/lib/ld-none.so\0"),
        "No such file or directory (PATH): the loader that it was linked for is not there",
    ),
    ("foreign", lambda p: elf(p, 0x2A), "Exec format error (PATH): it was built for another kind of machine"),
    (
        "closed",
        lambda p: script(p, f"#!{p.parent}/interpreter\n") and script(p.parent / "interpreter", "", 0o644),
        "Permission denied (PATH): its interpreter 'INTERPRETER' may not be executed",
    ),
]


@pytest.mark.parametrize(("name", "make_it", "expected"), MADE, ids=[name for name, _, _ in MADE])
def test_what_is_there_and_cannot_be_executed_is_told_with_the_reason(
    tmp_path: Path, name: str, make_it: Callable[[Path], object], expected: str
) -> None:
    """The kernel has one number for many reasons: the file is looked at."""
    path = tmp_path / name
    make_it(path)
    expected = expected.replace("PATH", str(path)).replace("TARGET", str(tmp_path / "target"))
    expected = expected.replace("INTERPRETER", str(tmp_path / "interpreter"))
    expected = expected.replace("uid 0", f"uid {os.geteuid()}")
    for argv in (str(path), name):
        program = Program(tmp_path, argv, pool={"env": {"PATH": str(tmp_path)}})
        assert program.failure.startswith(f"cannot execute {argv!r}: {expected}")
        assert program.born.code == 126


def test_too_many_arguments_are_counted(tmp_path: Path) -> None:
    program = Program(tmp_path, "/bin/true", "x" * (1 << 20))
    assert program.failure.startswith("cannot execute '/bin/true': Argument list too long (/bin/true): its ")
    assert program.born.code == 126


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_program_runs_as_its_user(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    account = Account("www-data", 33, 33, (33, 44), "/var/www", "/bin/false")
    program = Program(tmp_path, "/bin/cat", "/proc/self/status", pool={"user": "www-data"}, account=account)
    status = dict(line.split(":\t", 1) for line in program.printed.decode().splitlines())
    assert status["Uid"].split() == status["Gid"].split() == ["33"] * 4
    assert status["Groups"].split() == ["33", "44"]
    assert status["NoNewPrivs"] == "1"
    closed = script(tmp_path / "mine", "#!/bin/sh\n", 0o700)
    denied = Program(tmp_path, str(closed), pool={"user": "www-data"}, account=account)
    assert denied.failure.endswith(f"Permission denied ({closed}): uid 33 may not execute it, chmod +x?")


def test_a_standing_that_is_refused_never_reaches_the_program(tmp_path: Path) -> None:
    program = Program(tmp_path, "/bin/echo", "ran", pool={"user": "somebody"})
    assert program.failure == "pool web has a user or a group that nobody looked up"
    assert (program.printed, program.born.code) == (b"", 1)


def test_a_stop_that_came_before_the_program_ends_it(tmp_path: Path) -> None:
    """It was pending since the fork; nothing is lost between there and the program."""

    def run(birth: Birth, tell: Callable[..., None]) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return command.live(birth, tell)

    birth = make(tmp_path, pool={"target": None, "command": ("/bin/sleep", "1000")})
    assert bear(birth, run) == Born(-signal.SIGTERM, [], [])
