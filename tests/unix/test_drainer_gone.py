"""The drainer is killed, stopped, replaced, or loses its master: what becomes of workers' output."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from drain_box import SCRIPT, SECONDS, Box, box, fds, read, sink

from supervisor.settings import Output

__all__ = ["box", "sink"]


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
