"""Workers' output, from their pipes through the drainer's process to files and terminals."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import pty
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from drain_box import SCRIPT, SECONDS, Box, box

from supervisor.inner.lines import LAST_LINES
from supervisor.settings import Bytes, Output
from supervisor.unix.channel import pair
from supervisor.unix.drains import TERMINAL, Lost, Terminal, sink_of
from supervisor.unix.loop import Loop

__all__ = ["box"]

NOBODY = 65534


@pytest.fixture
def sink(tmp_path: Path) -> Output:
    return Output(str(tmp_path / "out.log"))


def read(sink: Output) -> bytes:
    return Path(sink.file).read_bytes()


def fds() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- a worker's life -----------------------------------------------------------


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


# -- the death of the drainer --------------------------------------------------


def test_what_is_written_while_there_is_no_drainer_is_there_with_the_next(box: Box, sink: Output) -> None:
    box.start()
    before = fds()
    (fd,) = box.worker(1, sink)
    os.write(fd, b"one\n")
    assert box.last(1) == ["one"]
    box.kill()
    os.write(fd, b"two\n")
    box.write(2, sink, b"b\n", "web.1")
    assert box.drains.gone(2)  # asked while nobody is there to answer
    box.start()
    assert box.last(2) == ["b"]
    os.close(fd)
    box.until(lambda: fds() == before)
    assert sorted(read(sink).split()) == [b"b", b"one", b"two"]


@pytest.mark.parametrize("end", ["killed", "replaced"])
def test_a_new_drainer_goes_on_within_a_line(end: str, box: Box, sink: Output) -> None:
    """A program that writes the newline apart, and one whose overlong line was cut."""
    process = box.start()
    (fd,) = box.worker(1, sink)
    (long,) = box.worker(2, Output(sink.file + ".long"))
    os.write(fd, b"one\ntw")
    os.write(long, b"x" * 20_000)
    assert (box.last(1), box.last(2)[0][-8:]) == (["one", "tw"], "...[cut]")  # so both are read
    if end == "killed":
        box.kill()
    else:
        process.send_signal(signal.SIGUSR2)
        process.wait(SECONDS)
    os.write(fd, b"o\nthree\n")
    os.write(long, b"x" * 20_000 + b"\nnext\n")
    box.start()
    before = fds()
    os.close(fd)
    os.close(long)
    box.until(lambda: fds() == before - 4)
    assert read(sink) == b"one\ntwo\nthree\n"
    assert Path(sink.file + ".long").read_bytes().splitlines()[1:] == [b"next"]


def test_a_successor_in_the_same_slot_begins_with_an_empty_line(box: Box, sink: Output) -> None:
    box.start()
    for number in (1, 2):
        box.write(number, sink, b"unfinished")
        box.last(number)
    box.kill()
    box.start()
    box.write(3, sink, b"new\n")
    box.last(3)
    assert read(sink) == b"unfinished\nunfinished\nnew\n"


COUNTS = "import os\nfor n in range(10**9): os.write(1, b'%09d\\n' % n)"
ROUNDS, CHUNK = 5, 64 * 1024


def test_a_drainer_killed_again_and_again_loses_at_most_what_it_had_in_hand(
    box: Box, sink: Output, tmp_path: Path
) -> None:
    box.start()
    (fd,) = box.worker(1, sink)
    with subprocess.Popen([sys.executable, "-c", COUNTS], stdout=fd) as writer:
        os.close(fd)
        for number in range(2, 2 + ROUNDS):
            box.write(number, Output(str(tmp_path / "barrier")), b"x\n")
            box.last(number)
            box.kill()
            box.start()
        writer.terminate()
    box.last(1)
    lines = read(sink).splitlines()
    whole = [int(line) for line in lines if len(line) == 9]
    assert len(lines) - len(whole) <= ROUNDS  # each in its place, and none of them joined to others
    assert whole == sorted(set(whole))
    assert whole[-1] + 1 - len(whole) <= ROUNDS * CHUNK / 10


def test_a_drainer_that_is_stopped_holds_up_nobody_but_writers(box: Box, sink: Output) -> None:
    """More is asked of it than its socket takes; nothing of it is lost."""
    process = box.start()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limit[1]), limit[1]))
    try:
        process.send_signal(signal.SIGSTOP)
        for number in range(1, 301):
            box.write(number, sink, b"%d\n" % number, f"web.{number}")
            box.drains.gone(number)
        process.send_signal(signal.SIGCONT)
        box.until(lambda: len(box.told) == 300)
        assert sorted(int(line) for line in read(sink).split()) == list(range(1, 301))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_a_drainer_without_free_descriptors_takes_the_pipe_later(box: Box, sink: Output) -> None:
    process = box.start()
    box.write(1, sink, b"x\n")
    box.last(1)
    workers = [box.worker(number, sink)[0] for number in range(2, 6)]
    box.drains.gone(2)
    box.until(lambda: len(box.told) == 2)  # so it holds them
    held = {int(fd) for fd in os.listdir(f"/proc/{process.pid}/fd")}
    free = min(set(range(len(held) + 1)) - held)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (free, free))
    (late,) = box.worker(7, sink)
    os.write(late, b"late\n")
    box.until(lambda: box.drains._refused)
    os.close(workers[0])
    box.until(lambda: not box.drains._refused)
    os.close(late)
    assert box.last(7) == ["late"]
    for fd in workers[1:]:
        os.close(fd)


# -- files ---------------------------------------------------------------------

MIXED = """
import os, sys
for n in range(300):
    os.write(1, sys.argv[1].encode() * 100)
    os.write(1, sys.argv[1].encode() * 100 + b"\\n")
