"""Workers' output, from their pipes through the drainer's process: a worker's life, and nonsense."""

from __future__ import annotations

import array
import errno
import os
import resource
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from drain_box import SECONDS, Box, box, fds, read, sink

from supervisor.inner.lines import LAST_LINES
from supervisor.settings import Output
from supervisor.unix.drains import Lost

__all__ = ["box", "sink"]


def test_lines_reach_the_file_and_the_last_ones_are_told(box: Box, sink: Output) -> None:
    box.start()
    box.write(1, sink, b"".join(b"line %d\n" % n for n in range(100)) + b"no newline")
    assert box.last(1) == [f"line {n}" for n in range(101 - LAST_LINES, 100)] + ["no newline"]
    assert read(sink).endswith(b"line 99\nno newline\n")
    assert box.lost() == []


def test_equal_sinks_share_a_pipe_so_that_stdout_and_stderr_stay_in_order(box: Box, sink: Output) -> None:
    out, err = box.drains.begin(1, "web.0", sink, Output(sink.file))
    assert out == err is not None
    box.drains.sealed(1)
    other = box.drains.begin(2, "web.1", sink, Output(sink.file + ".err"))
    assert len({*other, None}) == 3
    assert box.drains.begin(3, "web.2", None, None) == (None, None)
    only = box.drains.begin(4, "web.3", None, sink)
    assert only[0] is None
    assert isinstance(only[1], int)


def test_stdout_and_stderr_of_a_worker_are_told_together(box: Box, sink: Output, tmp_path: Path) -> None:
    box.start()
    for fd, data in zip(
        box.worker(1, sink, Output(str(tmp_path / "err"))), (b"out\n", b"err\n"), strict=True
    ):
        os.write(fd, data)
        os.close(fd)
    assert sorted(box.last(1)) == ["err", "out"]
    assert (read(sink), (tmp_path / "err").read_bytes()) == (b"out\n", b"err\n")


def test_a_pipe_that_ended_is_closed_on_both_sides(box: Box, sink: Output) -> None:
    process = box.start()
    box.write(1, sink, b"")
    box.last(1)
    before, theirs = fds(), len(os.listdir(f"/proc/{process.pid}/fd"))
    for number in range(2, 50):
        box.write(number, sink, b"x\n")
        box.last(number)
    assert (fds(), len(os.listdir(f"/proc/{process.pid}/fd"))) == (before, theirs)
    assert read(sink) == b"x\n" * 48


def test_a_helper_that_holds_the_pipe_delays_no_answer_and_is_drained_to_its_end(
    box: Box, sink: Output
) -> None:
    box.start()
    (fd,) = box.worker(1, sink)
    os.write(fd, b"the worker\nhalf")
    assert box.last(1) == ["the worker", "half"]
    held = fds()
    os.write(fd, b" and the helper\n")
    os.close(fd)
    box.until(lambda: fds() == held - 2)  # our copy, and the master's
    assert read(sink) == b"the worker\nhalf and the helper\n"


def test_a_worker_without_pipes_has_no_last_lines_to_wait_for(box: Box, sink: Output) -> None:
    box.start()
    assert not box.drains.gone(1)
    box.drains.begin(2, "web.0", None, None)
    assert not box.drains.gone(2)
    box.write(3, sink, b"x\n")
    assert box.last(3) == ["x"]
    assert not box.drains.gone(3)  # it has been told


def test_a_fork_that_failed_leaves_nothing(box: Box, sink: Output) -> None:
    box.start()
    before = fds()
    box.drains.begin(1, "web.0", sink, None)
    box.drains.sealed(1)
    assert box.last(1) == []
    box.until(lambda: fds() == before)


def test_without_descriptors_nothing_is_made(box: Box, sink: Output, tmp_path: Path) -> None:
    """EMFILE at the second pipe."""
    before, limit = fds(), resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, limit[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            box.drains.begin(1, "web.0", sink, Output(str(tmp_path / "err")))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert fds() == before
    assert not box.drains.gone(1)


REOPENS = """
import os, sys
os.setgid(65534), os.setuid(65534)
os.execv("/bin/sh", ["sh", "-c", "echo anew > /dev/stdout"])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_program_of_another_user_can_open_dev_stdout(box: Box, sink: Output) -> None:
    """As nginx does by its configuration; but it cannot read there what others wrote."""
    box.start()
    (fd,) = box.worker(1, sink)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o622
    subprocess.run(["/usr/bin/env", "python3", "-c", REOPENS], stdout=fd, check=True, timeout=SECONDS)
    os.close(fd)
    assert box.last(1) == ["anew"]


def test_garbage_from_the_master_is_passed_over_and_its_descriptors_closed(box: Box, sink: Output) -> None:
    process = box.start()
    box.write(1, sink, b"x\n")
    box.last(1)
    assert box.drains._channel
    raw, before = box.drains._channel._end, len(os.listdir(f"/proc/{process.pid}/fd"))
    takes = [
        b'{"take":7,"number":1,"worker":"w.0","key":"k","slot":0}',
        b'{"take":"x"}',
        b'{"gone":null}',
        b'{"reopen":1}',
    ]
    for data in (b"\xff", b"[" * 50_000, b"[]", b"7", b"{}", *takes):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]))]
        raw.sendmsg([data], rights)
    box.write(2, sink, b"still here\n")
    assert box.last(2) == ["still here"]
    box.until(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) == before)


def test_garbage_from_the_drainer_is_passed_over(box: Box, sink: Output) -> None:
    end = box.drains.connect()
    (fd,) = box.worker(1, sink)
    before = fds()
    with socket.socket(fileno=os.dup(end)) as raw:
        box.drains.connected()
        for data in (
            b"\xff",
            b"[]",
            b'{"closed":99}',
            b'{"last":1,"lines":["x"]}',
            b'{"lost":"k"}',
            b'{"refused":9}',
        ):
            raw.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
        raw.send(b'{"lost":"k","dropped":1,"cut":0,"why":""}')
        box.until(box.lost)
        assert box.told == [Lost("k", 1, 0, "")]
        assert fds() == before
    os.close(fd)


def test_what_is_lost_is_said_in_words() -> None:
    assert str(Lost("k", 1, 1, "")) == "k: 1 line dropped; 1 overlong line cut"
    assert str(Lost("k", 2, 3, "cannot write")) == "k: cannot write; 2 lines dropped; 3 overlong lines cut"
