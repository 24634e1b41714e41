"""Asking the control server, and its limits one by one, with the real kernel."""

from __future__ import annotations

import array
import contextlib
import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_box import NOBODY, PING, Box, closed, lines, opened, received

from supervisor.control import protocol, server


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with opened(str(tmp_path / "c.sock")) as found:
        yield found


def test_a_request_is_answered(box: Box) -> None:
    assert box.ask(PING) == [{"jsonrpc": "2.0", "id": 1, "result": "pong"}]


def test_several_requests_on_one_connection_are_answered_in_order(box: Box) -> None:
    requests = b"".join(PING.replace(b"1,", b"%d," % n) for n in range(100))
    assert [reply["id"] for reply in box.ask(requests)] == list(range(100))


def test_a_request_may_come_byte_by_byte(box: Box) -> None:
    with box.connect() as client:
        for byte in PING:
            client.send(bytes([byte]))
            box.settle()
        assert len(lines(client)) == 1


def test_a_half_closed_client_gets_its_reply_and_the_end(box: Box) -> None:
    with box.connect() as client:
        client.sendall(PING + PING.rstrip(b"\n"))  # the last one without its newline
        client.shutdown(socket.SHUT_WR)
        box.settle()
        assert len(lines(client)) == 2
        assert closed(client)


def test_a_notification_counts_though_its_client_is_gone(box: Box) -> None:
    with box.connect() as client:
        client.sendall(b'{"jsonrpc":"2.0","method":"quiet"}\n')
    box.settle()
    assert box.asked == [("quiet", {})]


def test_more_requests_than_a_turn_takes_are_all_answered_though_the_client_has_ended(box: Box) -> None:
    count = server.REQUESTS * 3
    with box.connect() as client:
        client.sendall((PING * count).rstrip(b"\n"))
        client.shutdown(socket.SHUT_WR)
        box.settle()
        assert len(lines(client)) == count


def test_a_client_that_dies_before_its_reply_is_ignored(box: Box) -> None:
    with box.connect() as client:
        client.sendall(PING * 50)
    box.settle()
    assert box.server.deadline() is None
    assert box.ask(PING)


def test_bad_lines_get_errors_and_the_connection_goes_on(box: Box) -> None:
    replies = box.ask(b"garbage\n\n\x00\xff\n" + b"[" * 60_000 + b"\n" + PING)
    assert [r.get("error", {}).get("code") for r in replies] == [protocol.PARSE_ERROR] * 4 + [None]


