"""A drainer in a process of its own, and the master's side of it in the test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.settings import Output
from supervisor.unix.drains import Drains, Last, Lost
from supervisor.unix.loop import Loop
from supervisor.unix.sinks import Sink

SECONDS = 60.0  # the safety net of every wait

# What `child.callable` does for a target, without the rest of a master.
SCRIPT = """
import os, signal, socket, sys
from supervisor.inner.output import run
from supervisor.unix.prctl import set_parent_death_signal
from supervisor.worker import Worker

class Link:
    def send(self, **fields): return True
    def poke(self): pass

worker = Worker("@output.0", generation=1, options={}, link=Link())
worker.sockets = {"channel": socket.socket(fileno=int(sys.argv[1]))}
signal.signal(signal.SIGTERM, lambda number, frame: worker._stop("stop"))
signal.signal(signal.SIGUSR2, lambda number, frame: worker._stop("replace"))
set_parent_death_signal(signal.SIGTERM, os.getppid())
run(worker)
"""


class Box:
    """Drains with a loop of their own; what they told is kept in `told`."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.drains = Drains(self.loop)
        self.told: list[Last | Lost] = []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **how: Any) -> subprocess.Popen[bytes]:
        """A drainer, the first or the next."""
        end = self.drains.connect()
        self.process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(end)], pass_fds=[end], **how)
        self.drains.connected()
        return self.process

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(SECONDS)

    def stop(self) -> int:
        """Its exit status after a TERM."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    def worker(
        self, number: int, sink: Sink | None, stderr: Sink | None = None, name: str = "web.0"
    ) -> list[int]:
        """The writing ends that a worker would have, one for each of its pipes."""
        ends = self.drains.begin(number, name, sink, stderr)
        copies = [os.dup(fd) for fd in dict.fromkeys(ends) if fd is not None]
        self.drains.sealed(number)
        return copies

    def write(self, number: int, sink: Sink, data: bytes, name: str = "web.0") -> None:
        """A worker that writes so much and exits."""
        (fd,) = self.worker(number, sink, name=name)
        os.write(fd, data)
        os.close(fd)

    def until(self, is_there: Callable[[], object]) -> None:
        """Turn the loop until it is."""
        deadline = self.loop.now() + SECONDS
        while not is_there():
            assert self.loop.now() < deadline, self.told
            if any(seen.kind == "drain" for seen in self.loop.poll(deadline)):
                self.told += self.drains.seen()

    def last(self, number: int) -> list[str]:
        """The worker is dead; its last lines.  All that it wrote is in its place by then."""
        assert self.drains.gone(number)
        self.until(lambda: any(isinstance(one, Last) and one.number == number for one in self.told))
        return next(list(one.lines) for one in self.told if isinstance(one, Last) and one.number == number)

    def lost(self) -> list[Lost]:
        return [one for one in self.told if isinstance(one, Lost)]

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()
        self.drains.close()
        wakeup = signal.set_wakeup_fd(-1)
        self.loop.close()
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(wakeup)


@pytest.fixture
def box() -> Iterator[Box]:
    """After it no descriptor is left."""
    before = set(os.listdir("/proc/self/fd"))
    box = Box()
    yield box
    box.close()
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def sink(tmp_path: Path) -> Output:
    return Output(str(tmp_path / "out.log"))


def read(sink: Output) -> bytes:
    return Path(sink.file).read_bytes()


def fds() -> int:
    return len(os.listdir("/proc/self/fd"))
