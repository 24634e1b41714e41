"""The master's end of the control socket: clients, their limits, the event streams.

Runs inside the master's loop and never blocks it (only `finish`, after the
last turn, may wait, and not long).  What a method does is `answer`'s matter.
A client's next request waits while replies pile up unread, or while an answer is not
known yet (`reply` brings it), so all that a client
can make the master hold is one line, `ENOUGH` and one reply; a stream that
reads too slowly is dropped.  Without clients it costs no wakeup.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Mapping

from supervisor.control import protocol
from supervisor.control.caller import IDLE, Caller
from supervisor.control.protocol import Refusal
from supervisor.unix.control_socket import peer
from supervisor.unix.loop import READ, WRITE, Loop, Seen

MOST_CLIENTS = 64
STREAM_LIMIT = 1024 * 1024  # unread events that a stream may pile up
ACCEPTS = 64  # a turn: a flood of connects must not keep the master from its workers
REQUESTS = 16  # a client and turn, for the same reason
ENOUGH = 64 * 1024  # unread replies, in bytes, that make a client's next request wait
HUNG_UP = select.EPOLLHUP | select.EPOLLERR
PAUSE = 1.0  # after an accept that failed for want of descriptors or memory
FLUSH = 1.0  # seconds that `finish` may take in all

LEFT = "the master has left, and it is not known whether this is stored; ask the next one"
NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
DROPPED = protocol.encode(
    {"level": "warning", "event": "stream.dropped", "message": "read too slowly; follow the events again"},
)


Answer = Callable[[str, protocol.Params, int], object]  # method, parameters, the caller's uid


class Server:
    """All clients of one listening socket."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        answer: Answer,
        failed: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """Watch ``listener``; ``failed`` is told of an ``answer`` that raised anything but a Refusal."""
        self._loop = loop
        self._listener = listener
        self._ask = answer
        self._failed = failed
        self._clients: dict[int, Caller] = {}
        self._owed: dict[int, int] = {}  # the answers that are to come, and to whom
        self._last_key = 0
        self._paused_until: float | None = None
        self._trusted = {0, os.geteuid()}
        loop.watch(listener.fileno(), "control")

    def seen(self, seen: Seen, now: float) -> None:
        """Take up what the loop reported as "control" or "client"."""
        if seen.kind == "control":
            self._accept(now)
        elif client := self._clients.get(seen.key):
            self._serve(client, seen.events, now)

    def deadline(self) -> float | None:
        """When `expire` is to be called; None when nothing waits for time."""
        waiting = [c.deadline for c in self._clients.values() if c.deadline is not None]
        if self._paused_until is not None:
            waiting.append(self._paused_until)
        return min(waiting, default=None)

    def expire(self, now: float) -> None:
        """Close who took too long, and listen again after a pause."""
        for client in list(self._clients.values()):
            if client.deadline is not None and client.deadline <= now:
                self._close(client)
        if self._paused_until is not None and self._paused_until <= now:
            self._paused_until = None
            self._loop.change(self._listener.fileno(), READ)

    def publish(self, event: Mapping[str, object]) -> None:
        """Put an event into every stream; the loop's next turn sends it."""
        streams = [c for c in self._clients.values() if c.streaming and not c.leaving]
        if not streams:
            return
        line = protocol.encode(event)
        now = self._loop.now()
        for client in streams:
            if len(client.pending) + len(line) > STREAM_LIMIT:
                client.pending += DROPPED
                self._dismiss(client, now)
            else:
                client.pending += line
            self._set_interest(client)

    def reply(self, number: int, result: object) -> None:
        """An answer that was `Later` is known; ``result`` may be a Refusal.  Who asked may be gone.

        What else a batch asks for is asked in the loop's next turn: no fact comes up while a plan is
        carried out.
        """
        client = self._clients.get(self._owed.pop(number, 0))
        if client is None or client.reply is None or number != client.reply.waits_for:
            return
        client.reply.fill(result)
        if client.reply.whole:
            self._take_reply(client, self._loop.now())
        self._set_interest(client)

    def finish(self) -> None:
        """Answer what is owed, send what is pending, for at most a second in all, and close everything."""
        for number in list(self._owed):
            self.reply(number, Refusal(protocol.REFUSED, LEFT))
        until = time.monotonic() + FLUSH
        poller = select.poll()
        owed = {c.connection.fileno(): c for c in self._clients.values() if c.pending}
        for fd in owed:
            poller.register(fd, select.POLLOUT)
        while owed and (left := until - time.monotonic()) > 0:
            for fd, _events in poller.poll(left * 1000):
                if not self._flushed(owed[fd]):
                    continue
                poller.unregister(fd)
                del owed[fd]
        self.close()

    def close(self) -> None:
        """Close the listener and every client at once."""
        for client in list(self._clients.values()):
            self._close(client)
        self._loop.forget(self._listener.fileno())
        self._listener.close()

    # Accepting.

    def _accept(self, now: float) -> None:
        for _ in range(ACCEPTS):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in NO_ROOM:  # level-triggered: without a pause the loop would spin
                    self._paused_until = now + PAUSE
                    self._loop.change(self._listener.fileno(), 0)
                return
            self._welcome(connection, now)

    def _welcome(self, connection: socket.socket, now: float) -> None:
        connection.setblocking(False)
        _pid, uid = peer(connection)
        if uid not in self._trusted:
            _turn_away(connection, Refusal(protocol.FORBIDDEN, f"uid {uid} may not control this; use sudo"))
        elif len(self._clients) >= MOST_CLIENTS:
            _turn_away(connection, Refusal(protocol.BUSY, f"{MOST_CLIENTS} clients are connected; try again"))
        else:
            self._last_key += 1
            client = Caller(self._last_key, connection, now, uid)
            self._clients[client.key] = client
            self._loop.watch(connection.fileno(), "client", client.key)

    # Serving one client.

    def _serve(self, client: Caller, events: int, now: float) -> None:
        if events & ~WRITE:  # readable, hung up or broken: recv tells which
            client.receive()
        if events & HUNG_UP:
            client.reply = None  # nobody reads it; what else it asked for still counts
        if not client.leaving:
            self._answer(client, now)
        if not self._flushed(client):
            self._set_interest(client)
        elif client.leaving or self._is_gone(client, events):
            self._close(client)
        else:
            self._set_interest(client)

    @staticmethod
    def _is_gone(client: Caller, events: int) -> bool:
        """A half-closed client still wants its reply or its events; one that hung up wants nothing."""
        waits = (client.streaming or client.reply is not None) and not events & HUNG_UP
        return client.ended and not client.received and not waits

    def _answer(self, client: Caller, now: float) -> None:
        if client.reply is not None and client.reply.waits_for is None:
            client.reply.go_on()
            self._take_reply(client, now)
        for _ in range(REQUESTS):
            if client.reply is not None:
                return
            if len(client.pending) >= ENOUGH and not self._flushed(client):
                break  # until it has read these
            if (line := client.next_line()) is None:
                break
            if len(line) > protocol.LINE_LIMIT:
                self._too_long(client, now)
                return
            self._respond(client, line, now)
        if len(client.received) > protocol.LINE_LIMIT and b"\n" not in client.received:
            self._too_long(client, now)

    def _respond(self, client: Caller, line: bytes, now: float) -> None:
        def answer(method: str, params: protocol.Params) -> object:
            if method == "events":
                client.follows = True
                return True
            return self._answered(method, params, client.uid)

        reply = protocol.respond(line, answer)
        if isinstance(reply, bytes):
            client.pending += reply
            client.deadline = None if client.streaming else now + IDLE
        else:
            client.reply = reply
            self._take_reply(client, now)

    def _take_reply(self, client: Caller, now: float) -> None:
        """What its last line is answered with, once all of it is known."""
        if client.reply is None:
            return
        if client.reply.waits_for is not None:
            self._owed[client.reply.waits_for] = client.key
            client.deadline = None  # it is owed something
            return
        client.pending += client.reply.line() or b""
        client.reply = None
        client.streaming = client.follows  # only now: the reply comes before the first event
        client.deadline = None if client.streaming else now + IDLE

    def _answered(self, method: str, params: protocol.Params, uid: int) -> object:
        try:
            return self._ask(method, params, uid)
        except Refusal:
            raise
        except Exception as error:  # one bad answer must not end the master
            self._failed(error)
            message = f"internal error ({type(error).__name__}); the master's log says more"
            raise Refusal(protocol.INTERNAL_ERROR, message) from error

    def _too_long(self, client: Caller, now: float) -> None:
        refusal = Refusal(protocol.INVALID_REQUEST, f"a line has at most {protocol.LINE_LIMIT} bytes")
        client.pending += protocol.failure(None, refusal)
        self._dismiss(client, now)

    @staticmethod
    def _dismiss(client: Caller, now: float) -> None:
        """Let it have what is pending, then no more."""
        client.leaving = True
        client.received.clear()
        client.deadline = now + IDLE

    def _flushed(self, client: Caller) -> bool:
        """Whether all that is pending has left; a client that is gone wants nothing more."""
        try:
            client.flush()
        except OSError:  # EPIPE, ECONNRESET
            client.pending.clear()
            client.ended = client.leaving = True
        return not client.pending

    def _set_interest(self, client: Caller) -> None:
        # Requests that this turn did not get to need another turn; a writable socket gives one.
        waits = client.reply is not None and client.reply.waits_for is not None
        more = client.reply or b"\n" in client.received or (client.ended and client.received)
        interest = WRITE if client.pending or (more and not waits) else 0 if client.ended or waits else READ
        if interest != client.interest:
            client.interest = interest
            self._loop.change(client.connection.fileno(), interest)

    def _close(self, client: Caller) -> None:
        del self._clients[client.key]
        self._loop.forget(client.connection.fileno())
        client.connection.close()


def _turn_away(connection: socket.socket, refusal: Refusal) -> None:
    with contextlib.suppress(OSError):
        connection.send(protocol.failure(None, refusal))
    connection.close()
