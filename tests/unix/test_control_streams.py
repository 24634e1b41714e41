"""Following the events: each one in order, and nobody who is slow holds the master up."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_box import EVENTS, PING, Box, closed, lines, opened, received

from supervisor.control import protocol, server


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with opened(str(tmp_path / "c.sock")) as found:
        yield found


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
        before = len(box.server._clients)
    box.settle()
    assert len(box.server._clients) == before - 1


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
        assert box.server._clients == {}


def test_the_last_event_reaches_the_stream_before_the_end(box: Box) -> None:
    with follow(box) as client:
        box.server.publish({"event": "master.exiting"})
        box.server.finish()
        assert lines(client) == [{"event": "master.exiting"}]
        assert closed(client)


def test_who_is_owed_an_answer_at_the_end_is_told_that_it_is_not_known(box: Box) -> None:
    box.results["ping"] = protocol.Later(7)
    with box.connect() as client:
        client.sendall(PING)
        box.settle()
        box.server.finish()
        (reply,) = lines(client)
    assert (reply["id"], reply["error"]) == (1, {"code": protocol.REFUSED, "message": server.LEFT})


def test_finish_does_not_wait_long_for_who_does_not_read(box: Box) -> None:
    with follow(box):
        for _ in range(14):
            box.server.publish({"event": "a", "message": "x" * 65536})
        before = box.loop.now()
        box.server.finish()
        assert server.FLUSH - 0.1 < box.loop.now() - before < server.FLUSH + 1
