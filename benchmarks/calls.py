"""What a call of a worker costs in a hot loop.

    python benchmarks/calls.py

In a real worker, because what its attendant does beside the loop is part of the
price.  The best of several rounds is shown: that is the call, the rest is the
machine.  The goal is less than 1 us each.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from supervisor import Worker

HERE = Path(__file__).resolve().parent
CALLS, ROUNDS = 100_000, 9
GOAL = 1000.0  # ns
EMPTY = "an empty with"
CONFIG = """
[master]
socket = "m.sock"
state_dir = "state"
pythonpath = ["{here}"]
[pools.calls]
target = "calls:measure"
watchdog = "{watchdog}"
"""


class Nothing:
    """The cheapest context manager that is written in Python."""

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        return


def loops(worker: Worker) -> dict[str, Callable[[], object]]:
    nothing = Nothing()

    def empty() -> None:
        with nothing:
            pass

    def job() -> None:
        with worker.job():
            pass

    return {
        EMPTY: empty,
        "beat()": worker.beat,
        "status(text)": lambda: worker.status("reading /srv/files/0815.txt"),
        "with job()": job,
        "stopping": lambda: worker.stopping,
    }


def measure(worker: Worker) -> None:
    """As a target: print nanoseconds by call, and wait to be stopped."""
    taken = {
        name: 1e9 * min(timeit.repeat(call, number=CALLS, repeat=ROUNDS)) / CALLS
        for name, call in loops(worker).items()
    }
    os.write(1, json.dumps(taken).encode() + b"\n")
    worker.wait()


@contextlib.contextmanager
def supervised(config: str) -> Iterator[subprocess.Popen[str]]:
    """A master in a folder of its own; its workers' stdout is to be read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.toml").write_text(config)
        command = [sys.executable, "-m", "supervisor", "start", "-c", f"{folder}/config.toml"]
        path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "PYTHONPATH": path}
        with subprocess.Popen(
            command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield process
            finally:
                process.terminate()


def main() -> None:
    table = Table(title="nanoseconds a call, best of several rounds", title_justify="left")
    table.add_column("")
    for heading in ("ns", f"times {EMPTY}", "goal"):
        table.add_column(heading, justify="right")
    with supervised(CONFIG.format(here=HERE, watchdog="10s")) as master:
        assert master.stdout
        taken = json.loads(master.stdout.readline())
    for name, ns in taken.items():
        goal = "" if name == EMPTY else "met" if ns < GOAL else "MISSED"
        table.add_row(name, f"{ns:.0f}", f"{ns / taken[EMPTY]:.1f}", goal)
    Console().print(table)


if __name__ == "__main__":
    main()