def test_an_answer_that_raises_harms_nobody_and_is_told(box: Box) -> None:
    box.results["status"] = KeyError("bug")
    reply = box.ask(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n')
    assert reply[0]["error"]["code"] == protocol.INTERNAL_ERROR
    assert [type(f) for f in box.failures] == [KeyError]


def test_an_answer_that_is_no_json_harms_nobody(box: Box) -> None:
    box.results["status"] = {"memory": float("nan")}
    reply = box.ask(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n')
    assert reply[0]["error"]["code"] == protocol.INTERNAL_ERROR
    assert box.ask(PING)


# Limits.


def test_without_clients_nothing_waits_for_time(box: Box) -> None:
    assert box.server.deadline() is None
    box.ask(PING)
    box.settle()
    assert box.server.deadline() is None
    assert box.turn() == 0


def test_a_line_above_64_KiB_is_refused_and_closed_without_being_kept(box: Box) -> None:
    with box.connect() as client:
        client.setblocking(False)
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):  # up to 64 MB
                with contextlib.suppress(BlockingIOError):
                    sent += client.send(b"x" * 65536)
                box.settle()
        assert sent < 1 << 20
        replies = lines(client)
        assert [r["error"]["code"] for r in replies] == [protocol.INVALID_REQUEST]
        assert closed(client)
    assert box.ask(PING)


def test_a_line_of_64_KiB_is_taken(box: Box) -> None:
    line = PING.rstrip(b"\n")
    line += b" " * (protocol.LINE_LIMIT - len(line))
    assert box.ask(line + b"\n")[0]["result"] == "pong"


def test_a_client_without_a_complete_request_is_closed_after_its_time(box: Box) -> None:
    with box.connect() as client:
        client.sendall(b'{"jsonrpc"')
        box.settle()
        deadline = box.server.deadline()
        assert deadline is not None
        assert server.IDLE - 1 < deadline - box.loop.now() <= server.IDLE
        box.late = server.IDLE - 1
        client.sendall(b":")  # a byte now and then does not help
        box.settle()
        assert not closed(client)
        box.late = server.IDLE + 1
        box.turn()
        assert closed(client)
    assert box.server.deadline() is None


def test_each_complete_request_gives_new_time(box: Box) -> None:
    with box.connect() as client:
        box.settle()
        box.late = server.IDLE - 1
        client.sendall(PING)
        box.settle()
        box.late = server.IDLE + 1
        box.turn()
        assert not closed(client)


def test_further_clients_are_closed_at_once_with_the_reason(box: Box) -> None:
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(server.MOST_CLIENTS + 10):
            clients.append(stack.enter_context(box.connect()))
            box.settle()
        extra = clients[server.MOST_CLIENTS :]
        assert all(lines(c)[0]["error"]["code"] == protocol.BUSY and closed(c) for c in extra)
        clients[0].sendall(PING)
        box.settle()
        assert lines(clients[0])
    box.settle()
    assert box.ask(PING)


def test_ten_thousand_connects_leave_every_turn_short(box: Box) -> None:
    longest = 0.0
    for _ in range(10_000 // 50):
        burst = [box.connect() for _ in range(50)]
        while True:
            start = box.loop.now()
            seen = box.turn()
            longest = max(longest, box.loop.now() - start)
            if not seen:
                break
        for client in burst:
            client.close()
    box.settle()
    assert longest < 0.5
    assert box.server.deadline() is None


def test_a_client_that_never_reads_stalls_itself_alone_and_is_closed(box: Box) -> None:
    box.results["status"] = "x" * (4 << 20)
    with box.connect() as deaf:
        deaf.sendall(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n' * 100)
        box.settle()
        assert len(box.asked) == 1, "the next request waits until the last reply has left"
        assert box.ask(PING)
        box.late = server.IDLE + 1
        box.turn()
        assert box.server.deadline() is None


def test_a_big_reply_reaches_a_client_that_reads(box: Box) -> None:
    box.results["status"] = "x" * (4 << 20)
    with box.connect() as client:
        client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n' + PING)
        data = b""
        while data.count(b"\n") < 2:
            box.settle()
            data += received(client)
    first, second = data.splitlines()
    assert len(json.loads(first)["result"]) == 4 << 20
    assert json.loads(second)["result"] == "pong"


def test_descriptors_that_a_client_passes_are_not_taken(box: Box) -> None:
    with box.connect() as client:
        box.settle()
        before = len(os.listdir("/proc/self/fd"))
        rights = array.array("i", [client.fileno()] * 200)
        client.sendmsg([PING], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        box.settle()
        assert lines(client)
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_user_gets_one_line_and_the_end(box: Box) -> None:
    os.chmod(os.path.dirname(box.path), 0o755)
    os.chmod(box.path, 0o666)  # as if somebody had opened it up
    with socket.socket(socket.AF_UNIX) as client:
        _connect_as(NOBODY, client, box.path)
        box.settle()
        assert [r["error"]["code"] for r in lines(client)] == [protocol.FORBIDDEN]
        assert closed(client)
    assert box.asked == []


def _connect_as(uid: int, client: socket.socket, path: str) -> None:
    """Connect with the credentials of ``uid``; the path may lie in folders closed to it."""
    here = os.open(".", os.O_RDONLY)
    os.chdir(os.path.dirname(path))
    os.seteuid(uid)
    try:
        client.connect(os.path.basename(path))
    finally:
        os.seteuid(0)
        os.fchdir(here)
        os.close(here)


def test_accept_without_free_descriptors_pauses_for_a_second(box: Box) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with box.connect() as client:
        highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
        fillers = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    fillers.append(os.dup(0))
            box.turn()
            assert box.turn() == 0, "the listener is not polled during the pause"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in fillers:
                os.close(fd)
        deadline = box.server.deadline()
        assert deadline is not None
        assert 0 < deadline - box.loop.now() <= server.PAUSE
        box.late = server.PAUSE + 0.1
        box.turn()
        client.sendall(PING)
        box.settle()
        assert lines(client)
