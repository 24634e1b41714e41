"""A small HTTP server as a target: how to share a listening socket, and to leave it without a lost request.

    [sockets.http]
    bind = "127.0.0.1:8000"
    [pools.web]
    target = "examples.http_server:run"
    sockets = ["http"]
    workers = 4

What a stop asks of whoever accepts connections is in `run` and `drain`: accept no
more, answer what was sent, and have clients that keep their connection close it
by themselves.  It speaks as much HTTP/1.1 as that needs: no chunked bodies, no
limit of time on a slow client.  `docs/sockets.md` tells why it is done this way.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor import Worker

LINGER = 1.0  # seconds that a client may keep a connection without a request once we stop
PART = 1.0  # seconds that it may take to close after our last answer
PAUSE = 0.1  # seconds without accepting, after the machine refused to
LARGEST_HEAD = 16_384
CHUNK = 65_536


@dataclass
class Client:
    """One connection."""

    connection: socket.socket
    unread: bytes = b""
    busy: bool = False  # a request has begun and is not answered yet


@dataclass(frozen=True)
class Request:
    """As much of it as is looked at here."""

    method: str
    target: str
    last: bool  # the client wants no further one on this connection


class Mistake(Exception):  # noqa: N818  # it is the client's
    """What was sent cannot be answered; the text is a status line."""


async def run(worker: Worker) -> None:
    """Accept and answer until asked to stop, then finish what is in hand."""
    loop, listener = asyncio.get_running_loop(), worker.sockets["http"]
    listener.setblocking(False)  # another worker may be faster: accept() must not wait for the next one
    clients: dict[asyncio.Task[None], Client] = {}

    def accept() -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptors left: the listener stays readable, so look away for a while
            loop.remove_reader(listener)
            loop.call_later(PAUSE, go_on)
            return
        connection.setblocking(False)
        client = Client(connection)
        task = loop.create_task(converse(worker, client))
        clients[task] = client
        task.add_done_callback(clients.pop)

    def go_on() -> None:
        if not worker.stopping:
            loop.add_reader(listener, accept)

    go_on()
    await worker.stopped()
    loop.remove_reader(listener)  # what waits in its queue is for the others, or for our successor
    await drain(clients, worker.options.get("linger", LINGER))


async def drain(clients: dict[asyncio.Task[None], Client], linger: float) -> None:
    """Answer everybody once more, and say with it that the connection ends.

    To close at once would lose the requests that are on their way.  Who has
    sent nothing for ``linger`` seconds is idle, and nearly always closed safely.
    """
    while clients:
        await asyncio.wait(clients, timeout=linger)
        for client in clients.values():
            if not client.busy:
                hang_up(client, socket.SHUT_RD)  # ends its recv(), after what was received


async def converse(worker: Worker, client: Client) -> None:
    """Answer the requests of one connection, one after the other."""
    try:
        while request := await read(client):
            with worker.job():
                body = await answer(worker, request)
                last = request.last or worker.stopping
                await write(client, "200 OK", body, request, last=last)
            client.busy = False
            if last:  # and not `worker.stopping`: who was not told may be sending the next one
                break
    except Mistake as mistake:
        await write(client, str(mistake), b"", None, last=True)
    except OSError:  # the client is gone
        pass
    finally:
        await part(client)


async def answer(worker: Worker, request: Request) -> bytes:
    """The application."""
    if seconds := worker.options.get("seconds"):
        await asyncio.sleep(seconds)
    return f"{request.target} from {worker.id}, generation {worker.generation}\n".encode()


async def read(client: Client) -> Request | None:
    """The next request; None where the client has no more."""
    while b"\r\n\r\n" not in client.unread:
        client.busy = bool(client.unread)
        if len(client.unread) > LARGEST_HEAD:
            raise Mistake("431 Request Header Fields Too Large")
        if not await receive(client):
            return None
    client.busy = True
    head, _, client.unread = client.unread.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip().lower() for name, _, value in (one.partition(":") for one in lines)
    }
    await skip_body(client, headers)
    match first.split(" "):
        case [method, target, "HTTP/1.1"]:
            return Request(method, target, last=headers.get("connection") == "close")
        case [method, target, "HTTP/1.0"]:
            return Request(method, target, last=True)
    raise Mistake("400 Bad Request")


async def skip_body(client: Client, headers: dict[str, str]) -> None:
    """Else it would be taken for the next request."""
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isdecimal():
        raise Mistake("501 Not Implemented")
    left = int(length)
    while len(client.unread) < left:
        left, client.unread = left - len(client.unread), b""
        if not await receive(client):
            raise Mistake("400 Bad Request")
    client.unread = client.unread[left:]


async def receive(client: Client) -> bool:
    """Take in what comes; false at the end."""
    data = await asyncio.get_running_loop().sock_recv(client.connection, CHUNK)
    client.unread += data
    client.busy = client.busy or bool(data)
    return bool(data)


async def write(client: Client, status: str, body: bytes, request: Request | None, *, last: bool) -> None:
    """Send one response."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    end = "Connection: close\r\n\r\n" if last else "\r\n"
    sent = b"" if request and request.method == "HEAD" else body
    await asyncio.get_running_loop().sock_sendall(client.connection, (head + end).encode() + sent)


async def part(client: Client) -> None:
    """Close so that the last answer arrives: close() with something unread would reset the connection."""
    hang_up(client, socket.SHUT_WR)
    try:
        await asyncio.wait_for(read_to_the_end(client), PART)
    except (OSError, asyncio.TimeoutError):
        pass
    finally:
        client.connection.close()


async def read_to_the_end(client: Client) -> None:
    while await receive(client):
        client.unread = b""


def hang_up(client: Client, direction: int) -> None:
    """One direction of a connection; the other end may have been faster."""
    try:
        client.connection.shutdown(direction)
    except OSError:
        return
