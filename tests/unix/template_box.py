"""A master in small, with template processes: its loop, its children, its notify socket."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from supervisor.child import template
from supervisor.child.birth import Birth
from supervisor.exits import End
from supervisor.settings import Hooks, MasterSettings, PoolSettings
from supervisor.unix import process
from supervisor.unix.children import Children
from supervisor.unix.loop import Loop
from supervisor.unix.notify import Receiver
from supervisor.unix.prctl import PR_SET_CHILD_SUBREAPER, become_subreaper
from supervisor.unix.templates import Templates
from supervisor.unix.title import Title

KEY = "@web:1"
TEMPLATE = 1  # its number
PATIENCE = 60.0  # seconds: a safety net

APPLICATION = """
import ctypes, gc, json, os, signal
IMPORTED_BY = os.getpid()

def stop_here():
    os.kill(os.getpid(), signal.SIGSTOP)

def death_signal():
    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number), 0, 0, 0)  # PR_GET_PDEATHSIG
    return number.value

def run(worker):
    facts = {"pid": os.getpid(), "parent": os.getppid(), "imported_by": IMPORTED_BY,
             "session": os.getsid(0), "death_signal": death_signal(),
             "frozen": gc.get_freeze_count(), "collects": gc.isenabled(),
             "environ": dict(os.environ), "uids": os.getresuid(), "groups": os.getgroups(),
             "fds": {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                     if os.path.lexists(f"/proc/self/fd/{fd}")}}
    with open(os.path.join(os.environ["BOX"], worker.id), "w") as file:
        json.dump(facts, file)
    worker.ready()
    worker.wait()
"""


class Box:
    """What `master` does with templates, one thing seen after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = Loop()
        self.children = Children(self.loop)
        self.children.learn = self.learn
        self.templates = Templates(self.loop)
        self.notify = Receiver(str(folder / "notify"))
        self.loop.watch(self.notify.socket.fileno(), "notify")
        self._sender = self.notify.sender()
        self.answers: list[tuple[int, int | str]] = []
        self.heard: list[tuple[int | None, dict[str, str]]] = []
        self.ends: dict[int, tuple[End, int | None]] = {}
        self.account: Any = None
        (folder / "events").touch()

    # -- births ----------------------------------------------------------------

    def start(self, application: str = "", *, path: Path | None = None, **pool: Any) -> int:
        """A template that imports ``application`` beside what all have; its pid."""
        (path or self.folder).joinpath("boxed.py").write_text(APPLICATION + application)
        settings = PoolSettings("web", target="boxed:run", ready="notify", env={"BOX": str(self.folder)})
        settings = PoolSettings(**{**vars(settings), **pool})
        inner = PoolSettings(**{**vars(settings), "name": KEY})
        channel = self.templates.connect(KEY)
        birth = self._birth(inner, path or self.folder)
        [pid] = self.children.fork_all(
            [(TEMPLATE, lambda: template.live(birth, channel, Hooks(), self._voice, settings))]
        )
        self.templates.sealed(KEY)
        assert isinstance(pid, int)
        return pid

    def ready(self, application: str = "", **pool: Any) -> int:
        """A template that takes requests; its pid."""
        pid = self.start(application, **pool)
        self.until_ready(TEMPLATE)
        return pid

    def _birth(self, pool: PoolSettings, path: Path) -> Birth:
        return Birth(
            master=MasterSettings("box", "m.sock", "state", working_dir="/", pythonpath=()),
            pool=pool,
            slot=0,
            generation=1,
            parent=os.getpid(),
            notify_path=self.notify.path,
            notify_fd=self._sender.fileno(),
            nofile=resource.getrlimit(resource.RLIMIT_NOFILE),
            title=Title(0, 0),
            foreign=frozenset(),
            account=self.account,
            path=(str(path), *sys.path),
        )

    def _voice(self, by: int, **identity: Any) -> Any:
        def tell(event: str, level: str | None = None, **fields: Any) -> None:
            with (self.folder / "events").open("a") as file:
                file.write(json.dumps({"event": event, "level": level, **identity, **fields}) + "\n")

        tell.by = by  # it has its own way already
        return tell

    # -- what is seen ----------------------------------------------------------

    def learn(self) -> None:
        for number, outcome in self.templates.answers():
            self.answers.append((number, outcome))
            if isinstance(outcome, int):
                assert self.children.adopt(number, outcome)

    def turn(self) -> None:
        """Wait for something, and note it, in the order in which a master does."""
        seen = self.loop.poll(self.loop.now() + PATIENCE)
        assert seen, "nothing happened"
        for one in sorted(seen, key=lambda one: one.kind == "exit"):
            if one.kind == "template":
                self.learn()
            elif one.kind == "notify":
                for pid, message in self.notify.messages():
                    self.heard.append((self.children.number(pid), message))
            elif one.kind == "exit" and (buried := self.children.bury(one.key)):
                assert one.key not in self.ends, "reaped twice"
                self.ends[one.key] = buried

    def until_ready(self, number: int) -> None:
        while (number, {"READY": "1"}) not in self.heard:
            assert number not in self.ends, f"it ended: {self.ends[number]} {self.events()}"
            self.turn()

    def until_answered(self, number: int) -> int | str:
        while number not in dict(self.answers):
            self.turn()
        return dict(self.answers)[number]

    def until_end(self, number: int) -> End:
        while number not in self.ends:
            self.turn()
        return self.ends[number][0]

    def worker(self, number: int, slot: int = 0, out: int | None = None, err: int | None = None) -> int:
        """Ask for a worker, and wait until it is ready; its pid."""
        self.templates.request(KEY, number, slot, out, err)
        pid = self.until_answered(number)
        assert isinstance(pid, int), pid
        self.until_ready(number)
        return pid

    def facts(self, name: str) -> dict[str, Any]:
        """What a worker wrote down."""
        facts: dict[str, Any] = json.loads((self.folder / name).read_text())
        return facts

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "events").read_text().splitlines()]

    def close(self) -> None:
        """End everybody: whoever is our child now, known or not."""
        self.templates.forget(KEY)
        for pid in process.children():
            process.send(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            if (number := self.children.number(pid)) is None:
                process.reap(pid)
            else:
                self.children.bury(number)
        self.notify.close()
        self._sender.close()
        self.loop.close()


@contextmanager
def boxed(folder: Path) -> Iterator[Box]:
    """A box in this process, which adopts for its time; no descriptor is left."""
    wakeup = signal.set_wakeup_fd(-1)
    fds = sorted(os.listdir("/proc/self/fd"))
    assert become_subreaper()
    box = Box(folder)
    try:
        yield box
        box.close()
    finally:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        signal.set_wakeup_fd(wakeup)
    assert sorted(os.listdir("/proc/self/fd")) == fds, "descriptors are left"


def wait_stopped(pid: int) -> None:
    """Until it is in state T, whoever its parent is."""
    until = time.monotonic() + PATIENCE
    while state(pid) != "T":
        assert time.monotonic() < until
        os.sched_yield()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def child_of(pid: int) -> int:
    """The one child that it has, as soon as it has one."""
    until = time.monotonic() + PATIENCE
    while not (found := psutil.Process(pid).children()):
        assert time.monotonic() < until
    return found[0].pid
