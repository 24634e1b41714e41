"""The sd_notify protocol, in both directions.  sd_notify(3), unix(7)

As a receiver: one datagram socket whose sender the kernel names
(SCM_CREDENTIALS), so that no worker can speak for another.  As a sender: to
systemd, and from a worker to its master.  Knows the bytes on the wire; what a
message means is the caller's matter.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Iterator, Mapping

from supervisor.errors import StartError
from supervisor.unix.descriptors import MOST_SENT, close_received, received
from supervisor.unix.files import LONGEST_PATH, bind_private

CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred
QUEUE = "/proc/sys/net/unix/max_dgram_qlen"
MOST = 1024  # datagrams that are read at once, whatever is in the queue
MOST_LINES = 64  # of one message; nobody has so much to say
SHORT = 1024  # bytes: in a longer message, what is no UTF-8 is not worth the time to be looked at
ANCILLARY = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(MOST_SENT * 4)
LONGEST = 65 * 1024  # a line of the log, and what it is


class Receiver:
    """The master's end: a socket at ``path``, mode 0600."""

    def __init__(self, path: str, owner: int | None = None) -> None:
        """Only ``owner``, a uid, may write to it by its path; as a rule that is our own user."""
        self.path = path
        _clear(path, owner)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.setblocking(False)
        # Only our own user may write by the path: a flood by a stranger would keep READY from
        # coming through.  Workers that become somebody else write by what they inherit.
        try:
            bind_private(self.socket, path)
            if owner is not None:
                os.chown(path, owner, -1)
        except OSError:
            self.socket.close()
            raise
        # All that is there at the begin of a turn is read in it: what somebody said before it died is
        # heard before its death is noted.  What a flood adds meanwhile is the next turn's.
        self._most = min(MOST, _queue_length() + 1)

    def sender(self) -> socket.socket:
        """A connected socket that all workers inherit: it works after a chroot or a change of uid."""
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        end.connect(self.path)
        return end

    def messages(self, most: int | None = None) -> Iterator[tuple[int, dict[str, str]]]:
        """What has arrived: the sender's pid and its assignments.

        Bounded, so that a flood cannot hold the loop.  Descriptors that come
        along are closed: for BARRIER=1 that is the answer.
        """
        for _ in range(self._most if most is None else most):
            try:
                data, ancillary, _flags, _ = self.socket.recvmsg(LONGEST, ANCILLARY, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                return
            close_received(received(ancillary))
            pid = 0
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid = CREDENTIALS.unpack(content[: CREDENTIALS.size])[0]
            if pid:
                yield pid, parse(data)

    def close(self) -> None:
        """Close the socket and remove its path."""
        self.socket.close()
        with contextlib.suppress(OSError):
            os.unlink(self.path)


def _queue_length() -> int:
    """How many datagrams may wait in a socket that is made now, less one.  unix(7)"""
    with contextlib.suppress(OSError, ValueError), open(QUEUE, encoding="ascii") as file:
        return int(file.read())
    return MOST


def _clear(path: str, owner: int | None) -> None:
    """Remove a stale socket; the caller holds the control socket beside it, so nobody serves it.

    One that a killed master had given to ``owner`` is ours as well.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in (0, os.geteuid(), owner):
        raise StartError(
            f"{path} is in the way, and is no socket of ours: move it away, or set another [master] socket"
        )
    os.unlink(path)


def parse(data: bytes) -> dict[str, str]:
    """``KEY=VALUE`` lines; what is not of that form, or too much, is passed over.

    However it is made, a message costs little: a turn may have hundreds to read.
    """
    try:
        lines = data.decode("utf-8", "replace" if len(data) <= SHORT else "strict").split("\n", MOST_LINES)
    except UnicodeDecodeError:
        return {}
    pairs = (line.partition("=") for line in lines[:MOST_LINES])
    return {key: value for key, equals, value in pairs if key and equals}


def form(**fields: object) -> bytes:
    """The bytes of one message; a newline in a value would be another assignment."""
    return "\n".join(f"{key}={_one_line(str(value))}" for key, value in fields.items()).encode()


def _one_line(text: str) -> str:
    return text.replace("\n", " ").encode("utf-8", "replace").decode()


def way_by(fd: int) -> socket.socket:
    """The inherited socket to the master.  All workers share it, so all share its mode: it blocks.

    With a default timeout, which an application may have set, `socket` would have it not block.
    """
    way = socket.socket(fileno=fd)
    way.setblocking(True)
    return way


def hand_over(fd: int, data: bytes, seconds: float) -> bool:
    """Send one message to the master, waiting for room; false if it is gone, or does not read in time."""
    with contextlib.suppress(OSError), way_by(os.dup(fd)) as way:
        return send_within(seconds, way, data)
    return False


def send_within(seconds: float, way: socket.socket, data: bytes) -> bool:
    """Send one message, waiting for room; false if there was none in time.  OSError: nobody is there."""
    until = time.monotonic() + seconds
    room = select.poll()
    room.register(way, select.POLLOUT)  # of a connected datagram socket: there is room over there
    while not _sent(way, data):
        if (left := until - time.monotonic()) <= 0:
            return False
        room.poll(left * 1000)
    return True


def _sent(way: socket.socket, data: bytes) -> bool:
    with contextlib.suppress(BlockingIOError):
        way.send(data, socket.MSG_DONTWAIT)
        return True
    return False


class Systemd:
    """The sender to whoever started us; silent where nobody listens.

    ``$NOTIFY_SOCKET`` is a path, or ``@name`` for the abstract namespace;
    anything else (``vsock:``) is not supported, and said so in `problem`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.problem: str | None = None
        self._was_ready = False
        self._address = self._read(environ.get("NOTIFY_SOCKET", ""))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None

    def _read(self, name: str) -> str:
        if not name:
            return ""
        if name[0] not in "/@" or len(name.encode()) > LONGEST_PATH:
            self.problem = (
                f"NOTIFY_SOCKET={name!r} is no unix socket that can be reached: nothing is notified"
            )
            return ""
        return "\0" + name[1:] if name[0] == "@" else name

    def send(self, **fields: object) -> None:
        """Tell it, without ever blocking: a full queue or a vanished socket loses the message."""
        if self._socket is None:
            return
        try:
            self._socket.sendto(form(**fields), socket.MSG_DONTWAIT, self._address)
            self._was_ready = self._was_ready or "READY" in fields
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self._gone(error)
        except OSError as error:
            self.problem = f"cannot notify the service manager: {error}"

    def _gone(self, error: OSError) -> None:
        """Who only waited for READY (`start --daemon`) has what it wanted; else it is a fault."""
        if not self._was_ready:
            self.problem = f"cannot notify the service manager: {error}"


def watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Seconds between two WATCHDOG=1 that the service manager asks for: half of its limit."""
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", ""))
        pid = int(environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 and pid == os.getpid() else None
