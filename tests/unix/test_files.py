"""Private folders, the pidfile lock and standard descriptors."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from control_box import NOBODY

from supervisor.errors import AlreadyRunningError, StartError
from supervisor.unix import files
from supervisor.unix.files import Pidfile, make_folder
from supervisor.unix.held import make_folder_of


@pytest.mark.parametrize("before", [None, b"", b"garbage", b"\0\0", b"-1\n", b"0\n", b"1" * 1_000_000])
def test_a_stale_pidfile_is_taken_over_whatever_it_says(tmp_path: Path, before: bytes | None) -> None:
    """Then it holds our pid and nothing else, mode 0644; it is gone after remove."""
    path = tmp_path / "pid"
    if before is not None:
        path.write_bytes(before)
    pidfile = Pidfile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not os.get_inheritable(pidfile.fd)
    pidfile.remove()
    assert not path.exists()


def test_a_held_pidfile_is_refused_and_not_touched(tmp_path: Path) -> None:
    """The lock says who runs; the error says what to do."""
    path = tmp_path / "pid"
    held = Pidfile(str(path))
    path.write_text("precious")
    with pytest.raises(AlreadyRunningError, match="another master holds the pidfile") as caught:
        Pidfile(str(path))
    assert caught.value.status == 100
    assert path.read_text() == "precious"
    held.remove()


def test_a_pidfile_that_was_replaced_is_not_removed(tmp_path: Path) -> None:
    """What stands there now is somebody else's."""
    path = tmp_path / "pid"
    held = Pidfile(str(path))
    path.unlink()
    path.write_text("another's")
    held.remove()
    assert path.read_text() == "another's"


def test_a_pidfile_that_vanishes_under_the_lock_is_made_anew(tmp_path: Path) -> None:
    """Its last owner removed it between our open and our lock: a lock on it would guard nothing."""
    path = tmp_path / "pid"
    script = """
import fcntl, os, sys
from supervisor.unix.files import Pidfile
real, path, times = fcntl.flock, sys.argv[1], []
def late(fd, how):
    times.append(fd)
    if len(times) == 1:
        os.unlink(path)
    real(fd, how)
fcntl.flock = late
Pidfile(path)
print(len(times), open(path).read() == f"{os.getpid()}\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "2 True\n"


@pytest.mark.parametrize("kind", ["symlink", "dangling", "folder", "fifo", "socket", "device"])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    """Neither followed nor opened for waiting; it stays as it was."""
    path, victim = tmp_path / "pid", tmp_path / "victim"
    victim.write_text("precious")
    match kind:
        case "symlink":
            path.symlink_to(victim)
        case "dangling":
            path.symlink_to(tmp_path / "missing")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(str(path))
        case "device":
            path = Path("/dev/null")
    before = path.lstat().st_ino
    with pytest.raises(StartError, match=str(path)):
        Pidfile(str(path))
    assert path.lstat().st_ino == before
    assert victim.read_text() == "precious"
    assert not (tmp_path / "missing").exists()


def test_a_pidfile_that_cannot_be_made_says_where_and_why() -> None:
    """One sentence for the user."""
    with pytest.raises(StartError, match="cannot open the pidfile /proc/no/pid: No such file"):
        Pidfile("/proc/no/pid")


def test_a_pidfile_without_room_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC: said, and the descriptor is closed again."""
    fds = set(os.listdir("/proc/self/fd"))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StartError, match="No space left on device"):
        Pidfile(str(tmp_path / "pid"))
    assert set(os.listdir("/proc/self/fd")) == fds


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_folder_is_made_private(tmp_path: Path, umask: int) -> None:
    """0700, whatever the umask, and one that is there is left as it is."""
    before = os.umask(umask)
    try:
        make_folder(str(tmp_path / "new"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    (tmp_path / "new").chmod(0o755)
    make_folder(str(tmp_path / "new"))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o755


def test_folders_that_are_not_safe_are_refused(tmp_path: Path) -> None:
    """Writable by everyone without the sticky bit; or no folder at all."""
    tmp_path.chmod(0o777)
    with pytest.raises(StartError, match="chmod o-w"):
        make_folder(str(tmp_path))
    tmp_path.chmod(0o1777)
    make_folder(str(tmp_path))
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="is no folder"):
        make_folder(str(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a link that is another user's")
def test_a_folder_that_somebody_else_has_linked_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    """Of control socket, pidfile and state file alike; an administrator's own link is followed."""
    (tmp_path / "victim").mkdir()
    tmp_path.chmod(0o1777)
    (tmp_path / "link").symlink_to("victim")
    make_folder(str(tmp_path / "link" / "one"))
    os.lchown(tmp_path / "link", NOBODY, NOBODY)
    with pytest.raises(StartError) as refused:
        make_folder(str(tmp_path / "link" / "two"))
    assert str(refused.value) == (
        f"cannot make the folder {tmp_path}/link/two: {tmp_path}/link is a symlink, "
        f"and others may write to {tmp_path}; give another one"
    )
    with pytest.raises(StartError, match="others may write to"):
        make_folder_of(str(tmp_path / "link" / "three" / "state" / "shop.sqlite"))
    assert os.listdir(tmp_path / "victim") == ["one"]


def open_now() -> set[int]:
    """By asking, since to list /proc/self/fd opens one more."""
    found = set()
    for fd in range(256):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            found.add(fd)
    return found


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 1, 2), ()])
def test_standard_descriptors_are_opened_where_they_are_closed(closed: tuple[int, ...]) -> None:
    """/dev/null, to be inherited; those that are open stay what they are; nothing more is opened."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        for fd in closed:
            os.close(fd)
        before = open_now()
        files.open_standard()
        after = open_now()
        null = [os.readlink(f"/proc/self/fd/{fd}") == "/dev/null" and os.get_inheritable(fd) for fd in closed]
        os.write(writer, b"well" if all(null) and after == before | set(closed) else b"wrong")
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"well"
    os.waitpid(pid, 0)
