"""A file that cannot be used: the reload is refused with every mistake, and nothing has changed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program
from reloading import WAITS, fails, least, outcome, pids, pool, serving, started, works

Start = Callable[..., Program]
Spoil = Callable[[Path], object]
LARGE = 2 << 20


def replaced(make: Spoil) -> Spoil:
    """Something else in the place of the file."""

    def spoil(path: Path) -> None:
        path.unlink()
        make(path)

    return spoil


def added(text: str) -> Spoil:
    return lambda path: path.write_text(path.read_text() + text)


def unreadable(path: Path) -> None:
    """Root reads everything, but nothing that anybody may write."""
    path.chmod(0o666 if os.geteuid() == 0 else 0)


FAULTS: list[tuple[Spoil, str]] = [
    (added("[pools.b\n"), "config.toml: not valid TOML: "),
    (added("wokers = 3\n"), "config.toml: pools.a.wokers: unknown key, did you mean 'workers'?"),
    (added('[pools.b]\ntarget = "app:run"\nafter = ["c"]\n'), "config.toml: pools.b.after"),
    (added("env = { A = '${SURELY_NOT_SET}' }\n"), "SURELY_NOT_SET"),
    (added("env_file = 'nowhere'\n"), "config.toml: pools.a.env_file: "),
    (added("env_file = 'fifo'\n"), "is a FIFO"),
    (added("[hooks]\nimport = ['nope']\n"), "config.toml: hooks.import: cannot import 'nope'"),
    (added("[hooks]\nimport = ['exits']\n"), "config.toml: hooks.import: cannot import 'exits'"),
    (added("[hooks]\nimport = ['dies']\n"), "it ended the process by SIGSEGV"),
    (added("[hooks]\non_stop = 'app:nothing'\n"), "config.toml: hooks.on_stop: module 'app' has no"),
    (lambda path: path.write_text(""), "config.toml: there is nothing to run"),
    (lambda path: path.write_bytes(b"\0" * 9), "NUL"),
    (lambda path: path.write_bytes(b"\xff\xf0"), "not valid UTF-8"),
    (lambda path: path.write_text("#" * LARGE), "larger than 1 MiB"),
    (lambda path: path.write_text("a = " + "[" * 100_000), "config.toml: "),
    (lambda path: path.unlink(), "there is no such file"),
    (replaced(Path.mkdir), "is a directory"),
    (replaced(os.mkfifo), "is a FIFO"),
    (replaced(lambda path: path.symlink_to("/dev/zero")), "is a device"),
    (replaced(lambda path: path.symlink_to(path.name)), "cannot be read"),
    (unreadable, "may "),
]


def restore(path: Path, text: str) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_text(text)


def test_no_file_whatever_it_is_can_hurt(program: Start, tmp_path: Path) -> None:
    """Each fault is told with file and key, the workers are the same, and the mended file works."""
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "dies.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    os.mkfifo(tmp_path / "fifo")
    one = program(WAITS, pool()).ready()
    good, before = one.config.read_text(), pids(one)
    for spoil, words in FAULTS:
        spoil(one.config)
        error = fails(one)
        assert words in error, f"{words!r} is not in {error!r}"
        assert pids(one) == before
        assert one.status()["generation"] == 1
        restore(one.config, good)
    assert len(started(one, 1)) == 2
    works(one)
    assert set(serving(one).values()) == {len(FAULTS) + 2}
    assert least(one) == 2
    assert one.status()["last_reload"]["error"] is None
    one.stop(0)


def test_every_mistake_is_told_at_once(program: Start) -> None:
    """A line each."""
    one = program(WAITS, pool()).ready()
    one.config.write_text(one.config.read_text() + "wokers = 3\nnice = 'very'\n[hooks]\non_sotp = 'a:b'\n")
    lines = fails(one).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{one.config}: ") for line in lines), lines
    one.stop(0)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_socket_that_cannot_be_bound_refuses_the_whole(program: Start, kind: str, tmp_path: Path) -> None:
    """All or none: the other new socket is not bound either, and no worker was started."""
    one = program(WAITS, pool()).ready()
    good = one.config.read_text()
    with socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX) as taken:
        taken.bind(("127.0.0.1", 0) if kind == "tcp" else str(tmp_path / "taken"))
        taken.listen()
        name = f"127.0.0.1:{taken.getsockname()[1]}" if kind == "tcp" else f"unix:{tmp_path / 'taken'}"
        wish = f"[sockets.first]\nbind = 'unix:{tmp_path / 'first'}'\n[sockets.http]\nbind = '{name}'\n"
        one.config.write_text(good + "sockets = ['first', 'http']\n" + wish)
        assert "sockets.http" in fails(one)
        assert not (tmp_path / "first").exists()
        assert started(one, 2) == []
    if kind == "unix":
        (tmp_path / "taken").unlink(missing_ok=True)
    works(one)
    assert (tmp_path / "first").is_socket()
    one.config.write_text(good)
    works(one)
    assert not (tmp_path / "first").exists()
    one.stop(0)


def test_a_refusal_during_the_boot_leaves_the_boot_alone(program: Start) -> None:
    """It goes on with the file that it began with."""
    app = """
        import os
        def run(worker):
            while not os.path.exists("go"):
                worker.wait(0.02)
            worker.ready()
            worker.wait()
    """
    one = program(app, pool(more='ready = "notify"'))
    one.wait_for("worker.started", worker="a.1")
    good = one.config.read_text()
    one.config.write_text("[[[")
    assert "config.toml" in fails(one)
    assert one.status()["state"] == "starting"
    (one.folder / "go").touch()
    one.ready()
    one.config.write_text(good)
    assert outcome(one)["event"] == "reload.failed"
    assert len(started(one, 1)) == 2
    one.stop(0)
