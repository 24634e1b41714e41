"""The sink against the real kernel: full, gone, closed, stopped; it never blocks and never raises.

A write that blocks would hang the test: its timeout is the safety net of each fact here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import resource
import select
import socket
import stat
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import StartError
from supervisor.unix.output import LIMIT, Output

NOBODY = 65534


def lines(count: int, start: int = 0) -> list[bytes]:
    """Distinct lines of 100 bytes."""
    return [b"%07d" % n + b"x" * 92 + b"\n" for n in range(start, start + count)]


def write_all(output: Output, count: int, start: int = 0) -> None:
    for line in lines(count, start):
        output.write(line)


def drained(fd: int) -> bytes:
    """What can be read now."""
    got = b""
    while select.select([fd], [], [], 0)[0] and (some := os.read(fd, 1 << 16)):
        got += some
    return got


def read_through(output: Output, reader: int) -> bytes:
    """Read until nothing waits any more, as a reader and the loop would in turn."""
    got = b""
    while output.pending():
        got += drained(reader)
        output.flush()
    return got + drained(reader)


def is_blocking(fd: int) -> bool:
    return not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


@contextlib.contextmanager
def not_ours(fd: int) -> Iterator[None]:
    """The kernel refuses to open this fd's file anew, as after `su`."""
    os.fchmod(fd, 0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)  # without the capability to override the mode
    try:
        with pytest.raises(PermissionError):
            os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
        yield
    finally:
        os.seteuid(user)


def own(output: Output) -> set[int]:
    """The descriptors that it opened, or was given to close."""
    return {output._way.fd} if output._way.owned else set()


@pytest.fixture(params=["opened anew", "asked first"])
def on_pipe(request: pytest.FixtureRequest, pipe: tuple[int, int]) -> Iterator[Output]:
    with not_ours(pipe[1]) if request.param == "asked first" else contextlib.nullcontext():
        output = Output(pipe[1])
    assert own(output) == set() if request.param == "asked first" else len(own(output)) == 1
    yield output
    output.close()


def test_a_full_pipe_keeps_whole_lines_then_drops_and_counts(on_pipe: Output, pipe: tuple[int, int]) -> None:
    write_all(on_pipe, 5000)
    assert on_pipe.pending() <= LIMIT
    assert on_pipe.wants() is not None
    assert on_pipe.take_dropped() == 0  # not before something gets through again
    lost = on_pipe.dropped
    got = read_through(on_pipe, pipe[0])
    assert got == b"".join(lines(5000 - lost))
    assert 5000 - lost > LIMIT // 100
    assert (on_pipe.take_dropped(), on_pipe.take_dropped(), on_pipe.wants()) == (lost, 0, None)
    on_pipe.write(b"after\n")
    assert drained(pipe[0]) == b"after\n"


def test_a_line_longer_than_the_pipe_and_the_limit_is_completed(
    on_pipe: Output, pipe: tuple[int, int]
) -> None:
    long = b"y" * (LIMIT + 100_000) + b"\n"
    on_pipe.write(long)
    on_pipe.write(b"dropped\n")
    assert on_pipe.dropped == 1
    assert read_through(on_pipe, pipe[0]) == long
    on_pipe.write(b"next\n")
    assert drained(pipe[0]) == b"next\n"


def test_a_reader_that_takes_little_gets_no_more_than_fits(on_pipe: Output, pipe: tuple[int, int]) -> None:
    """A page is free, so the pipe counts as writable: more than the page would block."""
    on_pipe.write(b"w" * 300_000 + b"\n")
    for _ in range(4):
        before = on_pipe.pending()
        os.read(pipe[0], 4096)
        on_pipe.flush()
        assert before - on_pipe.pending() == 4096


def test_the_descriptor_to_watch_reports_room_and_stays_still_without(
    on_pipe: Output, pipe: tuple[int, int]
) -> None:
    write_all(on_pipe, 1000)
    with select.epoll() as epoll:
        epoll.register(on_pipe.wants() or -1, select.EPOLLOUT)
        assert epoll.poll(0) == []
        drained(pipe[0])
        assert epoll.poll(0) != []


