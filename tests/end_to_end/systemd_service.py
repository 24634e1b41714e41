"""The shipped units, installed in a box with a configuration and a program for them to run.

The units are the files that users install; a drop-in changes only ExecStart= and ExecReload=
(this interpreter, a configuration of the test) and where stderr goes, since the
box has no journal.  Knows nothing of what a test expects.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from systemd_box import HOME, REPOSITORY, Box

UNITS = REPOSITORY / "contrib" / "systemd"
UNIT = "supervisord-lite.service"
TEMPLATE = "supervisord-lite@.service"
SOCKET = "supervisord-lite.socket"

CONFIG = """
[master]
stop_timeout = "{stop_timeout}"

[pools.app]
target = "app:{target}"
workers = 2
ready = "{ready}"
{hooks}
"""

APP = """
import os
import signal
import threading


def patient(worker):
    while not worker.wait(3600):
        pass


def stubborn(worker):
    "Never looks whether it should stop."
    threading.Event().wait()


def slow_to_leave(worker):
    patient(worker)
    threading.Event().wait(3)


def failing(worker):
    raise RuntimeError("no worker succeeds")


def slow_to_come(worker):
    "Says that it is there, and is ready when somebody lets it through."
    with open("arrived", "wb") as arrived:
        arrived.write(b"!")
    with open("gate", "rb", buffering=0) as gate:
        gate.read(1)
    worker.ready()
    patient(worker)


def fail_once(context):
    if os.path.exists("fail-once"):
        os.unlink("fail-once")
        raise RuntimeError("the first start fails")


def fail(context):
    raise RuntimeError("no start succeeds")
"""


class Service:
    """The unit under test and its configuration."""

    def __init__(self, box: Box) -> None:
        self.box = box
        (box.folder / "app.py").write_text(APP)
        for name in (UNIT, TEMPLATE):
            box.install(name, (UNITS / name).read_text())
            stem = "%i" if "@" in name else "config"
            self.drop_in(name, "test", self.exec_start(stem))

    def install_socket(self) -> None:
        """The socket unit, which not everybody has."""
        self.box.install(SOCKET, (UNITS / SOCKET).read_text())

    def exec_start(self, stem: str) -> str:
        return (
            f"[Service]\nExecStart=\nExecStart={self.box.python} -m supervisor start -c {HOME}/{stem}.toml\n"
            f"ExecReload=\nExecReload={self.box.python} -m supervisor reload -c {HOME}/{stem}.toml\n"
            f"Environment=PYTHONPATH=/run/box/repository\nStandardError=append:{HOME}/log\n"
        )

    def drop_in(self, unit: str, name: str, text: str) -> None:
        self.box.install(f"{unit}.d/{name}.conf", text)

    def configure(
        self,
        target: str = "patient",
        *,
        stop_timeout: str = "10s",
        ready: str = "auto",
        hooks: str = "",
        name: str = "config",
        more: str = "",
    ) -> None:
        text = CONFIG.format(target=target, stop_timeout=stop_timeout, ready=ready, hooks=hooks) + more
        (self.box.folder / f"{name}.toml").write_text(text)

    def start(self) -> None:
        started = self.box.systemctl("start", UNIT)
        assert started.returncode == 0, started.stderr

    def signal_master(self, name: str) -> None:
        sent = self.box.systemctl("kill", "-s", name, "--kill-who=main", UNIT)
        assert sent.returncode == 0, sent.stderr

    def wait_for(self, **wanted: str) -> None:
        self.box.wait_for(UNIT, **wanted)

    def show(self, name: str) -> str:
        return self.box.show(UNIT, name)[name]

    def processes(self) -> set[int]:
        return self.box.processes(UNIT)

    def cli(self, *arguments: str) -> str:
        """What a command of a person prints, who has it go well."""
        asked = self.box.run(
            "env", "PYTHONPATH=/run/box/repository", self.box.python, "-m", "supervisor",
            *arguments, "-c", f"{HOME}/config.toml",
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr
        return str(asked.stdout)

    def status(self) -> dict[str, Any]:
        """What the master itself says, asked as a person would."""
        answer: dict[str, Any] = json.loads(self.cli("status", "--json"))
        return answer

    def wait_for_task(self, name: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """What `tasks list` shows of it, once that is so; each question is a turn of the master's loop."""
        for _ in range(100):
            found: dict[str, Any] = json.loads(self.cli("tasks", "list", "--json"))[name]
            if holds(found):
                return found
        raise AssertionError(f"the task is {found}")

    def wait_for_workers(self, *states: str) -> None:
        """Until the master tells of workers in just these states; each question is a turn of its loop."""
        found: list[str] = []
        for _ in range(100):
            found = sorted(worker["state"] for worker in self.status()["pools"]["app"]["workers"])
            if found == sorted(states):
                return
        raise AssertionError(f"the workers are {found}, not {states}")

    def console(self) -> str:
        return "\n".join(self.box.console.lines)


@contextlib.contextmanager
def fifo(service: Service, name: str) -> Iterator[int]:
    """A FIFO in the service's folder, open in both directions: opening it never waits, reading does."""
    os.mkfifo(service.box.folder / name)
    opened = os.open(service.box.folder / name, os.O_RDWR)
    try:
        yield opened
    finally:
        os.close(opened)
