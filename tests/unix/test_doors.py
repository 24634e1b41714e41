"""Notify sockets for the users that workers become."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.settings import Account
from supervisor.unix.control_socket import listen
from supervisor.unix.doors import Doors
from supervisor.unix.files import LONGEST_PATH
from supervisor.unix.notify import Receiver
from supervisor.unix.sockets import Listeners


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a socket to others")
def test_all_users_get_their_sockets_or_none_does(tmp_path: Path) -> None:
    """What is left of a refused try would not be watched: its user's READY would never be heard."""
    name = str(tmp_path / "n").ljust(LONGEST_PATH - len(".1"), "n")
    doors = Doors(None, listen(str(tmp_path / "control.sock")), Receiver(name), Listeners({}))
    before = set(os.listdir("/proc/self/fd")), set(os.listdir(tmp_path))
    with pytest.raises(OSError, match="too long"):
        doors.admit([Account("one", 1, 1), Account("many", 1_000_000, 1)])
    assert doors.for_users == {}
    assert (set(os.listdir("/proc/self/fd")), set(os.listdir(tmp_path))) == before
    [receiver] = doors.admit([Account("one", 1, 1), Account("also-one", 1, 1)])
    assert (receiver.path, doors.for_users) == (f"{name}.1", {1: receiver})
    assert doors.admit([Account("one", 1, 1)]) == []
    doors.remove()
    doors.control.socket.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a socket to others")
def test_the_socket_of_a_user_that_a_killed_master_left_is_replaced(tmp_path: Path) -> None:
    """It belongs to that user, and is ours all the same."""
    path = str(tmp_path / "notify.65534")
    left = Receiver(path, owner=65534)
    left.socket.close()  # as kill -9 does: the file stays
    again = Receiver(path, owner=65534)
    assert os.stat(path).st_uid == 65534
    again.close()
