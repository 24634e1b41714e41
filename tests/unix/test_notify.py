"""The sd_notify protocol over real sockets, in both directions."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.unix import process
from supervisor.unix.notify import QUEUE, Receiver, Systemd, form, parse, watchdog_interval


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    receiver = Receiver(str(tmp_path / "notify"))
    yield receiver
    receiver.close()
    assert not os.path.exists(receiver.path)


def heard(receiver: Receiver) -> list[tuple[int, dict[str, str]]]:
    return list(receiver.messages())


def test_the_kernel_names_the_sender(receiver: Receiver) -> None:
    """By the inherited socket and by the path; whatever pid the text claims."""
    with receiver.sender() as end, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        end.send(b"READY=1\nSTATUS=up")
        other.sendto(b"MAINPID=1\nX_PID=1", receiver.path)
    assert heard(receiver) == [
        (os.getpid(), {"READY": "1", "STATUS": "up"}),
        (os.getpid(), {"MAINPID": "1", "X_PID": "1"}),
    ]
    assert heard(receiver) == []


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_sender_cannot_claim_to_be_another(receiver: Receiver) -> None:
    """SCM_CREDENTIALS with a foreign pid is refused by the kernel to all but root."""
    with receiver.sender() as end:
        credentials = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())

        def claim() -> int:
            if os.getuid() == 0:
                os.setresuid(65534, 65534, 65534)
            try:
                end.sendmsg([b"READY=1"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
            except PermissionError:
                return 0
            return 1

        assert os.waitpid(process.fork_all([claim])[0], 0)[1] == 0
    assert heard(receiver) == []


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\n\n", b"=", b"=x\n==", b"READY", b"\xff\xfe=\n", os.urandom(9000), b"x" * 100_000]
)
def test_garbage_is_no_assignment_and_no_error(receiver: Receiver, data: bytes) -> None:
    """Empty, binary, too long: what is left of it means nothing, and the next message is heard."""
    with receiver.sender() as end:
        end.send(data)
        end.send(b"READY=1")
        messages = heard(receiver)
    assert messages[-1] == (os.getpid(), {"READY": "1"})
    assert all("READY" not in message for _, message in messages[:-1])


def test_a_flood_is_taken_in_bounded_portions(receiver: Receiver) -> None:
    """A turn reads so many; the sender's queue is bounded by the kernel, and it may not block."""
    with receiver.sender() as end:
        end.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            for sent in range(100_000):  # noqa: B007  # how many went through
                end.send(b"WATCHDOG=1")
    assert 3 < sent < 99_999
    assert len(list(receiver.messages(most=3))) == 3
    assert len(list(receiver.messages(most=sent))) == sent - 3


def test_a_turn_reads_what_was_there_and_not_what_comes_meanwhile(receiver: Receiver) -> None:
    """As many as the queue holds: who sends while we read does not keep us reading."""
    with receiver.sender() as end:
        end.setblocking(False)
        longest = int(Path(QUEUE).read_text()) + 1
        end.send(b"X_JOBS=0")
        read = 0
        for _ in receiver.messages():
            read += 1
            end.send(b"X_JOBS=1")
    assert read == min(longest, 1024)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"A=B\n" * 100 + b"READY=1", {"A": "B"}),
        (b"\n" * 60_000 + b"READY=1", {}),
        (b"STATUS=" + b"\xff" * 60_000, {}),
        (b"STATUS=gr\xfc\xdfe", {"STATUS": "gr\ufffd\ufffde"}),
        (b"READY=1\nSTATUS=" + b"x" * 60_000, {"READY": "1", "STATUS": "x" * 60_000}),
    ],
)
def test_only_so_much_of_a_message_is_looked_at(data: bytes, message: dict[str, str]) -> None:
    """64 lines, and in a long one nothing that is no UTF-8: hundreds of them are read in one turn."""
    assert parse(data) == message


def test_descriptors_that_come_along_are_closed(receiver: Receiver) -> None:
    """One or two hundred: none stays; to the sender of BARRIER=1 that is the answer."""
    before = set(os.listdir("/proc/self/fd"))
    for count in (1, 16, 17, 200):
        ours, theirs = os.pipe()
        with receiver.sender() as end:
            socket.send_fds(end, [b"BARRIER=1"], [theirs] * count)
        os.close(theirs)
        heard(receiver)
        assert os.read(ours, 1) == b""
        os.close(ours)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_socket_that_a_killed_master_left_is_replaced(tmp_path: Path) -> None:
    """Only our own user may write by the path, whatever the umask."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as old:
        old.bind(str(path))
    before = os.umask(0)
    try:
        receiver = Receiver(str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    receiver.close()


def test_what_is_formed_is_parsed_again() -> None:
    """A newline or a lone surrogate in a value forges nothing."""
    data = form(READY=1, STATUS="a\nSTOPPING=1 \udcff =b")
    assert parse(data) == {"READY": "1", "STATUS": "a STOPPING=1 ? =b"}


# -- to the service manager ----------------------------------------------------


@contextlib.contextmanager
def towards(address: str | None) -> Iterator[Systemd]:
    systemd = Systemd({} if address is None else {"NOTIFY_SOCKET": address})
    yield systemd
    if systemd._socket:
        systemd._socket.close()


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    """By a path, or by a name in the abstract namespace."""
    name = f"@supervisord-lite-{os.getpid()}" if abstract else str(tmp_path / "manager")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        with towards(name) as systemd:
            systemd.send(READY=1, STATUS="all\nis well")
        assert manager.recv(4096) == b"READY=1\nSTATUS=all is well"
    assert systemd.problem is None


def test_nobody_listens_and_nothing_is_opened() -> None:
    """Without NOTIFY_SOCKET it is silent."""
    before = os.listdir("/proc/self/fd")
    with towards(None) as systemd:
        systemd.send(READY=1)
        assert systemd.problem is None
        assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("name", ["relative/path", "vsock:2:1", "/" + "x" * 107, "@" + "y" * 120, "é"])
def test_an_address_that_is_none_is_a_problem_and_no_error(name: str) -> None:
    """Said once, in words."""
    with towards(name) as systemd:
        systemd.send(READY=1)
    assert systemd.problem
    assert "nothing is notified" in systemd.problem


def test_a_manager_that_is_gone_or_does_not_read_never_blocks(tmp_path: Path) -> None:
    """ENOENT, ECONNREFUSED and a full queue lose the message."""
    path = tmp_path / "manager"
    with towards(str(path)) as systemd:
        systemd.send(READY=1)
        assert "No such file" in str(systemd.problem)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(path))
            for _ in range(2000):
                systemd.send(WATCHDOG=1)
        assert "temporarily unavailable" in str(systemd.problem)
        systemd.send(STOPPING=1)
        assert "Connection refused" in str(systemd.problem)


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "abc"}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "abc"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_interval(environ: dict[str, str], seconds: float | None) -> None:
    """Half of what the manager allows, and only if it means this process."""
    assert watchdog_interval(environ) == seconds


def test_many_senders_at_once_are_all_heard(receiver: Receiver) -> None:
    """Datagrams are whole: no message of one mixes with another's."""

    def send(number: int) -> None:
        with receiver.sender() as end:
            for count in range(50):
                end.send(form(X_JOBS=count, STATUS=f"{number}" * 200))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    messages: list[dict[str, str]] = []
    while len(messages) < 200:
        messages += [message for _, message in receiver.messages()]
    for thread in threads:
        thread.join()
    texts = [message["STATUS"] for message in messages]
    assert {text: texts.count(text) for text in texts} == {f"{n}" * 200: 50 for n in range(4)}
