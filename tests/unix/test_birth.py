"""What a forked worker keeps of the master and what it gets: descriptors, output, environment, session."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from births import Born, bear, make, say

from supervisor.child.birth import Birth, settle
from supervisor.settings import Account

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def settled(birth: Birth, look: Callable[[Birth], object]) -> Born:
    """A child that settles, and says what it sees then."""

    def run(birth: Birth, tell: Callable[..., None]) -> int:
        there = settle(birth, tell)
        if there is None:
            return 1
        say(there, look(there))
        return 0

    return bear(birth, run)


def descriptors() -> dict[int, str]:
    """What is open here, but for the folder that this looks into."""
    links = {int(fd): f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")}
    return {
        fd: os.readlink(link) for fd, link in links.items() if os.path.exists(link) or os.path.islink(link)
    }


def port(fd: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as server:
        return int(server.getsockname()[1])


def kept(birth: Birth) -> tuple[dict[int, str], int]:
    return {fd: link for fd, link in descriptors().items() if fd > 2}, birth.notify_fd


def test_only_the_intended_descriptors_are_left(tmp_path: Path) -> None:
    """Of all that the master has open: the socket to the master, whose number need not change."""
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    born = settled(make(tmp_path), kept)
    links, notify = born.said
    assert list(links) == [str(notify)]
    assert links[str(notify)].startswith("socket:")
    for fd in opened:
        os.close(fd)


@pytest.mark.parametrize("kind", [{"target": "a:b"}, {"target": None, "command": ("x",)}])
def test_sockets_stand_at_three_and_up_in_their_order(tmp_path: Path, kind: dict[str, object]) -> None:
    """Both kinds are told of them; only a command passes them on when it is executed."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        listeners = (("b", two.fileno()), ("a", one.fileno()))
        born = settled(
            make(tmp_path, pool=kind, listeners=listeners),
            lambda birth: {
                "listeners": birth.listeners,
                "ports": [port(fd) for _, fd in birth.listeners],
                "blocking": [os.get_blocking(fd) for _, fd in birth.listeners],
                "passed on": [os.get_inheritable(fd) for _, fd in birth.listeners],
                "environment": {k: v for k, v in os.environ.items() if k.startswith("LISTEN_")},
                "pid": str(os.getpid()),
                "open": sorted({*descriptors()} - {birth.notify_fd}),
            },
        )
        said = born.said
        assert said["listeners"] == [["b", 3], ["a", 4]]
        assert said["ports"] == [two.getsockname()[1], one.getsockname()[1]]
        assert said["blocking"] == [True, True]
        assert said["passed on"] == [kind["target"] is None] * 2
        assert said["environment"] == {
            "LISTEN_FDS": "2",
            "LISTEN_FDNAMES": "b:a",
            "LISTEN_PID": said["pid"],
        }
        assert said["open"] == [0, 1, 2, 3, 4]


def test_the_way_to_the_master_survives_sockets_that_take_its_place(tmp_path: Path) -> None:
    """It stands at 3 in this child: it moves, and what is said arrives."""

    def run(birth: Birth, tell: Callable[..., None]) -> int:
        for fd in range(3, 12):
            if fd != birth.notify_fd:
                os.dup2(birth.notify_fd, fd)
        with socket.create_server(("127.0.0.1", 0)) as server:
            wanted = (("a", server.fileno()), ("b", os.dup(server.fileno())))
            there = settle(make(tmp_path, listeners=wanted, notify_fd=3), tell)
            assert there is not None
            say(there, [there.notify_fd not in (3, 4), [fd for _, fd in there.listeners]])
            os._exit(0)

    assert bear(make(tmp_path), run).said == [True, [3, 4]]


def test_without_sockets_nothing_is_said_of_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    born = settled(make(tmp_path), lambda _: [name for name in os.environ if name.startswith("LISTEN_")])
    assert born.said == []


