"""examples/http_server.py: what its clients see, most of all while it stops."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from listening import dial, place, refuses, written
from load import answer
from program import Program

Start = Callable[..., Program]

ROOT = str(Path(__file__).resolve().parent.parent.parent)
CONFIG = """
    [sockets.http]
    bind = "{bind}"
    [pools.web]
    target = "examples.http_server:run"
    sockets = ["http"]
    options = {{ linger = {linger}, seconds = {seconds} }}
"""
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = 60.0


def start(program: Start, *, linger: float = LONG, seconds: float = 0.0) -> tuple[Program, tuple[str, int]]:
    address = place()
    config = CONFIG.format(bind=written(address), linger=linger, seconds=seconds)
    return program("", config, env={"PYTHONPATH": ROOT}).ready(), address


def ask_to_stop(one: Program) -> None:
    """Return when the worker knows."""
    one.signal(signal.SIGTERM)
    one.wait_for("worker.acknowledged")


def exchange(client: socket.socket, request: bytes = GET) -> str:
    """The head of the answer."""
    client.sendall(request)
    return answer(client)[0]


def ends(head: str) -> bool:
    return "Connection: close" in head


# While it serves


def test_a_connection_is_kept_unless_the_client_wants_it_closed(program: Start) -> None:
    one, address = start(program)
    with dial(address) as client:
        assert not ends(exchange(client))
        assert not ends(exchange(client))
        assert ends(exchange(client, GET.replace(b"Host: x", b"Connection: close")))
        assert client.recv(1) == b""
    with dial(address) as client:
        assert ends(exchange(client, GET.replace(b"1.1", b"1.0")))
    one.stop()


def test_requests_that_come_together_or_in_pieces_are_answered_in_order(program: Start) -> None:
    one, address = start(program)
    with dial(address) as client:
        client.sendall(GET + GET.replace(b"/a", b"/b") + GET[:9])
        said = b""
        while said.count(b"\r\n\r\n") < 2 or b"/b from" not in said:
            said += client.recv(65536)
        assert said.index(b"/a from web.0") < said.index(b"/b from web.0")
        assert not ends(exchange(client, GET[9:]))
    one.stop()


def test_a_body_is_skipped_and_head_has_none(program: Start) -> None:
    one, address = start(program)
    with dial(address) as client:
        post = b"POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
        assert exchange(client, post + b"hello").startswith("HTTP/1.1 200 OK")
        client.sendall(GET.replace(b"GET", b"HEAD") + GET.replace(b"Host: x", b"Connection: close"))
        said = b""
        while data := client.recv(65536):
            said += data
        assert said.count(b"HTTP/1.1 200 OK") == 2
        assert said.count(b"from web.0") == 1
    one.stop()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", "400"),
        (b"GET / HTTP/3\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, "431"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "501"),
        (b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", "501"),
    ],
)
def test_what_it_does_not_understand_is_refused_and_harms_nobody(
    program: Start, sent: bytes, status: str
) -> None:
    one, address = start(program)
    with dial(address) as client:
        head = exchange(client, sent)
        assert head.startswith(f"HTTP/1.1 {status} ")
        assert ends(head)
        assert client.recv(1) == b""
    with dial(address) as client:
        client.sendall(GET[:7])
    with dial(address) as client:
        assert exchange(client).startswith("HTTP/1.1 200 OK")
    one.stop()


# While it stops


def test_a_request_in_hand_is_answered(program: Start) -> None:
    one, address = start(program, seconds=0.5)
    with dial(address) as client:
        client.sendall(GET)
        one.wait_shown("web.0", lambda worker: worker["in_flight"])
        ask_to_stop(one)
        assert ends(answer(client)[0])
    one.wait(0)


def test_a_kept_connection_and_a_new_one_are_answered_once_more(program: Start) -> None:
    """Both may have a request on its way when the stop comes."""
    one, address = start(program)
    with dial(address) as kept, dial(address) as new, dial(address) as half:
        exchange(kept)
        half.sendall(GET[:5])
        with dial(address) as last:  # it is accepted after the others, which therefore are
            exchange(last)
            ask_to_stop(one)
            for client, request in ((kept, GET), (new, GET), (half, GET[5:]), (last, GET)):
                assert ends(exchange(client, request))
                assert client.recv(1) == b""
    one.wait(0)
    assert refuses(address)


def test_an_idle_connection_is_closed_after_a_while(program: Start) -> None:
    one, address = start(program, linger=0.2)
    with dial(address) as client:
        exchange(client)
        ask_to_stop(one)
        assert client.recv(1) == b""
    one.wait(0)


def test_nothing_that_is_sent_before_the_connection_ends_is_reset(program: Start) -> None:
    """A client that sends more than it is answered reads the answer, and then the end."""
    one, address = start(program)
    with dial(address) as client:
        exchange(client)
        ask_to_stop(one)
        client.sendall(GET * 100)
        assert ends(answer(client)[0])
        assert client.recv(65536) == b""
    one.wait(0)


def test_too_few_descriptors_delay_and_end_nothing(program: Start) -> None:
    """EMFILE: who cannot be accepted waits in the queue until others have gone."""
    address = place()
    config = CONFIG.format(bind=written(address), linger=0.1, seconds=0.0)
    one = program("", config + "    limits = { nofile = 24 }\n", env={"PYTHONPATH": ROOT}).ready()
    clients = [dial(address) for _ in range(30)]
    for client in clients[:5]:
        exchange(client)
    pid = one.worker("web.0")
    one.wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= 23)
    for client in clients[:20]:
        client.close()
    for client in clients[20:]:
        assert exchange(client).startswith("HTTP/1.1 200 OK")
        client.close()
    one.stop()
