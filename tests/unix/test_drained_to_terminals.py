"""Workers' output that goes to the master's terminal: whose it is, and when nobody reads."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from drain_box import SECONDS, Box, box, sink

from supervisor.settings import Output
from supervisor.unix.drains import TERMINAL
from supervisor.unix.sinks import Terminal, sink_of

__all__ = ["box", "sink"]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ends = pty.openpty()
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


def shown(master: int, count: int) -> list[bytes]:
    """So many lines that came out of a terminal."""
    got = b""
    while got.count(b"\n") < count:
        assert select.select([master], [], [], SECONDS)[0], got
        got += os.read(master, 1 << 16)
    return got.replace(b"\r\n", b"\n").splitlines()


def test_on_a_terminal_each_line_tells_whose_it_is(box: Box, terminal: tuple[int, int]) -> None:
    box.start(stdout=terminal[1], env=os.environ | {"TERM": "dumb"})
    box.write(1, Terminal(1), b"one\ntwo\n")
    box.last(1)
    box.write(2, Terminal(1), b"three", "consumer.0")
    assert shown(terminal[0], 3) == [b"web.0 | one", b"web.0 | two", b"consumer.0 | three"]
    box.write(3, Terminal(1), b"four\n")
    assert shown(terminal[0], 1) == [b"web.0      | four"]


@pytest.mark.parametrize(("variables", "colour"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals_that_have_them(
    variables: dict[str, str], colour: bool, box: Box, terminal: tuple[int, int]
) -> None:
    environ = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"} | variables
    box.start(stdout=terminal[1], env=environ)
    box.write(1, Terminal(1), b"x\n")
    assert shown(terminal[0], 1) == [b"\x1b[36mweb.0 | \x1b[0mx" if colour else b"web.0 | x"]


def test_a_stopped_terminal_blocks_no_worker_and_what_it_missed_is_counted(
    box: Box, sink: Output, terminal: tuple[int, int]
) -> None:
    box.start(stdout=terminal[1], env=os.environ | {"TERM": "dumb"})
    termios.tcflow(terminal[1], termios.TCOOFF)
    (fd,) = box.worker(1, Terminal(1))
    for _ in range(1000):
        os.write(fd, b"x" * 999 + b"\n")
    os.close(fd)
    box.write(2, sink, b"others go on\n")
    assert box.last(2) == ["others go on"]
    box.last(1)
    termios.tcflow(terminal[1], termios.TCOON)
    while not box.lost():
        if select.select([terminal[0]], [], [], 0.0)[0]:
            os.read(terminal[0], 1 << 16)
        box.told += box.drains.seen()
    assert box.lost()[0].key == TERMINAL
    assert 0 < box.lost()[0].dropped < 1000


def test_a_stopped_terminal_does_not_keep_it_from_leaving(box: Box, terminal: tuple[int, int]) -> None:
    box.start(stdout=terminal[1])
    termios.tcflow(terminal[1], termios.TCOOFF)
    box.write(1, Terminal(1), b"nobody sees it\n" * 10)
    box.last(1)
    began = box.loop.now()
    assert box.stop() == 0
    assert box.loop.now() - began < 5


def test_a_terminal_that_is_gone_harms_nothing(box: Box, sink: Output, terminal: tuple[int, int]) -> None:
    box.start(stdout=terminal[1])
    (fd,) = box.worker(1, Terminal(1))
    box.write(2, sink, b"before\n")
    box.last(2)
    for end in terminal:
        os.close(end)
    os.write(fd, b"nobody sees it\n")
    os.close(fd)
    assert box.last(1) == ["nobody sees it"]
    assert box.stop() == 0


def test_only_what_needs_it_is_drained(terminal: tuple[int, int], sink: Output, tmp_path: Path) -> None:
    """A terminal that is both stdout and stderr is one."""
    other = pty.openpty()
    with (tmp_path / "file").open("w") as file:
        assert sink_of("inherit", file.fileno()) is None
        assert sink_of("null", terminal[1]) is None
        assert sink_of(sink, file.fileno()) is sink
    script = (
        "import sys; from supervisor.unix.sinks import sink_of;"
        "sys.exit(repr((sink_of('inherit', 1), sink_of('inherit', 2))) != sys.argv[1])"
    )
    for stderr, expected in (
        (terminal[1], "(Terminal(fd=1), Terminal(fd=1))"),
        (other[1], "(Terminal(fd=1), Terminal(fd=2))"),
    ):
        command = [sys.executable, "-c", script, expected]
        subprocess.run(command, stdout=terminal[1], stderr=stderr, check=True, timeout=SECONDS)
    for fd in other:
        os.close(fd)