def test_output_goes_where_it_should_and_the_pipes_are_not_held_twice(tmp_path: Path) -> None:
    """One pipe for both; its end of file comes with the worker's end."""
    reader, writer = os.pipe()

    def run(birth: Birth, tell: Callable[..., None]) -> int:
        sys.stdout = os.fdopen(1, "w", closefd=False)  # as in a program; the runner has its own
        there = settle(birth, tell)
        assert there is not None
        say(there, prints(there))
        return 0

    def prints(birth: Birth) -> object:
        os.write(1, b"out ")
        os.write(2, b"err ")
        sys.stdout.write("by lines\n")
        if birth.slot == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return sorted({*descriptors()} - {birth.notify_fd})

    with open(reader, "rb") as file:
        born = bear(make(tmp_path, stdout=writer, stderr=writer), run)
        killed = bear(make(tmp_path, stdout=writer, stderr=writer, slot=4), run)
        os.close(writer)
        assert file.read() == b"out err by lines\n" * 2
    assert born.said == [0, 1, 2]
    assert killed.code == -signal.SIGKILL


def test_silence_is_the_null_device(tmp_path: Path) -> None:
    born = settled(
        make(tmp_path, pool={"stdout": "null", "stderr": "null"}),
        lambda birth: [{fd: link for fd, link in descriptors().items() if fd in (1, 2)}, kept(birth)[0]],
    )
    standard, rest = born.said
    assert standard == {"1": "/dev/null", "2": "/dev/null"}
    assert len(rest) == 1


def test_the_environment_of_the_contract_is_over_the_pools_and_that_over_the_users(tmp_path: Path) -> None:
    account = Account("ann", os.geteuid(), os.getegid(), tuple(os.getgroups()), "/home/ann", "/bin/ann")
    pool = {"user": "ann", "env": {"HOME": "/elsewhere", "SUPERVISOR_SLOT": "9"}, "watchdog": 2.5}
    born = settled(make(tmp_path, pool=pool, account=account), lambda _: [dict(os.environ), os.getpid()])
    said, pid = born.said
    expected = {
        "HOME": "/elsewhere",
        "USER": "ann",
        "LOGNAME": "ann",
        "SHELL": "/bin/ann",
        "SUPERVISOR_NAME": "m",
        "SUPERVISOR_POOL": "web",
        "SUPERVISOR_SLOT": "3",
        "SUPERVISOR_WORKER": "web.3",
        "SUPERVISOR_GENERATION": "7",
        "NOTIFY_SOCKET": "/notify",
        "WATCHDOG_USEC": "2500000",
        "WATCHDOG_PID": str(pid),
    }
    assert {name: said.get(name) for name in expected} == expected


def test_a_session_of_its_own_with_a_parent_whose_death_is_told(tmp_path: Path) -> None:
    """A worker whose master is another than the parent it finds is told to leave at once."""
    born = settled(make(tmp_path), lambda _: [os.getsid(0) == os.getpgrp() == os.getpid()])
    assert born.said == [True]
    gone = settled(
        make(tmp_path, parent=1), lambda _: [int(n) for n in signal.sigpending()]
    )  # signals are still blocked
    assert gone.said == [signal.SIGTERM]


def test_it_works_in_the_folder_of_the_pool_else_of_the_master(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    assert settled(make(tmp_path, pool={"working_dir": str(there)}), lambda _: os.getcwd()).said == str(there)
    assert settled(make(tmp_path), lambda _: os.getcwd()).said == str(tmp_path)


def test_the_path_of_a_reload_is_the_only_one(tmp_path: Path) -> None:
    assert settled(make(tmp_path, path=("/a", "/b")), lambda _: sys.path).said == ["/a", "/b"]
    assert settled(make(tmp_path), lambda _: sys.path).said == sys.path


def test_a_refusal_is_told_twice_and_the_master_of_a_command_hears_that_it_did_not_begin(
    tmp_path: Path,
) -> None:
    """In the log, and in one line to the master; a byte in the pipe, whose end alone would mean success."""
    reader, writer = os.pipe()
    born = settled(make(tmp_path / "gone", told=writer), lambda _: "must not be reached")
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"x"
    reason = (
        f"cannot enter the working_dir {tmp_path}/gone as uid {os.geteuid()}: No such file or directory; "
        "make it, or let that user into it and the folders above"
    )
    assert born == Born(1, [f"X_ERROR={reason}"], [{"event": "worker.error", "reason": reason}])


def test_nothing_new_is_imported_for_a_plain_worker(tmp_path: Path) -> None:
    """Every module is a copy of pages in each worker."""
    before = set(sys.modules)
    said = settled(make(tmp_path), lambda _: sorted(sys.modules)).said
    assert set(said) - before == set()
    assert {"pwd", "grp"} & {name for name in said if name not in before} == set()