def test_the_shared_description_keeps_blocking(on_pipe: Output, pipe: tuple[int, int]) -> None:
    """The workers and the shell write to it too."""
    write_all(on_pipe, 2000)
    assert is_blocking(pipe[1])
    on_pipe.close()
    assert is_blocking(pipe[1])
    assert stat.S_ISFIFO(os.fstat(pipe[1]).st_mode)  # and it is still open


def test_without_a_reader_it_goes_quiet_and_lives(on_pipe: Output, pipe: tuple[int, int]) -> None:
    write_all(on_pipe, 1000)
    os.close(pipe[0])
    write_all(on_pipe, 10)
    assert (on_pipe.pending(), on_pipe.wants(), on_pipe.take_dropped()) == (0, None, 0)
    assert on_pipe.dropped >= 10


def test_a_reader_gone_before_the_start_is_no_error(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    output = Output(pipe[1])
    output.write(b"x\n")
    assert (output.dropped, output.pending()) == (1, 0)
    output.close()


def test_an_inherited_fifo_whose_reader_left_is_no_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo", os.O_WRONLY)
    os.close(reader)
    output = Output(writer)
    output.write(b"x\n")
    assert (output.dropped, output.pending(), own(output)) == (1, 0, set())
    os.close(writer)


def test_a_closed_descriptor_is_never_written_to_even_when_its_number_is_used_again(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "closed", os.O_CREAT | os.O_WRONLY)
    os.close(fd)
    output = Output(fd)
    other = os.open(tmp_path / "database", os.O_CREAT | os.O_WRONLY)
    assert other == fd
    output.write(b"x\n")
    os.close(other)
    assert (tmp_path / "database").read_bytes() == b""
    assert output.dropped == 1


def test_finish_waits_for_a_slow_reader(on_pipe: Output, pipe: tuple[int, int]) -> None:
    write_all(on_pipe, 3000)
    got: list[bytes] = []
    expected = b"".join(lines(3000 - on_pipe.dropped))

    def read() -> None:
        while sum(map(len, got)) < len(expected):
            got.append(os.read(pipe[0], 1000))

    reader = threading.Thread(target=read)
    reader.start()
    on_pipe.finish(60)
    reader.join()
    assert b"".join(got) == expected
    assert on_pipe.pending() == 0


def test_finish_gives_up_at_its_bound(on_pipe: Output) -> None:
    write_all(on_pipe, 1000)
    on_pipe.finish(0.01)
    assert on_pipe.pending() > 0


def test_dev_full_drops_and_counts_and_tries_again() -> None:
    output = Output.to_file("/dev/full")
    write_all(output, 3)
    assert (output.dropped, output.pending(), output.wants(), output.take_dropped()) == (3, 0, None, 0)
    output.close()


def test_dev_null_takes_all_and_needs_no_watching() -> None:
    output = Output.to_file("/dev/null")
    write_all(output, 10)
    assert (output.dropped, output.pending(), output.wants()) == (0, 0, None)
    output.close()


@pytest.fixture
def file_limit() -> Iterator[int]:
    """Files end at 250 bytes: the third line of 100 is cut short, like on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250, before[1]))
    yield 250
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_cut_by_a_full_disk_is_ended_before_the_next(file_limit: int, tmp_path: Path) -> None:
    path = tmp_path / "log"
    output = Output.to_file(str(path))
    write_all(output, 4)
    assert (path.stat().st_size, output.dropped, output.take_dropped()) == (file_limit, 2, 0)
    os.truncate(path, 150)  # someone makes room
    output.write(b"ok\n")
    assert path.read_bytes() == b"".join(lines(2))[:150] + b"\nok\n"
    assert output.take_dropped() == 2
    output.close()


def test_an_inherited_file_is_written_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as file:
        output = Output(file.fileno())
        write_all(output, 3)
        output.close()
        assert is_blocking(file.fileno())
    assert (tmp_path / "log").read_bytes() == b"".join(lines(3))


def test_a_new_log_file_is_private_appended_to_and_closed_on_exec(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for line in lines(2):
        output = Output.to_file(str(path))
        output.write(line)
        assert [os.get_inheritable(fd) for fd in own(output)] == [False]
        output.close()
    assert path.read_bytes() == b"".join(lines(2))
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0


def test_reopen_after_rotation_writes_to_the_new_file_with_the_same_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "log"
    output = Output.to_file(str(path))
    fds = own(output)
    output.write(b"one\n")
    path.rename(tmp_path / "log.1")
    output.write(b"two\n")
    output.reopen()
    output.write(b"three\n")
    assert (tmp_path / "log.1").read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"
    assert own(output) == fds
    assert not any(os.get_inheritable(fd) for fd in fds)
    output.close()


def test_a_reopen_that_fails_says_why_and_goes_on_in_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    output = Output.to_file(str(path))
    path.rename(tmp_path / "log.1")
    path.mkdir()
    with pytest.raises(StartError, match="log: it is a directory"):
        output.reopen()
    output.write(b"still here\n")
    assert (tmp_path / "log.1").read_bytes() == b"still here\n"
    output.close()


def test_reopen_means_nothing_to_an_inherited_descriptor(on_pipe: Output, pipe: tuple[int, int]) -> None:
    on_pipe.reopen()
    on_pipe.write(b"x\n")
    assert drained(pipe[0]) == b"x\n"


def test_log_files_that_cannot_be_say_what_to_do(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    for name, advice in {
        "fifo": "FIFO without a reader",
        "socket": "or a socket",
        "": "it is a directory",
        "no/log": "its folder does not exist",
        "fifo/log": "Not a directory",
    }.items():
        with pytest.raises(StartError, match=advice):
            Output.to_file(str(tmp_path / name))


def test_a_fifo_with_a_stopped_reader_waits_and_reopens_without_half_lines(tmp_path: Path) -> None:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    old = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    output = Output.to_file(path)
    output.write(b"z" * 100_000 + b"\n")
    output.write(b"whole\n")
    assert output.pending() > 0
    os.rename(path, path + ".1")
    os.mkfifo(path)
    new = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    output.reopen()
    assert drained(new) == b"whole\n"  # the rest of the first is lost, and counted
    assert output.take_dropped() == 1
    output.close()
    os.close(old)
    os.close(new)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_a_full_stream_socket_waits_and_completes(sockets: tuple[socket.socket, socket.socket]) -> None:
    """As journald's stream is."""
    reader, writer = sockets
    output = Output(writer.fileno())
    write_all(output, 9000)
    assert output.wants() is not None
    lost = output.dropped
    assert read_through(output, reader.fileno()) == b"".join(lines(9000 - lost))
    assert lost > 0
    assert output.take_dropped() == lost
    assert is_blocking(writer.fileno())
    output.close()
    assert writer.fileno() in map(int, os.listdir("/proc/self/fd"))


def test_a_socket_whose_peer_left_goes_quiet(sockets: tuple[socket.socket, socket.socket]) -> None:
    output = Output(sockets[1].fileno())
    sockets[0].close()
    write_all(output, 2)
    assert (output.dropped, output.pending()) == (2, 0)
    output.close()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ends = pty.openpty()
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.mark.parametrize("refused", [False, True], ids=["opened anew", "asked first"])
def test_a_terminal_that_nobody_reads_waits_and_completes(terminal: tuple[int, int], refused: bool) -> None:
    with not_ours(terminal[1]) if refused else contextlib.nullcontext():
        output = Output(terminal[1])
    assert bool(own(output)) is not refused
    write_all(output, 2000)
    lost, got = output.dropped, b""
    for _ in range(100):
        got += os.read(terminal[0], 300)  # little room: no more than fits may be tried
        output.flush()
    got += read_through(output, terminal[0])
    assert got.replace(b"\r\n", b"\n") == b"".join(lines(2000 - lost))
    output.write(b"l" * 200_000 + b"\n")
    got = b""
    for _ in range(100):
        got += os.read(terminal[0], 300)
        output.flush()
    assert len(got + read_through(output, terminal[0])) == 200_002
    assert is_blocking(terminal[1])
    output.close()


def test_a_terminal_stopped_by_control_s_waits(terminal: tuple[int, int]) -> None:
    output = Output(terminal[1])
    termios.tcflow(terminal[1], termios.TCOOFF)
    output.write(b"held\n")
    assert (drained(terminal[0]), output.pending()) == (b"", 5)
    termios.tcflow(terminal[1], termios.TCOON)
    output.finish(60)
    assert drained(terminal[0]) == b"held\r\n"
    output.close()


def test_a_terminal_that_was_closed_goes_quiet(terminal: tuple[int, int]) -> None:
    output = Output(terminal[1])
    os.close(terminal[0])
    write_all(output, 2)
    assert (output.dropped, output.pending()) == (2, 0)
    output.close()


BACKGROUND = """
import fcntl, os, signal, termios
from supervisor.unix.output import Output
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
attributes = termios.tcgetattr(0)
attributes[3] |= termios.TOSTOP
termios.tcsetattr(0, termios.TCSANOW, attributes)
child = os.fork()
if child:  # the session's leader waits in front
    os.waitpid(child, 0)
    os._exit(0)
os.setpgid(0, 0)
came = []
signal.signal(signal.SIGTTOU, lambda number, frame: came.append(number))
output = Output(1)
output.write(b"line\\n")
output.write(b"signals: %a\\n" % came)
"""


def test_a_background_job_may_write_under_tostop_and_gets_no_signal(terminal: tuple[int, int]) -> None:
    """`stty tostop; supervisord-lite start &`: SIGTTOU means "one worker less" to the master."""
    script = [sys.executable, "-c", BACKGROUND]
    subprocess.run(
        script, stdin=terminal[1], stdout=terminal[1], start_new_session=True, timeout=60, check=True
    )
    assert drained(terminal[0]) == b"line\r\nsignals: []\r\n"


def test_eagain_of_a_shared_nonblocking_pipe_is_waited_for(pipe: tuple[int, int]) -> None:
    """Someone else may have set O_NONBLOCK on what we were given."""
    os.set_blocking(pipe[1], False)
    with contextlib.suppress(BlockingIOError):
        while os.write(pipe[1], b"o" * 4096):
            pass
    output = Output(pipe[1])
    output.write(b"ours\n")
    assert read_through(output, pipe[0]).endswith(b"o" * 4096 + b"ours\n")
    output.close()


def test_a_read_only_descriptor_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    with (tmp_path / "log").open("rb") as file:
        output = Output(file.fileno())
        write_all(output, 2)
        assert (output.dropped, output.pending()) == (2, 0)


def test_after_close_lines_are_dropped_and_nothing_is_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    output = Output.to_file("/dev/null")
    output.close()
    output.write(b"x\n")
    output.reopen()
    output.close()
    assert (output.dropped, own(output)) == (1, set())
    assert set(os.listdir("/proc/self/fd")) == before


def test_without_a_free_descriptor_each_write_asks_first(
    pipe: tuple[int, int], sockets: tuple[socket.socket, socket.socket]
) -> None:
    """EMFILE when the pipe is to be opened anew, or the socket doubled."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            os.open("/", os.O_RDONLY)
        outputs = Output(pipe[1]), Output(sockets[1].fileno())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    for output, reader in zip(outputs, (pipe[0], sockets[0].fileno()), strict=True):
        assert own(output) == set()
        write_all(output, 5000)
        assert output.wants() is not None
        assert read_through(output, reader) == b"".join(lines(5000 - output.take_dropped()))


def test_a_symlink_to_the_log_is_followed_where_nobody_else_could_have_made_it(tmp_path: Path) -> None:
    """Each link on the way is looked at; the kernel's own to our descriptors are no matter."""
    open_to_all, link = tmp_path / "open", tmp_path / "log"
    open_to_all.mkdir()
    open_to_all.chmod(0o1777)
    link.symlink_to(tmp_path / "real")
    Output.to_file(str(link)).close()
    assert (tmp_path / "real").exists()
    link.unlink()
    (open_to_all / "between").symlink_to(tmp_path / "real")
    link.symlink_to(open_to_all / "between")
    with pytest.raises(StartError, match=f"log: it is a symlink, and others may write to {open_to_all}"):
        Output.to_file(str(link))
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(StartError, match="lead in a circle"):
        Output.to_file(str(link))
    Output.to_file("/dev/fd/2").close()
