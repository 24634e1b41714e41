"""The control socket with the real kernel: its file, and the server's limits one by one."""

from __future__ import annotations

import array
import contextlib
import json
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.control import protocol, server
from supervisor.control.client import Client, ControlError, NoMasterError
from supervisor.control.server import Server
from supervisor.errors import AlreadyRunningError, StartError
from supervisor.unix import control_socket
from supervisor.unix.control_socket import ControlSocket, listen
from supervisor.unix.loop import Loop

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
EVENTS = b'{"jsonrpc":"2.0","id":1,"method":"events"}\n'
NOBODY = 65534


class Box:
    """A server in its loop, turned by hand; ``late`` moves its clock."""

    def __init__(self, path: str) -> None:
        self.loop = Loop()
        self.control = listen(path)
        self.asked: list[tuple[str, protocol.Params]] = []
        self.failures: list[Exception] = []
        self.results: dict[str, object] = {"ping": "pong"}
        self.server = Server(self.loop, self.control.socket, self.answer, self.failures.append)
        self.late = 0.0
        self.path = path
        self.to_publish: list[dict[str, object]] = []

    def answer(self, method: str, params: protocol.Params) -> object:
        self.asked.append((method, params))
        result = self.results.get(method, True)
        if isinstance(result, Exception):
            raise result
        return result

    def turn(self, wait: float = 0.0) -> int:
        """One turn of a master; how many things were seen."""
        seen = self.loop.poll(self.loop.now() + wait)
        now = self.loop.now() + self.late
        for one in seen:
            self.server.seen(one, now)
        self.server.expire(now)
        while self.to_publish:
            self.server.publish(self.to_publish.pop(0))
        return len(seen)

    def settle(self) -> None:
        """Turn until nothing is left to do."""
        for _ in range(10_000):
            if not self.turn():
                return
        raise AssertionError("the server spins")

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.settimeout(10)
        return client

    def ask(self, data: bytes) -> list[Any]:
        """Send, turn, and read what came back, line by line."""
        with self.connect() as client:
            client.sendall(data)
            self.settle()
            return lines(client)

    def close(self) -> None:
        self.server.close()
        self.control.remove()
        self.loop.close()


def received(client: socket.socket) -> bytes:
    """Whatever is there now."""
    data = b""
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionResetError):
        while chunk := client.recv(1 << 20):
            data += chunk
    return data


def lines(client: socket.socket) -> list[Any]:
    return [json.loads(line) for line in received(client).splitlines()]


def closed(client: socket.socket) -> bool:
    """Whether the other end is gone, once all that it sent is read."""
    received(client)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "c.sock")


@pytest.fixture
def box(path: str) -> Iterator[Box]:
    before = len(os.listdir("/proc/self/fd"))
    found = Box(path)
    yield found
    found.close()
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"


# The file.


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
    assert (os.stat(path).st_dev, os.stat(path).st_ino) == first.identity
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
    monkeypatch.setattr(control_socket.os, "geteuid", lambda: 0)
    with pytest.raises(StartError, match="chmod"):
        listen(path)
    monkeypatch.setattr(control_socket.os, "geteuid", lambda: 1000)
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


# Asking.


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


# Streams.


def follow(box: Box) -> socket.socket:
    client = box.connect()
    client.sendall(EVENTS)
    box.settle()
    assert lines(client) == [{"jsonrpc": "2.0", "id": 1, "result": True}]
    return client


def test_a_stream_gets_every_event_after_its_reply_in_order(box: Box) -> None:
    box.server.publish({"event": "too.early"})
    with follow(box) as client:
        for number in range(100):
            box.server.publish({"event": "a", "number": number})
        box.settle()
        assert [event["number"] for event in lines(client)] == list(range(100))


def test_a_stream_has_no_idle_deadline_and_costs_no_turn(box: Box) -> None:
    with follow(box) as client:
        assert box.server.deadline() is None
        assert box.turn() == 0
        assert not closed(client)


def test_a_half_closed_stream_goes_on_and_a_closed_one_ends(box: Box) -> None:
    with follow(box) as client:
        client.shutdown(socket.SHUT_WR)
        box.settle()
        box.server.publish({"event": "a"})
        box.settle()
        assert lines(client) == [{"event": "a"}]
        before = len(box.server.fds())
    box.settle()
    assert len(box.server.fds()) == before - 1