"""


def test_lines_of_several_workers_never_mix_in_one_file(box: Box, sink: Output) -> None:
    box.start()
    writers = []
    for number, letter in enumerate("abc"):
        (fd,) = box.worker(number, sink, name=f"web.{number}")
        writers.append(subprocess.Popen([sys.executable, "-c", MIXED, letter], stdout=fd))
        os.close(fd)
    for number, writer in enumerate(writers):
        writer.wait(SECONDS)
        box.last(number)
    lines = read(sink).splitlines()
    assert sorted(lines) == [bytes([letter]) * 200 for letter in b"abc" for _ in range(300)]


def test_files_rotate_and_two_pools_share_one(box: Box, tmp_path: Path) -> None:
    sinks = [Output(str(tmp_path / "out"), max_size=Bytes(1000), keep=2)] * 2
    box.start()
    workers = [box.worker(n, sink, name=f"p{n}.0")[0] for n, sink in enumerate(sinks)]
    for n in range(100):
        os.write(workers[n % 2], b"%09d\n" % n)
        box.drains.reopen()  # however often
    for number, fd in enumerate(workers):
        os.close(fd)
        box.last(number)
    assert {file.name for file in tmp_path.iterdir()} <= {"out", "out.1", "out.2"}
    assert all(file.stat().st_size <= 1000 for file in tmp_path.iterdir())
    kept = sorted(line for file in tmp_path.iterdir() for line in file.read_bytes().split())
    assert kept[-1] == b"%09d" % 99


def test_reopen_writes_to_the_new_file(box: Box, sink: Output) -> None:
    box.start()
    box.write(1, sink, b"one\n")
    (fd,) = box.worker(2, sink)
    box.last(1)
    Path(sink.file).rename(sink.file + ".moved")
    box.drains.reopen()
    box.write(3, sink, b"two\n")
    box.last(3)
    assert (read(sink), Path(sink.file + ".moved").read_bytes()) == (b"two\n", b"one\n")
    os.close(fd)


def test_a_path_that_cannot_be_opened_is_told_at_once_with_its_key(box: Box, tmp_path: Path) -> None:
    box.start()
    (fd,) = box.worker(1, Output(str(tmp_path)))
    box.until(box.lost)
    assert str(box.lost()[0]) == (
        f"pools.web.stdout: cannot open {tmp_path}: it is a directory; name a file in it"
    )
    os.write(fd, b"one\ntwo\n")
    os.close(fd)
    assert box.last(1) == ["one", "two"]
    box.until(lambda: sum(lost.dropped for lost in box.lost()) == 2)


def test_on_a_full_disk_the_worker_goes_on_and_the_lines_are_counted(box: Box) -> None:
    box.start()
    (fd,) = box.worker(1, Output("/dev/full"))
    for _ in range(1000):
        os.write(fd, b"x" * 999 + b"\n")  # much more than a pipe holds
    os.close(fd)
    box.last(1)
    assert box.stop() == 0
    box.until(lambda: sum(lost.dropped for lost in box.lost()) == 1000)
    assert box.lost()[0].why == "cannot write /dev/full: No space left on device"


def test_a_line_without_end_is_cut_and_counted(box: Box, sink: Output) -> None:
    box.start()
    (fd,) = box.worker(1, None, sink)
    for _ in range(1000):
        os.write(fd, b"x" * 10_000)
    os.close(fd)
    box.last(1)
    box.until(box.lost)
    assert box.lost() == [Lost("pools.web.stderr", 0, 1, "")]
    assert len(read(sink)) == 16 * 1024


# -- terminals -----------------------------------------------------------------


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
        "import sys; from supervisor.unix.drains import sink_of;"
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


# -- the end -------------------------------------------------------------------


def test_at_its_stop_it_drains_all_that_is_there_though_writers_are_still_there(
    box: Box, sink: Output
) -> None:
    process = box.start()
    (fd,) = box.worker(1, sink)
    box.write(2, sink, b"first\n")
    box.last(2)
    process.send_signal(signal.SIGSTOP)
    os.write(fd, b"x" * 60_000 + b"\nlast")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert process.wait(SECONDS) == 0
    assert read(sink).endswith(b"x\nlast\n" if b"cut" not in read(sink) else b"...[cut]\nlast\n")
    os.close(fd)


def test_a_writer_without_end_does_not_keep_it_from_leaving(box: Box, sink: Output) -> None:
    box.start()
    (fd,) = box.worker(1, Output("/dev/null"))
    with subprocess.Popen(["yes"], stdout=fd) as writer:
        os.close(fd)
        box.write(2, sink, b"x\n")
        assert box.last(2) == ["x"]  # nor from anything else
        assert box.stop() == 0
        writer.kill()


MASTER = """
import subprocess, sys
end = int(sys.argv[1])
drainer = subprocess.Popen([sys.executable, "-c", sys.argv[2], str(end)], pass_fds=[end])
print(drainer.pid, flush=True)
sys.stdin.read()
"""


def test_when_the_master_dies_it_stays_until_the_last_words_are_said(box: Box, sink: Output) -> None:
    end = box.drains.connect()
    master = subprocess.Popen(
        [sys.executable, "-c", MASTER, str(end), SCRIPT],
        pass_fds=[end],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert master.stdout
    assert master.stdin
    box.drains.connected()
    drainer = os.pidfd_open(int(master.stdout.readline()))
    (fd,) = box.worker(1, sink)
    box.write(2, sink, b"x\n")
    box.last(2)
    master.kill()
    box.drains.close()
    with master:
        master.wait(SECONDS)
    os.write(fd, b"a" * 100_000 + b"\nlast words\n")  # more than a pipe holds, so it still reads
    assert not select.select([drainer], [], [], 0)[0]
    os.close(fd)
    assert select.select([drainer], [], [], SECONDS)[0]
    os.close(drainer)
    assert read(sink).endswith(b"\nlast words\n")


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


def test_the_channel_says_all_in_order_however_slow_the_other_end_is() -> None:
    ours, theirs = pair()
    loop, other = Loop(), Loop()
    from supervisor.unix.channel import Channel

    one, two = Channel(loop, ours, "channel"), Channel(other, theirs, "channel")
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
    assert not fcntl.fcntl(1, fcntl.F_GETFL) & os.O_NONBLOCK
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
