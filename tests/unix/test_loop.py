"""The one place that waits: descriptors, signals, deadlines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from supervisor.unix.loop import WRITE, Loop, Seen
from supervisor.unix.signals import block_signals, set_mask

KINDS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGRTMIN + 3)
LEVELS = (signal.SIGTSTP, signal.SIGCONT)


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop that hears some signals; afterwards all is as it was."""
    before = {number: signal.getsignal(number) for number in (*KINDS, *LEVELS)}
    wakeup = signal.set_wakeup_fd(-1)
    loop = Loop()
    loop.listen((*KINDS, *LEVELS))
    yield loop
    loop.close()
    signal.set_wakeup_fd(wakeup)
    for number, handler in before.items():
        signal.signal(number, handler)


def signals(seen: list[Seen]) -> list[int]:
    return [one.key for one in seen if one.kind == "signal"]


def test_a_deadline_ends_the_wait_and_not_before(loop: Loop) -> None:
    """Nothing is seen, and the time has come; one in the past does not wait."""
    until = loop.now() + 0.05
    assert loop.poll(until) == []
    assert loop.now() >= until
    assert loop.poll(0.0) == []


def test_what_is_watched_is_seen_as_long_as_it_holds(loop: Loop) -> None:
    """Level-triggered: seen in each turn until it is read, or forgotten."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.watch(ours.fileno(), "client", 7)
        assert loop.poll(0.0) == []
        theirs.send(b"x")
        for _ in range(2):
            assert [(s.kind, s.key, s.fd) for s in loop.poll(None)] == [("client", 7, ours.fileno())]
        loop.change(ours.fileno(), WRITE)
        assert loop.poll(None)[0].events == WRITE
        loop.change(ours.fileno(), 0)
        assert loop.poll(0.0) == []
        loop.forget(ours.fileno())
        loop.forget(ours.fileno())
        theirs.close()
        assert loop.poll(0.0) == []


def test_a_signal_ends_the_wait_and_is_seen_once_a_turn(loop: Loop) -> None:
    """Many of a kind are one, kinds are never merged, and they come first."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.watch(ours.fileno(), "client")
        theirs.send(b"x")
        for number in (*KINDS, *KINDS):
            os.kill(os.getpid(), number)
        seen = loop.poll(None)
        assert sorted(signals(seen)) == sorted(KINDS)
        assert seen[-1].kind == "client"
        assert signals(loop.poll(None)) == []


def test_a_flood_of_signals_loses_no_kind(loop: Loop) -> None:
    """100,000 of one kind fill the wakeup socket; another that comes last is seen all the same."""
    for _ in range(100_000):
        signal.raise_signal(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
    assert signals(loop.poll(None)) == [signal.SIGUSR1, signal.SIGUSR2]
    assert loop.poll(0.0) == []
    os.kill(os.getpid(), signal.SIGUSR1)
    assert signals(loop.poll(None)) == [signal.SIGUSR1]


def test_a_signal_from_outside_wakes_a_wait_without_end(loop: Loop) -> None:
    """Only the signal can end this poll."""
    command = ["sh", "-c", f"kill -USR1 {os.getpid()}"]
    with subprocess.Popen(command) as sender:
        assert signals(loop.poll(None)) == [signal.SIGUSR1]
        sender.wait()


def test_blocked_signals_are_seen_when_the_mask_opens(loop: Loop) -> None:
    """None is lost between fork and set-up: it is pending until then."""
    mask = block_signals()
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)  # the runner has other threads
        assert loop.poll(0.0) == []
    finally:
        set_mask(mask)
    assert signals(loop.poll(None)) == [signal.SIGHUP]


def test_the_last_of_tstp_and_cont_is_seen_last_also_if_it_comes_while_they_are_read(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was noted already, with the one before it: its byte has to do."""
    pid, drain = os.getpid(), loop._drain
    os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGTSTP)

    def drain_and_hear_of_another() -> bytes:
        monkeypatch.undo()
        order = drain()
        os.kill(pid, signal.SIGCONT)
        return order

    monkeypatch.setattr(loop, "_drain", drain_and_hear_of_another)
    assert signals(loop.poll(loop.now())) == [signal.SIGTSTP]
    assert signals(loop.poll(loop.now())) == [signal.SIGCONT]
    assert signals(loop.poll(loop.now())) == []


def test_more_ready_descriptors_than_one_turn_takes(loop: Loop) -> None:
    """A turn is bounded; what is left is seen by the next ones."""
    pipes = [os.pipe() for _ in range(300)]
    try:
        for number, (reader, writer) in enumerate(pipes):
            loop.watch(reader, "exit", number)
            os.close(writer)
        seen = set()
        for _ in range(2):
            for one in loop.poll(None):
                seen.add(one.key)
                loop.forget(one.fd)
        assert seen == set(range(300))
    finally:
        for reader, _ in pipes:
            os.close(reader)


CLOSES = """
import os, sys
from supervisor.unix.loop import close_inherited
kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(40)][::13]
os.dup2(kept[0], 900)
close_inherited([*kept, 900, 0])
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
print([fd for fd in range(1024) if is_open(fd)] == [0, 1, 2, *kept, 900])
"""


def test_all_but_the_named_descriptors_are_closed() -> None:
    """Standard ones stay; gaps between the kept ones are closed."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSES],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "True\n"


def test_a_closed_loop_leaves_no_descriptor() -> None:
    """It holds three."""
    before = os.listdir("/proc/self/fd")
    loop = Loop()
    assert len(os.listdir("/proc/self/fd")) == len(before) + 3
    wakeup = signal.set_wakeup_fd(-1)
    loop.close()
    signal.set_wakeup_fd(wakeup)
    assert os.listdir("/proc/self/fd") == before
