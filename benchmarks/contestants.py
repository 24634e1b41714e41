"""Who takes part, how to start each with N workers, and what to measure of one.

A contestant's workers tell the benchmark themselves that they run (`trivial`),
so no one's log or idea of readiness is measured.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trivial

HERE = Path(__file__).resolve().parent
PATIENCE = 120.0  # seconds: a safety net

# Who is killed is older than `reset_after`: no backoff is part of a replacement's time.
CONFIG = """
[master]
socket = "m.sock"
state_dir = "state"
log_format = "json"
pythonpath = ["{here}"]
[pools.trivial]
target = "trivial:run"
workers = {count}
backoff = {{ reset_after = "1ms" }}
"""
CIRCUS = """
[circus]
endpoint = ipc://{folder}/endpoint
pubsub_endpoint = ipc://{folder}/pubsub
[watcher:trivial]
cmd = {python} -c "import trivial; trivial.bare()"
numprocesses = {count}
copy_env = True
"""
COTYLEDON = """
import sys, cotyledon, trivial
class Service(cotyledon.Service):
    def run(self):
        trivial.tell()
manager = cotyledon.ServiceManager()
manager.add(Service, workers=int(sys.argv[1]))
manager.run()
"""


def ours(folder: Path, count: int) -> list[str]:
    (folder / "config.toml").write_text(CONFIG.format(here=HERE, count=count))
    return [sys.executable, "-m", "supervisor", "start", "-c", str(folder / "config.toml")]


def bare(folder: Path, count: int) -> list[str]:
    del folder
    return [sys.executable, str(HERE / "bare.py"), str(count)]


def gunicorn(folder: Path, count: int) -> list[str]:
    (folder / "gunicorn.py").write_text("from trivial import tell\ndef post_worker_init(_): tell()\n")
    options = ["-c", str(folder / "gunicorn.py"), "-b", f"unix:{folder}/g.sock", "-w", str(count)]
    return [sys.executable, "-m", "gunicorn", *options, "trivial:application"]


def circus(folder: Path, count: int) -> list[str]:
    text = CIRCUS.format(folder=folder, python=sys.executable, count=count)
    (folder / "circus.ini").write_text(text)
    return [sys.executable, "-m", "circus.circusd", str(folder / "circus.ini")]


def cotyledon(folder: Path, count: int) -> list[str]:
    (folder / "service.py").write_text(COTYLEDON)
    return [sys.executable, str(folder / "service.py"), str(count)]


Command = Callable[[Path, int], list[str]]
PEERS: dict[str, Command] = {"gunicorn": gunicorn, "circus": circus, "cotyledon": cotyledon}


def prepared() -> dict[str, str]:
    """The environment of a run: compiled modules, as an installed program has them."""
    py_compile.compile(trivial.__file__)
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": path}


def contestants() -> dict[str, Command]:
    """Ours, the bare script, and those peers that are installed here."""
    peers = {name: command for name, command in PEERS.items() if importlib.util.find_spec(name)}
    return {"supervisord-lite": ours, "bare fork": bare, **peers}


class Run:
    """One contestant with its workers, from start to stop.  All times are seconds."""

    def __init__(self, argv: list[str], folder: Path) -> None:
        fifo = folder / "ready"
        os.mkfifo(fifo)
        self._ready = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)  # RDWR: no end of file between two writers
        environ = prepared()
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            argv,
            env={**environ, trivial.FIFO: str(fifo)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._argv, self.replaced = argv, 0
        self._gone = os.pidfd_open(self.process.pid)

    def come_up(self, count: int) -> None:
        """Until all workers run; `first` and `boot` are the seconds to the first and to the last one."""
        self.pids = [self.next_ready()]
        self.first = time.monotonic() - self.began
        self.pids += [self.next_ready() for _ in range(count - 1)]
        self.boot = time.monotonic() - self.began

    def next_ready(self) -> int:
        """The pid of the next worker that says that it runs."""
        ready = select.select([self._ready, self._gone], [], [], PATIENCE)[0]
        assert ready == [self._ready], f"{self._argv} left, or no worker came up"
        return int(os.read(self._ready, trivial.WIDTH))

    def replace(self) -> float:
        """From the kill -9 of a worker until another one runs."""
        began = time.monotonic()
        os.kill(self.pids.pop(0), signal.SIGKILL)
        self.pids.append(self.next_ready())
        self.replaced += 1
        return time.monotonic() - began

    def stop(self) -> float:
        """From TERM until the process and all its workers are gone."""
        began = time.monotonic()
        self.process.terminate()
        select.select([self._gone], [], [], PATIENCE)  # Popen.wait with a limit sleeps, up to 50 ms at once
        seconds = time.monotonic() - began
        self.process.wait(0)
        assert not any(os.path.exists(f"/proc/{pid}") for pid in self.pids)
        return seconds

    def close(self) -> None:
        """Kill it if it is still there."""
        os.close(self._ready)
        os.close(self._gone)
        self.process.kill()
        self.process.wait()


@contextmanager
def running(command: Command, folder: Path, count: int) -> Iterator[Run]:
    """One run, all its workers up; killed whatever happens."""
    folder.mkdir(parents=True)
    run = Run(command(folder, count), folder)
    try:
        run.come_up(count)
        yield run
    finally:
        run.close()


def cpu_of_children() -> float:
    """CPU seconds of all processes that ended below this one and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