def test_a_stream_that_reads_too_slowly_is_dropped_with_a_last_line(box: Box) -> None:
    with follow(box) as slow, follow(box) as quick:
        for _ in range(40):
            box.server.publish({"event": "a", "message": "x" * 65536})
            box.settle()
            received(quick)
        box.server.publish({"event": "last"})
        box.settle()
        assert [event["event"] for event in lines(quick)] == ["last"]
        data = b""
        while not closed_after(slow):
            data += received(slow)
            box.settle()
        events = [json.loads(line)["event"] for line in data.splitlines()]
        assert set(events[:-1]) == {"a"}
        assert events[-1] == "stream.dropped"


def closed_after(client: socket.socket) -> bool:
    """Whether the other end is gone and nothing is left to read."""
    client.setblocking(False)
    try:
        return client.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False


def test_a_dropped_stream_that_still_does_not_read_is_closed_after_its_time(box: Box) -> None:
    with follow(box):
        for _ in range(40):
            box.server.publish({"event": "a", "message": "x" * 65536})
            box.settle()
        box.late = server.IDLE + 1
        box.turn()
        assert box.server.fds() == {box.control.socket.fileno()}


def test_the_last_event_reaches_the_stream_before_the_end(box: Box) -> None:
    with follow(box) as client:
        box.server.publish({"event": "master.exiting"})
        box.server.finish()
        assert lines(client) == [{"event": "master.exiting"}]
        assert closed(client)


def test_finish_does_not_wait_long_for_who_does_not_read(box: Box) -> None:
    with follow(box):
        for _ in range(14):
            box.server.publish({"event": "a", "message": "x" * 65536})
        before = box.loop.now()
        box.server.finish()
        assert server.FLUSH - 0.1 < box.loop.now() - before < server.FLUSH + 1


# The client's end.


@pytest.fixture
def running(box: Box) -> Iterator[Box]:
    """The box, turned by a thread."""
    stopping = threading.Event()

    def turn() -> None:
        while not stopping.is_set():
            box.turn(0.05)

    thread = threading.Thread(target=turn)
    thread.start()
    yield box
    stopping.set()
    thread.join()


def test_the_client_asks_and_is_answered(running: Box) -> None:
    assert Client(running.path).call("ping") == "pong"
    Client(running.path).call("scale", pool="a", workers=3)
    assert running.asked[-1] == ("scale", {"pool": "a", "workers": 3})


def test_the_client_raises_what_the_master_refuses(running: Box) -> None:
    with pytest.raises(ControlError, match="scale: 'workers' must be") as error:
        Client(running.path).call("scale", pool="a", workers=-1)
    assert error.value.code == protocol.INVALID_PARAMS


def test_the_client_knows_the_pid_of_the_master_and_follows_its_events(running: Box) -> None:
    with Client(running.path).events() as events:
        assert events.pid == os.getpid()
        assert events.next(timeout=0) is None
        running.to_publish.append({"event": "a"})
        assert events.next(timeout=10) == {"event": "a"}


def test_no_socket_and_nobody_behind_it_are_both_no_master(path: str) -> None:
    with pytest.raises(NoMasterError, match="supervisord-lite start") as error:
        Client(path).call("ping")
    assert error.value.status == 3
    listen(path).socket.close()
    with pytest.raises(NoMasterError):
        Client(path).call("ping")


def test_a_master_that_does_not_answer_is_told_apart(path: str) -> None:
    control = listen(path)
    with pytest.raises(ControlError, match="kill -CONT"):
        Client(path, timeout=0.05).call("ping")
    control.socket.close()


def test_the_end_of_the_stream_is_the_end_of_the_iterator(box: Box) -> None:
    seen: list[dict[str, Any]] = []

    def follow_all() -> None:
        with Client(box.path).events() as events:
            seen.extend(events)

    thread = threading.Thread(target=follow_all)
    thread.start()
    while not any(c.streaming for c in box.server._clients.values()):
        box.turn(1)
    box.settle()
    box.server.publish({"event": "master.exiting"})
    box.server.finish()
    thread.join()
    assert seen == [{"event": "master.exiting"}]
