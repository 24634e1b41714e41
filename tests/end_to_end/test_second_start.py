"""A start where something is in the way: another master, or what stands at its paths."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program

Start = Callable[..., Program]

WAITS = """
    def run(worker):
        worker.wait()
"""
ONE = '[pools.a]\ntarget = "app:run"\n'


@pytest.mark.parametrize("shared", ["pidfile", "socket"])
def test_a_second_master_leaves_with_100_and_disturbs_nothing(
    program: Start, tmp_path: Path, shared: str
) -> None:
    """The first keeps its pid, workers, pidfile and socket; the second says in one line what to do."""
    first = program(WAITS, ONE).ready()
    before = (
        first.pidfile.read_bytes(),
        first.socket.stat().st_ino,
        first.status()["pools"]["a"]["workers"][0]["pid"],
    )
    other = tmp_path / "other.toml"
    other.write_text(first.config.read_text().replace("m.pid" if shared == "socket" else "m.sock", "other"))
    first.config, kept = other, first.config
    done = first.cli("start")
    first.config = kept
    assert done.returncode == 100, done.stderr
    assert done.stderr.count("\n") == 1
    assert "another master" in done.stderr
    after = (
        first.pidfile.read_bytes(),
        first.socket.stat().st_ino,
        first.status()["pools"]["a"]["workers"][0]["pid"],
    )
    assert after == before
    assert not (tmp_path / "run/other").exists()
    first.stop(0)


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"\0" * 20, b"-1\n", b"0\n", b"1\n" * 100_000])
def test_what_a_stale_pidfile_says_does_not_matter(program: Start, tmp_path: Path, content: bytes) -> None:
    """Its lock is free, so it is taken over, and holds the pid and nothing else."""
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "run/m.pid").write_bytes(content)
    one = program(WAITS, ONE).ready()
    assert one.pidfile.read_text() == f"{one.pid}\n"
    one.stop(0)


def test_a_stale_pidfile_with_the_pid_of_a_stranger(program: Start, tmp_path: Path) -> None:
    """The number has a new owner, this test: `stop` finds no master and signals nobody; a start works."""
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "run/m.pid").write_text(f"{os.getpid()}\n")
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        one = program(WAITS, ONE).ready()
        one.stop(0)
        (tmp_path / "run/m.pid").write_text(f"{os.getpid()}\n")
        assert one.cli("stop").returncode == 3
    finally:
        signal.signal(signal.SIGTERM, before)
        one.pidfile.unlink()
    assert not heard


def plant(path: Path, what: str, victim: Path) -> None:
    match what:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case "symlink":
            path.symlink_to(victim)
        case "dangling":
            path.symlink_to(victim.with_suffix(".missing"))
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(str(path))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        *(("m.pid", what) for what in ("folder", "symlink", "dangling", "fifo", "socket")),
        *(("m.sock", what) for what in ("file", "folder", "symlink", "dangling", "fifo")),
    ],
)
def test_what_is_not_ours_is_neither_followed_nor_removed(
    program: Start, tmp_path: Path, name: str, what: str
) -> None:
    """Exit 1 with one line that names the path; whatever stands there stays, and a link's victim too."""
    (tmp_path / "run").mkdir(mode=0o700)
    path, victim = tmp_path / "run" / name, tmp_path / "victim"
    victim.write_text("precious")
    plant(path, what, victim)
    one = program(WAITS, ONE)
    one.wait(1)
    [line] = one.noise
    assert str(path) in line
    assert not one.events
    assert os.path.lexists(path)
    assert victim.read_text() == "precious"
    assert not victim.with_suffix(".missing").exists()
    assert [p.name for p in (tmp_path / "run").iterdir()] == [name]
    path.rmdir() if what == "folder" else path.unlink()


@pytest.mark.parametrize("umask", ["000", "077"])
def test_modes_do_not_depend_on_the_umask(program: Start, umask: str) -> None:
    """Folder 0700, socket 0600, pidfile 0644; workers keep the umask."""
    app = """
        import os
        def run(worker):
            print(f"umask {os.umask(0):03o}", flush=True)
            worker.wait()
    """
    one = program(app, ONE, before=["sh", "-c", f'umask {umask}; exec "$@"', "sh"]).ready()
    assert one.wait_for_line("umask") == f"umask {umask}"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (one.socket.parent, one.socket, one.pidfile)]
    assert modes == [0o700, 0o600, 0o644]
    one.stop(0)


def test_a_folder_that_everyone_may_write_is_refused(program: Start, tmp_path: Path) -> None:
    """Somebody could put another socket there: exit 1, with what to do."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    one = program(WAITS, ONE)
    one.wait(1)
    assert "chmod o-w" in one.noise[0]
    assert not list((tmp_path / "run").iterdir())


def test_a_pidfile_on_a_full_or_missing_place_is_refused_before_any_fork(program: Start) -> None:
    """ENOENT's like: one line, exit 1, no event, nothing made."""
    one = program(WAITS, ONE, master='name = "x"')
    one.ready().stop(0)
    config = one.config.read_text().replace("run/m.pid", "/proc/nowhere/m.pid")
    one.config.write_text(config)
    done = one.cli("start")
    assert done.returncode == 1
    assert "/proc/nowhere" in done.stderr
    assert done.stderr.count("\n") == 1
