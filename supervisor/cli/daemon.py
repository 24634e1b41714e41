"""``start --daemon``: start the master detached, and return once it is ready or has failed.

Knows the child by its handle (never by a pidfile) and its readiness by a
notify socket of its own, see sd_notify(3).  What the master does between is
`boot`'s matter.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import FrameType

import click

from supervisor.cli import options, tree, words
from supervisor.control.client import Client
from supervisor.errors import StartError, SupervisorError
from supervisor.exits import Exit
from supervisor.settings import Settings
from supervisor.unix.log_file import open_log

SLACK = 5.0
SHOWN = 10  # lines of the log when it failed
TAIL = 64 * 1024
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def launch(settings: Settings) -> int:
    """Start the master in the background; 0 only once it said READY=1."""
    settings, log = _with_log(settings)
    within = options.longest_start(settings) + SLACK
    with _interrupted() as interrupted, _notified() as (ready, path):
        child = _started(settings, path, log.fd)
        _wait(child, ready, interrupted, within)
        outcome = child.poll()
        if outcome is None and not ready.said:
            why = "interrupted" if interrupted else f"not ready within {within:g} s"
            return _give_up(settings, child, f"{why}, stopped again; its log is {log.path}")
    if outcome is not None:
        return _failed(child, outcome, log)
    click.echo(f"{settings.master.name}: ready, pid {child.pid}, log in {log.path}")
    return Exit.STOPPED


# The log: where a master without a terminal speaks.


@dataclass(frozen=True)
class _Log:
    path: str
    fd: int
    start: int  # what stands before it is from earlier masters


def _with_log(settings: Settings) -> tuple[Settings, _Log]:
    """The settings with a log file, and that file, open."""
    path = settings.master.log_file
    if path is None:
        path = os.path.join(settings.master.state_dir, f"{settings.master.name}.log")
        settings = replace(settings, master=replace(settings.master, log_file=path))
    try:
        if path.startswith(settings.master.state_dir):
            os.makedirs(settings.master.state_dir, mode=0o700, exist_ok=True)
        fd = open_log(path)
        os.set_blocking(fd, True)  # it becomes somebody's stderr
    except OSError as error:
        raise StartError(f"cannot write the log {path}: {error.strerror}; set [master] log_file") from error
    return settings, _Log(path, fd, os.fstat(fd).st_size)


def _news(log: _Log) -> list[str]:
    """The last lines that were written since we started."""
    with suppress(OSError), open(log.path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        file.seek(max(log.start, end - TAIL))
        return [_spoken(line) for line in file.read(TAIL).decode(errors="replace").splitlines()][-SHOWN:]
    return []


def _spoken(line: str) -> str:
    """The message of an event, and where one is told the error behind it; any other line as it is."""
    try:
        event = json.loads(line)
        cause = str(event.get("traceback") or "").strip().rpartition("\n")[2]
        return words.plain(f"{event['message']}: {cause}" if cause else event["message"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return words.plain(line)


# The child.


def _started(settings: Settings, path: str, log: int) -> subprocess.Popen[bytes]:
    from supervisor import boot

    packed = boot.pack(settings, boot.remember(settings))
    try:
        return subprocess.Popen(
            boot.argv(packed[0]),
            pass_fds=packed,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,  # what does not go through the log: a failed start, a worker's own words
            env={**os.environ, "NOTIFY_SOCKET": path},
        )
    finally:
        for fd in packed:
            os.close(fd)


def _failed(child: subprocess.Popen[bytes], outcome: int, log: _Log) -> int:
    for line in _news(log):
        click.echo(line, err=True)
    how = signal.Signals(-outcome).name if outcome < 0 else f"status {outcome}"
    left = f"the master (pid {child.pid}) left with {how} before it was ready"
    click.echo(f"supervisord-lite: {left}; its log is {log.path}", err=True)
    return outcome if outcome > 0 else Exit.FAILED


def _give_up(settings: Settings, child: subprocess.Popen[bytes], why: str) -> int:
    """Say who is not ready, or what is waited for, and stop what was started."""
    unready = _unready(settings)
    _end(child, settings.master.stop_timeout)
    click.echo(f"supervisord-lite: {why}; {unready}", err=True)
    return Exit.FAILED


def _unready(settings: Settings) -> str:
    try:
        status = Client(settings.master.socket).status()
    except SupervisorError as error:
        return str(error)
    if status.get("reason"):
        return words.plain(status["reason"])
    pools = status.get("pools") or {}
    missing = [f"{n} ({p['ready']} of {p['desired']})" for n, p in pools.items() if p.get("state") != "ready"]
    return f"pools that are not ready: {', '.join(missing) or 'none'}{tree.failures(status)}"


def _end(child: subprocess.Popen[bytes], stop_timeout: float) -> None:
    """TERM, and QUIT if that takes longer than the master itself allows."""
    for number, seconds in (
        (signal.SIGTERM, stop_timeout + SLACK),
        (signal.SIGQUIT, SLACK),
        (signal.SIGKILL, SLACK),
    ):
        child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
            return


# Readiness.


class _Ready:
    """The socket at which one child may say READY=1."""

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket
        self.said = False

    def hear(self, pid: int) -> None:
        """Read one datagram; the kernel says who sent it."""
        data, ancillary, _flags, _address = self.socket.recvmsg(4096, socket.CMSG_SPACE(CREDENTIALS.size))
        for level, kind, body in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                sender = CREDENTIALS.unpack(body[: CREDENTIALS.size])[0]
                self.said |= sender == pid and b"READY=1" in data.split(b"\n")


@contextmanager
def _notified() -> Iterator[tuple[_Ready, str]]:
    """A notify socket in a folder that is ours alone; it is gone afterwards."""
    folder = tempfile.mkdtemp(prefix="supervisord-lite-", dir="/tmp")  # a short path
    path = os.path.join(folder, "notify")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            listener.bind(path)
            yield _Ready(listener), path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(child: subprocess.Popen[bytes], ready: _Ready, interrupted: list[int], seconds: float) -> None:
    """Until the child is ready or gone, we are interrupted, or the time is over."""
    until = time.monotonic() + seconds
    with _watched(child) as poller:
        poller.register(ready.socket, select.POLLIN)
        while not ready.said and child.poll() is None and not interrupted:
            if (left := until - time.monotonic()) <= 0:
                return
            if any(fd == ready.socket.fileno() for fd, _ in poller.poll(min(left, 0.5) * 1000)):
                ready.hear(child.pid)


@contextmanager
def _watched(child: subprocess.Popen[bytes]) -> Iterator[select.poll]:
    """A poller that also wakes when the child ends; without pidfd_open(2) the caller's limit has to do."""
    poller = select.poll()
    try:
        fd = os.pidfd_open(child.pid)
    except OSError:
        yield poller
        return
    try:
        poller.register(fd, select.POLLIN)
        yield poller
    finally:
        os.close(fd)


# Being interrupted.


@contextmanager
def _interrupted() -> Iterator[list[int]]:
    """Signals that came meanwhile, only noted: nothing half-started may stay behind."""
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = {n: signal.signal(n, note) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
