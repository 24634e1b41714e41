"""One real supervisord-lite under test: started, watched through its log, ended.

Reads the json log as it comes and waits for events, never for time.  What must
hold after every test is asserted by `Program.check_traces`, which the `program`
fixture calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from supervisor.control.client import Client

PATIENCE = 20.0  # seconds: the safety net of every wait
PR_SET_CHILD_SUBREAPER = 36

Event = dict[str, Any]


def become_subreaper() -> None:
    """Whatever a test leaves behind becomes a child of the test process, and is found."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_strangers() -> None:
    """Take away zombies that came to a subreaper from earlier tests."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def wait_gone(pid: int, timeout: float = PATIENCE) -> None:
    """Return when a process that need not be our child is gone or a zombie."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            assert select.select([fd], [], [], timeout)[0], f"process {pid} is still there after {timeout} s"
        finally:
            os.close(fd)


class Program:
    """A master in `folder`, with `app.py` and `config.toml` beside it."""

    def __init__(
        self,
        folder: Path,
        app: str,
        config: str,
        *,
        master: str = "",
        log_format: str = "json",
        env: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
        output: int = subprocess.PIPE,
    ) -> None:
        self.folder = folder
        (folder / "app.py").write_text(textwrap.dedent(app))
        self.config = folder / "config.toml"
        head = f"""
            [master]
            socket = "run/m.sock"
            pidfile = "run/m.pid"
            state_dir = "run/state"
            log_format = "{log_format}"
            log_level = "debug"
            {master}
        """
        self.config.write_text(textwrap.dedent(head) + textwrap.dedent(config))
        self.socket = folder / "run/m.sock"
        self.pidfile = folder / "run/m.pid"
        self.events: list[Event] = []
        self.noise: list[str] = []  # what was no event: prints of the program, tracebacks
        self.tracebacks_expected = False
        self._rest = b""
        self._seen = 0
        command = [*before, sys.executable, "-m", "supervisor", "start", "-c", str(self.config)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Buffered, a line that a worker prints is one write, and never torn by one of the log.
            env={**os.environ, "PYTHONUNBUFFERED": "", **(env or {})},
        )
        self._out = self.process.stdout.fileno() if self.process.stdout else -1

    # -- the log -----------------------------------------------------------------

    def _read(self, timeout: float) -> bool:
        """Take in what is there; false at its end or when nothing came in time."""
        if self._out < 0 or not select.select([self._out], [], [], timeout)[0]:
            return False
        data = os.read(self._out, 65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
                assert event["event"]
                self.events.append(event)
            except (ValueError, TypeError, KeyError):
                self.noise.append(line.decode("utf-8", "replace"))
        return bool(data)

    def find(self, name: str, since: int = 0, **fields: Any) -> Event | None:
        """The first such event that has been read, from index `since` on."""
        for event in self.events[since:]:
            if event["event"] == name and all(event.get(k) == v for k, v in fields.items()):
                return event
        return None

    def wait_for(self, name: str, timeout: float = PATIENCE, since: int = 0, **fields: Any) -> Event:
        """The first such event, read or to come."""
        until = time.monotonic() + timeout
        while (event := self.find(name, since, **fields)) is None:
            more = self._read(max(0.0, until - time.monotonic()))
            if not more and self.find(name, since, **fields) is None:
                raise AssertionError(f"no {name} {fields} came\n{self.log()}")
        return event

    def wait_for_line(self, text: str, timeout: float = PATIENCE) -> str:
        """The first line that is no event and contains `text`."""
        until = time.monotonic() + timeout
        while True:
            for line in self.noise:
                if text in line:
                    return line
            if not self._read(max(0.0, until - time.monotonic())):
                raise AssertionError(f"no line with {text!r} came\n{self.log()}")

    def wait_until(self, holds: Callable[[], object], timeout: float = PATIENCE) -> None:
        """Read its log until something holds: of the events, or of what another look tells."""
        until = time.monotonic() + timeout
        while not holds():
            assert time.monotonic() < until, f"it never came true\n{self.log()}"
            self._read(0.02)

    def read_until(self, enough: Callable[[], object], timeout: float = PATIENCE) -> None:
        """Take in its log until `enough()`, its end, or so many seconds without a line."""
        while not enough() and self._read(timeout):
            pass

    def mark(self) -> int:
        """Where the log is now, for `since`."""
        return len(self.events)

    def log(self) -> str:
        """All that was read, for a failing test."""
        said = [f"{e['time'][11:]} {e['level']} {e['event']}: {e['message']}" for e in self.events]
        traces = [str(e["traceback"]) for e in self.events if e.get("traceback")]
        return "\n".join(["--- events", *said, "--- other", *self.noise, "--- tracebacks", *traces])

    # -- the processes -------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The master's (behind a wrapper such as strace: the last one that has started)."""
        pids = [e["pid"] for e in self.events if e["event"] == "master.started"]
        return int(pids[-1]) if pids else self.process.pid

    def ready(self) -> Program:
        """Wait until every pool is up."""
        self.wait_for("master.ready")
        return self

    def signal(self, *numbers: int) -> None:
        """Send signals to the master."""
        for number in numbers:
            os.kill(self.pid, number)

    def worker(self, name: str) -> int:
        """The pid of the last worker of that name that was started."""
        pids = [e["pid"] for e in self.events if e["event"] == "worker.started" and e["worker"] == name]
        assert pids, f"no {name} has started\n{self.log()}"
        return int(pids[-1])

    def client(self) -> Client:
        """A client of its control socket."""
        return Client(str(self.socket))

    def status(self) -> dict[str, Any]:
        """The object of `status --json`."""
        return self.client().status()

    def wait_shown(self, name: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """What `status` shows of a worker, as soon as `holds` is true of it."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            pools = self.status()["pools"].values()
            shown = next((w for pool in pools for w in pool["workers"] if w["id"] == name), None)
            if shown is not None and holds(shown):
                return shown
        raise AssertionError(f"{name} did not come to this: {shown}\n{self.log()}")

    def cli(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a client command."""
        command = [sys.executable, "-m", "supervisor", *arguments, "-c", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    def fds_and_threads(self) -> tuple[int, int]:
        """What the master holds now."""
        return len(os.listdir(f"/proc/{self.pid}/fd")), len(os.listdir(f"/proc/{self.pid}/task"))

    def orphans_end(self, timeout: float = PATIENCE) -> dict[str, int]:
        """After the master was killed: its workers come to us as orphans; how each ended."""
        begun = ("worker.started", "inner.started")
        names = {e["pid"]: e["worker"] for e in self.events if e["event"] in begun}
        ends = {}
        for pid, name in names.items():
            with contextlib.suppress(ChildProcessError):  # reaped by the master, before
                wait_gone(pid, timeout)
                ends[name] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self._read_rest()
        return ends

    # -- its end -------------------------------------------------------------------

    def wait(self, status: int | None = None, timeout: float = PATIENCE) -> int:
        """Read its log to the end; the exit status, which must be `status` if that is given."""
        until = time.monotonic() + timeout
        fd = os.pidfd_open(self.process.pid) if self.process.returncode is None else -1
        try:
            while self.process.poll() is None:
                left = until - time.monotonic()
                assert left > 0, f"it did not end within {timeout} s\n{self.log()}"
                select.select([fd, *([self._out] if self._out >= 0 else [])], [], [], left)
                self._read(0)
                if self._out >= 0 and self._at_end():
                    self._out = -1
        finally:
            if fd >= 0:
                os.close(fd)
        self._read_rest()
        code = self.process.returncode
        assert status is None or code == status, f"exit status {code}, not {status}\n{self.log()}"
        return code

    def _read_rest(self) -> None:
        self._out = self.process.stdout.fileno() if self.process.stdout else -1
        while self._read(0):
            pass

    def _at_end(self) -> bool:
        """All writers of the pipe are gone: do not spin on it."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        events = poll.poll(0)
        return bool(events) and events[0][1] == select.POLLHUP

    def stop(self, status: int = 0, timeout: float = PATIENCE) -> Event:
        """TERM, its exit status, and its report."""
        self.signal(signal.SIGTERM)
        self.wait(status, timeout)
        return self.report()

    def report(self) -> Event:
        """The one `stop.report`."""
        reports = [e for e in self.events if e["event"] == "stop.report"]
        assert len(reports) == 1, f"{len(reports)} reports\n{self.log()}"
        return reports[0]

    def check_traces(self) -> None:
        """What must hold after every test."""
        try:
            self._check_traces()
        finally:
            if self.process.stdout:
                self.process.stdout.close()

    def _check_traces(self) -> None:
        if self.process.poll() is None:
            tree = psutil.Process(self.process.pid).children(recursive=True)
            for process in [psutil.Process(self.process.pid), *tree]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self.process.wait()
            raise AssertionError(f"it was still running at the end of the test\n{self.log()}")
        self._read_rest()
        traces = [line for line in self.noise if "Traceback" in line]
        traces += [e["message"] for e in self.events if "Traceback" in str(e.get("traceback"))]
        assert self.tracebacks_expected or not traces, f"tracebacks\n{self.log()}"
        if self.process.returncode >= 0:
            assert not self.socket.exists(), "the control socket was left behind"
            assert not self.pidfile.exists(), "the pidfile was left behind"
            assert not list(self.folder.glob("run/*.notify")), "the notify socket was left behind"


def check_no_child_left() -> None:
    """Neither a child, nor an orphan that came to us, nor a zombie."""
    left = psutil.Process().children(recursive=True)
    names = []
    for process in left:
        with contextlib.suppress(psutil.Error):
            dead = process.status() == psutil.STATUS_ZOMBIE  # it has no command line any more
            names.append(f"{process.pid} {'a zombie' if dead else process.cmdline()}")
            process.kill()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    assert not names, f"processes were left behind: {names}"
