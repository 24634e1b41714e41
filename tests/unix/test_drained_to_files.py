"""Workers' output that goes to files: shared, rotating, full, in the wrong place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from drain_box import SECONDS, Box, box, fds, read, sink

from supervisor.settings import Bytes, Output
from supervisor.unix.drains import Lost

__all__ = ["box", "sink"]


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


def test_a_file_rotates_as_long_as_one_of_its_writers_wants_it(box: Box, sink: Output) -> None:
    """stdout with max_size, stderr the plain path; then a reload takes the max_size away."""
    box.start()
    out, err = box.worker(1, Output(sink.file, max_size=Bytes(20), keep=1), sink)
    for _ in range(3):
        os.write(err, b"%09d\n" % 1)
    box.last(1)
    held = fds()
    os.close(out)
    box.until(lambda: fds() == held - 2)  # the drainer has seen its end
    assert (read(sink), Path(sink.file + ".1").read_bytes()) == (b"000000001\n", b"000000001\n" * 2)
    box.write(2, sink, b"x" * 50 + b"\n")
    box.last(2)
    assert len(read(sink)) == 61
    os.close(err)


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
