"""Messages over a socket pair: whole, in order, and never waited for."""

from __future__ import annotations

import json
import os
import signal
import socket

from drain_box import SECONDS

from supervisor.unix.channel import MOST_BYTES, Channel
from supervisor.unix.loop import Loop


def test_the_channel_says_all_in_order_however_slow_the_other_end_is() -> None:
    loop, other = Loop(), Loop()
    one, theirs = Channel.to_child(loop, "channel")
    two = Channel(other, socket.socket(fileno=os.dup(theirs)), "channel")
    one.sealed()
    for n in range(5000):
        one.send({"n": n})
    got: list[int] = []
    while len(got) < 5000:
        got += [message["n"] for message, _ in two.receive()]
        for seen in loop.poll(0.0):
            assert seen.kind == "channel"
            one.flush()
    assert got == list(range(5000))
    assert loop.poll(0.0) == []  # nothing waits, so room is no news
    one.send({"bye": 1})
    one.close()
    assert [message for message, _ in two.receive()] == [{"bye": 1}]
    assert two.closed
    two.send({"to": "nobody"})
    two.finish(SECONDS)
    two.close()
    for each in (loop, other):
        wakeup = signal.set_wakeup_fd(-1)
        each.close()
        signal.set_wakeup_fd(wakeup)


def test_a_turn_reads_what_was_there_and_not_what_comes_meanwhile() -> None:
    """Who says more while we read, as the application in a template may, does not keep us reading."""
    loop = Loop()
    channel, theirs = Channel.to_child(loop, "channel")
    with socket.socket(fileno=os.dup(theirs)) as other:
        channel.sealed()
        long, read = json.dumps({"n": "x" * 60_000}).encode(), 0
        other.send(long)
        for _ in channel.receive():
            read += len(long)
            other.send(long)
    assert MOST_BYTES <= read < MOST_BYTES + len(long)
    channel.close()
    wakeup = signal.set_wakeup_fd(-1)
    loop.close()
    signal.set_wakeup_fd(wakeup)
