"""Listening unix sockets: of the right mode, never stolen, removed only if ours."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from control_box import NOBODY
from sockets_box import Bench, answers, bench_in, wanted

from supervisor.errors import StartError
from supervisor.settings import Mode, SocketSettings
from supervisor.unix import socket_file
from supervisor.unix.sockets import Listeners


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        assert os.umask(before) == value, "the umask was not given back"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as found:
        yield found


@pytest.mark.parametrize("mask", [0o000, 0o077])
@pytest.mark.parametrize("mode", [0o660, 0o666, 0o600])
def test_the_mode_is_as_asked_whatever_the_umask(bench: Bench, mask: int, mode: int) -> None:
    with umask(mask):
        bench.have_settings({"file": SocketSettings("file", bench.unix, mode=Mode(mode))})
    assert stat.S_IMODE(os.stat(bench.path).st_mode) == mode


@pytest.mark.parametrize(("mask", "mode"), [(0o000, 0o777), (0o077, 0o700)])
def test_without_a_mode_the_umask_decides(bench: Bench, mask: int, mode: int) -> None:
    with umask(mask):
        bench.have(file=bench.unix)
    assert stat.S_IMODE(os.stat(bench.path).st_mode) == mode


def test_a_change_of_the_mode_holds_from_commit_on(bench: Bench) -> None:
    for mode, seen in ((0o600, 0o600), (0o660, 0o660), (None, 0o755)):
        with umask(0o022):
            settings = SocketSettings("file", bench.unix, mode=None if mode is None else Mode(mode))
            before = stat.S_IMODE(os.stat(bench.path).st_mode) if os.path.exists(bench.path) else seen
            change = bench.listeners.prepare({"file": settings})
            assert stat.S_IMODE(os.stat(bench.path).st_mode) == before
            bench.listeners.commit(change)
            assert stat.S_IMODE(os.stat(bench.path).st_mode) == seen


def test_a_dead_socket_of_ours_is_replaced(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(bench.path)
    bench.have(file=bench.unix)
    assert answers(bench.path)


def test_a_live_socket_of_somebody_else_is_not_disturbed(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(bench.path)
        other.listen()
        before = os.stat(bench.path).st_ino
        with pytest.raises(StartError, match=r"^sockets\.file: somebody answers on .*, or bind another path"):
            bench.listeners.prepare(wanted(file=bench.unix))
        assert os.stat(bench.path).st_ino == before
        os.unlink(bench.path)


def _file(path: Path) -> None:
    path.write_text("precious")


def _link(path: Path) -> None:
    (path.parent / "victim").write_text("precious")
    path.symlink_to(path.parent / "victim")


@pytest.mark.parametrize("make", [_file, _link, Path.mkdir])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "x"
    make(path)
    before = os.lstat(path)
    with pytest.raises(
        StartError, match=r"^sockets\.file: .*not a socket; move it away, or bind another path"
    ):
        Listeners({}).prepare(wanted(file=f"unix:{path}"))
    assert os.lstat(path).st_ino == before.st_ino


@pytest.mark.skipif(os.geteuid() != 0, reason="gives the file to another user")
def test_a_dead_socket_of_another_user_is_left_alone(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(bench.path)
    os.chown(bench.path, NOBODY, NOBODY)
    with pytest.raises(StartError, match=r"^sockets\.file: .*uid 65534"):
        bench.listeners.prepare(wanted(file=bench.unix))
    os.unlink(bench.path)


def test_a_folder_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"^sockets\.file: cannot use the folder .*create it"):
        Listeners({}).prepare(wanted(file=f"unix:{tmp_path}/missing/x"))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a link that is another user's")
def test_a_folder_on_the_way_that_somebody_else_has_linked_is_refused(tmp_path: Path) -> None:
    """He could have the socket anywhere; an administrator's own link is followed."""
    (tmp_path / "victim" / "run").mkdir(parents=True)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    planted = tmp_path / "open" / "link"
    planted.symlink_to(tmp_path / "victim")
    with bench_in(planted / "run") as bench:
        bench.have(file=bench.unix)
        assert answers(str(tmp_path / "victim" / "run" / "web.sock"))
    os.lchown(planted, NOBODY, NOBODY)
    with pytest.raises(StartError) as refused:
        Listeners({}).prepare(wanted(file=bench.unix))
    assert str(refused.value) == (
        f"sockets.file: cannot use the folder {planted}/run: {planted} is a symlink, "
        f"and others may write to {planted.parent}; name the folder that is meant, or bind another path"
    )
    assert os.listdir(tmp_path / "victim" / "run") == []


def test_a_folder_of_everybody_is_refused_to_root_and_warned_of_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chmod(os.path.dirname(bench.path), 0o777)
    monkeypatch.setattr(socket_file.os, "geteuid", lambda: 0)
    with pytest.raises(StartError, match=r"^sockets\.file: .*chmod"):
        bench.listeners.prepare(wanted(file=bench.unix))
    monkeypatch.setattr(socket_file.os, "geteuid", lambda: 1000)
    bench.have(file=bench.unix)
    assert [text.partition(": ")[0] for text in bench.warnings] == ["sockets.file"]


def test_a_file_that_became_somebody_elses_is_not_removed(bench: Bench) -> None:
    bench.have(file=bench.unix)
    os.unlink(bench.path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(bench.path)
        other.listen()
        bench.listeners.close()
        assert answers(bench.path)
        os.unlink(bench.path)


def test_a_reload_binds_anew_what_a_cleaner_of_folders_removed(bench: Bench) -> None:
    before = bench.have(file=bench.unix)
    os.unlink(bench.path)
    after = bench.have(file=bench.unix)
    assert after != before
    assert answers(bench.path)


def test_of_many_masters_over_a_dead_socket_exactly_one_wins(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(bench.path)
    masters = [bench.listeners, *(Listeners({}) for _ in range(7))]
    lost: list[StartError] = []
    barrier = threading.Barrier(8)

    def start(listeners: Listeners) -> None:
        barrier.wait()
        try:
            listeners.commit(listeners.prepare(wanted(file=bench.unix)))
        except StartError as error:
            lost.append(error)

    threads = [threading.Thread(target=start, args=(master,)) for master in masters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 7
    assert answers(bench.path)
    for master in masters:
        master.close()


def test_a_running_master_never_waits_for_another_starter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of the folder may be held for ever by anybody who can read it; only a start gives it time."""
    bench.have()
    monkeypatch.setattr(socket_file.time, "sleep", lambda _: pytest.fail("it waits"))
    held = os.open(os.path.dirname(bench.path), os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    bench.have(file=bench.unix)
    os.close(held)
    assert answers(bench.path)
