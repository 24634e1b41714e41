"""A place to write log lines to that never blocks and never raises.

Knows pipes, terminals, sockets and files, and how each says "not now" or "never
again"; knows nothing of events.  Lines that find no room wait, up to `LIMIT`
bytes; beyond it whole lines are dropped and counted, and no line is left half.

The rule behind it: O_NONBLOCK belongs to the open file *description* (open(2),
fcntl(2)), and stderr's description is shared with the shell and with every
worker: setting it there would break their writes.  So a pipe or terminal is
opened anew through /proc/self/fd, which gives a description of our own (proc(5)).
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import stat
import time
from collections import deque
from typing import NamedTuple

from supervisor.unix.log_file import open_log

LIMIT = 256 * 1024

# The reader or the terminal is gone and does not come back.
_GONE = frozenset(
    {errno.EPIPE, errno.EBADF, errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESHUTDOWN}
    | {errno.ECONNRESET, errno.ECONNREFUSED, errno.ENOTCONN, errno.EDESTADDRREQ}
)
# poll(2) calls a pipe writable when a page of it is free: PIPE_BUF bytes go in (pipe(7)).  A terminal
# when a buffer of it, 256 bytes, is free.
_ROOM_IN_PIPE, _ROOM_IN_TERMINAL = select.PIPE_BUF, 256


class _Way(NamedTuple):
    """How bytes get out, decided once by what the descriptor is."""

    fd: int
    mode: int = 0  # st_mode
    owned: bool = False  # ours to close
    ask: bool = False  # poll before each write: the description is shared and blocks
    terminal: bool = False
    socket: socket.socket | None = None

    @property
    def pollable(self) -> bool:
        # epoll refuses files without a poll method: regular ones, /dev/null, /dev/full.
        return stat.S_ISFIFO(self.mode) or stat.S_ISSOCK(self.mode) or self.terminal


_NOWHERE = _Way(-1)


class Output:
    """Lines to one descriptor; an inherited one stays open and keeps its flags."""

    def __init__(self, fd: int) -> None:
        self._begin(_inherited(fd))
        self._path: str | None = None
        self._lines: deque[bytes] = deque()
        self._size = 0
        self.dropped = 0  # whole lines lost since `take_dropped` last told

    def _begin(self, way: _Way) -> None:
        self._way = way
        self._gone = way is _NOWHERE
        self._flowing = True  # the last write got through
        self._begun = False  # a part of the first waiting line is out
        self._torn = False  # a part of a line is out whose rest was given up

    @classmethod
    def to_file(cls, path: str) -> Output:
        """Append to ``path``, made if missing.  Raises StartError, never waits."""
        way = _opened(path)
        output = cls(-1)
        output._path = path
        output._begin(way)
        return output

    def reopen(self) -> None:
        """Open the file of `to_file` anew, after it was moved away; nothing for others.

        On StartError the old file is still written to.  The descriptor keeps its
        number but not its place in an epoll: forget `wants` before.
        """
        if self._path is None:
            return
        new = _opened(self._path)
        self.flush()
        if self._begun:
            self._drop(1)  # its first part is in the old file
        os.dup2(new.fd, self._way.fd, inheritable=False)
        os.close(new.fd)
        self._begin(new._replace(fd=self._way.fd))
        self.flush()

    def write(self, line: bytes, limit: int = LIMIT) -> None:
        """Write ``line``, which ends in a newline, now, later or never; return at once.

        One that is worth less than others is given up at a lower ``limit`` of bytes that wait.
        """
        self._lines.append(line)
        self._size += len(line)
        self.flush()
        if self._size > limit and len(self._lines) > 1:
            self._size -= len(self._lines.pop())  # not the first, so nothing of it is out
            self.dropped += 1

    def flush(self) -> None:
        """Write what waits, as far as it goes without blocking."""
        if self._gone:
            self._drop(len(self._lines))
        while self._lines and self._step():
            pass

    def _step(self) -> bool:
        """Write from the first waiting line; false when there is no room."""
        line = b"\n" * self._torn + self._lines[0]
        try:
            rest = line[_written(self._way, line) :]
        except BlockingIOError:
            return False
        except OSError as error:
            self._failed(error)
            return True
        self._size += len(rest) - len(self._lines[0])
        self._lines[0] = rest
        self._flowing, self._torn, self._begun = True, False, bool(rest)
        if not rest:
            self._lines.popleft()
        return True

    def _failed(self, error: OSError) -> None:
        """The reader is gone: all is lost.  Else (ENOSPC) only this line: the next may have luck."""
        self._flowing = False
        self._gone = error.errno in _GONE and not stat.S_ISREG(self._way.mode)
        self._drop(len(self._lines) if self._gone else 1)

    def _drop(self, count: int) -> None:
        self._torn |= self._begun and count > 0
        self._begun &= not count
        for _ in range(count):
            self._size -= len(self._lines.popleft())
        self.dropped += count

    def pending(self) -> int:
        """Bytes that wait."""
        return self._size

    def wants(self) -> int | None:
        """The descriptor to watch for writability, while something waits and it can be watched."""
        return self._way.fd if self._lines and self._way.pollable else None

    def take_dropped(self) -> int:
        """Once lines get through again: how many were lost.  Say so with the next line."""
        if self._lines or self._gone or not self._flowing:
            return 0
        count, self.dropped = self.dropped, 0
        return count

    def finish(self, seconds: float) -> None:
        """Wait for room, at most ``seconds``, until all is out."""
        deadline = time.monotonic() + seconds
        self.flush()
        while self._lines and self._way.pollable and (left := deadline - time.monotonic()) > 0:
            _writable(self._way.fd, left)
            self.flush()

    def close(self) -> None:
        """Close what is ours; later lines are dropped."""
        way, self._way, self._gone, self._path = self._way, _NOWHERE, True, None
        if way.socket is not None:
            way.socket.close()
        elif way.owned:
            os.close(way.fd)
        self._drop(len(self._lines))


def _inherited(fd: int) -> _Way:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        # Closed from the start.  Decided for good: whatever gets this number later is not a log.
        return _NOWHERE
    if stat.S_ISREG(mode):
        return _Way(fd, mode)  # never "full"; O_NONBLOCK means nothing here (open(2))
    if stat.S_ISSOCK(mode):
        return _socket(fd, mode)
    return _reopened(fd, mode)


def _socket(fd: int, mode: int) -> _Way:
    """A socket (journald's stream): it cannot be opened anew, but each send(2) may refuse to wait."""
    try:
        own = socket.socket(fileno=os.dup(fd))  # a socket object closes its descriptor
    except OSError:  # EMFILE
        return _Way(fd, mode, ask=True)
    return _Way(own.fileno(), mode, owned=True, socket=own)


def _reopened(fd: int, mode: int) -> _Way:
    """A pipe or device: our own non-blocking description where the kernel grants one.

    It does not where the pipe or terminal belongs to another user (EACCES, after
    `su`) or /proc is missing.  Then each write asks first.  What remains: a
    writer that takes the room between question and write makes us wait for the reader.
    """
    terminal = os.isatty(fd)
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC
    try:
        own = os.open(f"/proc/self/fd/{fd}", flags)
    except OSError as error:
        # ENXIO: a FIFO that nobody reads (fifo(7)); of a pipe, the first write says so.
        gone = error.errno == errno.ENXIO
        return _NOWHERE if gone else _Way(fd, mode, ask=True, terminal=terminal)
    return _Way(own, mode, owned=True, terminal=terminal)


def _opened(path: str) -> _Way:
    fd = open_log(path)
    return _Way(fd, os.fstat(fd).st_mode, owned=True, terminal=os.isatty(fd))


def _written(way: _Way, data: bytes) -> int:
    """Bytes that went out, at least one; BlockingIOError when there is no room.

    Up to PIPE_BUF bytes enter a pipe whole or not at all; of more, a part may (pipe(7)).
    """
    if way.socket is not None:
        return way.socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    if way.ask:
        if not _writable(way.fd, 0):
            raise BlockingIOError
        data = _fitting_a_terminal(data) if way.terminal else data[:_ROOM_IN_PIPE]
    return _written_in_background(way.fd, data) if way.terminal else os.write(way.fd, data)


def _fitting_a_terminal(data: bytes) -> bytes:
    """What one free buffer surely takes: text up to a newline, or a newline.

    The kernel writes a newline apart (as CR LF, termios(3) ONLCR) and wants a free
    buffer for it, even if the text before has just begun the last one: it would wait.
    """
    end = data.find(b"\n", 0, _ROOM_IN_TERMINAL)
    return data[: end or 1] if end >= 0 else data[:_ROOM_IN_TERMINAL]


def _written_in_background(fd: int, data: bytes) -> int:
    """Write to a terminal also as a background job under `stty tostop`.

    There write(2) raises SIGTTOU, and with a handler set it would be begun again
    without end, each time one more "one worker less" for the master.  While the
    signal is blocked, the kernel lets the write pass (termios(3)); one that
    someone sent is kept until it is unblocked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        return os.write(fd, data)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _writable(fd: int, seconds: float) -> bool:
    """True also on hang-up: the write then says what is wrong."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))
