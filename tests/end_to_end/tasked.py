"""Masters with tasks, for the tests of tasks: configurations, and what a run has printed or become."""

from __future__ import annotations

from typing import Any

from program import Event, Program

NEVER = "1d"  # nothing is due while a test lasts
POOL = '[pools.idle]\ntarget = "app:idle"\n'
APP = """
import os
import signal
import sys
import time


def idle(worker):
    worker.wait()


def hello(worker):
    print("hello from", worker.id)


def fails(worker):
    print("about to fail")
    sys.exit(3)


def patient(worker):
    print("began", flush=True)
    worker.wait()
    print("saved its cursor")


def stubborn(worker):
    "Says that it stops, and does not."
    print("began", flush=True)
    while True:
        time.sleep(60)
"""


def task(name: str, target: str = "hello", more: str = "", every: str = NEVER) -> str:
    """A task with a target of `APP`."""
    return f'[tasks.{name}]\ntarget = "app:{target}"\nevery = "{every}"\n{more}\n'


def state_of(one: Program, name: str) -> dict[str, Any]:
    """What `tasks list` shows of a task."""
    found: dict[str, Any] = one.client().call("tasks.list")[name]
    return found


def runs_of(one: Program, name: str) -> list[dict[str, Any]]:
    """Its history, newest first."""
    found: list[dict[str, Any]] = one.client().call("tasks.history", name=name)["runs"]
    return found


def begin(one: Program, name: str) -> int:
    """Run it by hand, and wait until it says that it has begun; the run's number."""
    run = int(one.client().call("tasks.run", name=name)["run"])
    one.wait_for("task.output", run=run, lines=["began"])
    return run


def pid_of(one: Program, run: int) -> int:
    return int(one.wait_for("task.started", run=run)["pid"])


def ended(one: Program, run: int) -> Event:
    """The event of its end."""
    ends = ("task.finished", "task.failed", "task.interrupted")
    one.wait_until(lambda: any(one.find(name, run=run) for name in ends))
    return next(event for name in ends if (event := one.find(name, run=run)))
