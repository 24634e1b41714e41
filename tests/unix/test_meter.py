"""The meter: a process that reads PSS, and the master's side of it, against the real kernel."""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.inner import meter as inner
from supervisor.unix import process
from supervisor.unix.loop import Loop
from supervisor.unix.meter import Meter

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

MEBIBYTE = 1024 * 1024


class Box:
    """A meter that runs in a child, and children to be measured."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.meter = Meter(self.loop)
        self.children: list[int] = []

    def fork(self, run: Callable[[], int]) -> int:
        [pid] = process.fork_all([run])
        assert isinstance(pid, int)
        self.children.append(pid)
        return pid

    def start(self) -> int:
        """The meter itself; it leaves at end of file."""
        theirs = os.dup(self.meter.connect())

        def run() -> int:
            self.meter._channel._end.close()  # as every child closes what is the master's
            self.meter.sealed()
            never, _ = os.pipe()
            end = socket.socket(fileno=theirs)
            worker = SimpleNamespace(sockets={"channel": end}, stopping=False, fileno=lambda: never)
            inner.run(worker)  # type: ignore[arg-type]
            return 0

        pid = self.fork(run)
        os.close(theirs)
        self.meter.sealed()
        return pid

    def answers(self) -> dict[int, int]:
        [seen] = self.loop.poll(self.loop.now() + 30)
        assert seen.kind == "meter"
        return self.meter.answers()

    def close(self) -> None:
        self.meter.close()
        self.loop.close()
        for pid in self.children:
            process.send(pid, signal.SIGKILL)
            process.send(pid, signal.SIGCONT)
            os.waitpid(pid, 0)


@pytest.fixture
def box() -> Iterator[Box]:
    wakeup = signal.set_wakeup_fd(-1)
    box = Box()
    yield box
    box.close()
    signal.set_wakeup_fd(wakeup)


def holders(box: Box, count: int, size: int) -> list[int]:
    """Processes that share ``size`` bytes among them."""
    memory = mmap.mmap(-1, size)  # shared, and touched by each
    told, tell = os.pipe()

    def run() -> int:
        memory[:] = b"x" * size
        os.write(tell, b".")
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        while True:
            signal.pause()

    pids = [box.fork(run) for _ in range(count)]
    memory.close()
    for _ in pids:
        assert os.read(told, 1) == b"."
    os.close(told)
    os.close(tell)
    return pids


def test_shared_memory_is_counted_in_equal_parts(box: Box) -> None:
    """PSS: two processes that hold the same 64 MiB are charged 32 each, not 64."""
    alone = holders(box, 1, 64 * MEBIBYTE)
    pair = holders(box, 2, 64 * MEBIBYTE)
    box.start()
    box.meter.ask([*alone, *pair])
    sizes = box.answers()
    assert [*sizes] == [*alone, *pair]
    for pid in pair:
        assert 30 * MEBIBYTE < sizes[alone[0]] - sizes[pid] < 34 * MEBIBYTE


def test_who_is_gone_is_left_out(box: Box) -> None:
    """A pid that was reaped harms nobody."""
    gone = box.fork(lambda: 0)
    os.waitpid(gone, 0)
    box.children.remove(gone)
    box.start()
    box.meter.ask([gone, os.getpid()])
    assert [*box.answers()] == [os.getpid()]


def test_a_thousand_processes_are_one_question(box: Box) -> None:
    """The longest question and its answer go through whole."""
    box.start()
    pids = [os.getpid(), *range(4_000_000, 4_000_999)]
    box.meter.ask(pids)
    assert [*box.answers()] == [os.getpid()]


def test_what_is_asked_while_a_question_is_open_is_the_next_one(box: Box) -> None:
    """A meter that hangs collects nothing, and nobody is left out: all of it is one question then."""
    pid = box.start()
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    box.meter.ask([os.getpid()])
    box.meter.ask([pid])
    box.meter.ask([pid, os.getpid()])
    os.kill(pid, signal.SIGCONT)
    assert [*box.answers()] == [os.getpid()]
    assert sorted(box.answers()) == sorted([pid, os.getpid()])


def test_a_dead_meter_is_no_error_and_the_next_one_answers(box: Box) -> None:
    """Also what the first one had in hand; and end of file is not reported for ever."""
    pid = box.start()
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    box.meter.ask([os.getpid()])
    os.kill(pid, signal.SIGKILL)
    assert box.answers() == {}
    assert box.loop.poll(0.0) == []
    (other,) = holders(box, 1, MEBIBYTE)
    box.meter.ask([other])
    box.start()
    assert sorted(box.answers()) == sorted([os.getpid(), other])


def test_end_of_file_lets_the_meter_leave(box: Box) -> None:
    """With status 0: it was not wanted any more."""
    pid = box.start()
    gone = os.pidfd_open(pid)
    box.meter.close()
    assert select.select([gone], [], [], 30)[0]
    os.close(gone)
    assert process.ended(pid) == process.End(code=0)


def test_nobody_there_is_no_error(box: Box) -> None:
    """Before the first connection."""
    box.meter.ask([1])
    box.meter.sealed()
    assert box.meter.answers() == {}


@pytest.mark.parametrize("answer", [b"no json", b"[" * 50_000, b"[1]", b'"text"', b"null"])
def test_an_answer_that_makes_no_sense_is_passed_over(box: Box, answer: bytes) -> None:
    """Whatever the other side says, the master lives."""
    other: Any = socket.socket(fileno=os.dup(box.meter.connect()))
    box.meter.sealed()
    other.send(answer)
    assert box.answers() == {}
    other.close()
