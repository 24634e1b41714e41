"""The control socket's file: never loose, never stolen, removed only if ours."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from control_box import NOBODY

from supervisor.errors import AlreadyRunningError, StartError
from supervisor.unix import socket_file
from supervisor.unix.control_socket import ControlSocket, listen


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "c.sock")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_socket_is_0600_whatever_the_umask(path: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        control = listen(path)
        assert os.umask(umask) == umask, "the umask was not given back"
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    control.socket.close()


def test_a_live_socket_is_not_stolen(path: str) -> None:
    first = listen(path)
    with pytest.raises(AlreadyRunningError, match="not disturbed") as error:
        listen(path)
    assert error.value.status == 100
    assert (os.stat(path).st_dev, os.stat(path).st_ino) == first.file.identity
    first.socket.close()


def test_a_live_socket_whose_queue_is_full_is_not_stolen(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as full, contextlib.ExitStack() as stack:
        full.bind(path)
        full.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(path)
        with pytest.raises(AlreadyRunningError):
            listen(path)


def test_a_stale_socket_is_replaced(path: str) -> None:
    listen(path).socket.close()
    second = listen(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    second.socket.close()


def _file(path: Path) -> None:
    path.write_text("precious")


def _folder(path: Path) -> None:
    path.mkdir()


def _link(path: Path) -> None:
    (path.parent / "victim").write_text("precious")
    path.symlink_to(path.parent / "victim")


def _link_to_stale_socket(path: Path) -> None:
    listen(str(path.parent / "other")).socket.close()
    path.symlink_to(path.parent / "other")


def _dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


@pytest.mark.parametrize("make", [_file, _folder, _link, _link_to_stale_socket, _dangling])
def test_what_is_no_socket_is_never_unlinked(path: str, make: Callable[[Path], None]) -> None:
    make(Path(path))
    before = os.lstat(path)
    with pytest.raises(StartError, match="not a socket"):
        listen(path)
    assert os.lstat(path).st_ino == before.st_ino


@pytest.mark.skipif(os.geteuid() != 0, reason="gives the file to another user")
def test_a_dead_socket_of_another_user_is_left_alone(path: str) -> None:
    listen(path).socket.close()
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(StartError, match="uid 65534"):
        listen(path)
    assert os.path.exists(path)


def test_a_path_too_long_for_a_socket_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="at most 107 bytes"):
        listen(str(tmp_path / ("x" * 108)))


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="create it"):
        listen(str(tmp_path / "missing" / "c.sock"))


def test_a_folder_in_which_everybody_may_replace_it_is_refused_to_root_and_warned_of_else(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chmod(os.path.dirname(path), 0o777)
    warnings: list[str] = []
    monkeypatch.setattr(socket_file.os, "geteuid", lambda: 0)
    with pytest.raises(StartError, match="chmod"):
        listen(path)
    monkeypatch.setattr(socket_file.os, "geteuid", lambda: 1000)
    listen(path, warnings.append).socket.close()
    assert len(warnings) == 1


def test_a_sticky_folder_will_do(path: str) -> None:
    os.chmod(os.path.dirname(path), 0o1777)
    listen(path).socket.close()


def test_only_our_own_file_is_removed(path: str) -> None:
    first = listen(path)
    os.unlink(path)
    second = listen(path)
    first.remove()
    assert os.path.exists(path)
    second.remove()
    assert not os.path.exists(path)
    second.remove()
    first.socket.close()
    second.socket.close()


def test_of_many_starters_over_a_stale_socket_exactly_one_wins(path: str) -> None:
    listen(path).socket.close()
    won: list[ControlSocket] = []
    lost: list[Exception] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        try:
            won.append(listen(path))
        except AlreadyRunningError as error:
            lost.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    won[0].socket.close()
