"""What a thousand reloads leave behind in the master, and what they cost.

    python benchmarks/reloads.py [RELOADS]

Pools and a socket come and go with every other reload, one pool has a template,
one prints to a file, and every tenth reload brings code that does not import.
Ready workers are counted by the events.  The goals: descriptors and threads
constant, memory within 10 %, never a ready worker fewer.
"""

from __future__ import annotations

import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from supervisor.control.client import Client, Event, Events, NoMasterError

RELOADS = 1000
ROWS = 10
EVERY_BROKEN, FIRST_BROKEN = 10, 5
PATIENCE = 60.0  # seconds: a safety net
CONFIG = """
[master]
socket = "m.sock"
state_dir = "state"
log_file = "m.log"
[pools.plain]
target = "app:run"
workers = 4
surge = 2
stable_after = "20ms"
[pools.preloaded]
target = "app:run"
workers = 3
preload = true
stable_after = "20ms"
[pools.printing]
target = "app:run"
stdout = { file = "printed", max_size = "64KiB" }
stable_after = "20ms"
"""
MORE = """
[pools.coming]
target = "app:run"
sockets = ["door"]
stable_after = "20ms"
[sockets.door]
bind = "unix:door.sock"
"""
APP = "def run(worker):\n    print('hello', flush=True)\n    worker.wait()\n"
BROKEN = "raise RuntimeError('this version is broken')\n"
ENDS = ("reload.done", "reload.failed")
GONE = ("worker.stopping", "worker.exited", "worker.failed", "worker.killed")


class Strength:
    """Ready workers of the pools that are always there, by what the events say."""

    def __init__(self, status: dict[str, object]) -> None:
        pools: dict[str, dict[str, list[Event]]] = status["pools"]  # type: ignore[assignment]
        self._ready = {w["pid"] for pool in pools.values() for w in pool["workers"]}
        self.least = len(self._ready)

    def hear(self, event: Event) -> None:
        if event.get("pool") == "coming":
            return
        if event["event"] == "worker.ready":
            self._ready.add(event["pid"])
        elif event["event"] in GONE:
            self._ready.discard(event.get("pid"))
            self.least = min(self.least, len(self._ready))


@contextmanager
def master(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Started, and stopped whatever happens."""
    command = [sys.executable, "-m", "supervisor", "start", "-c", str(folder / "config.toml")]
    null = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=folder, stdin=null, stdout=null) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE)


def wait_for_state(client: Client, state: str) -> dict[str, object]:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            if (status := client.status())["state"] == state:
                return status
        except NoMasterError:
            pass
        select.select([], [], [], 0.05)
    raise SystemExit(f"it did not come to be {state}")


def prepare(folder: Path, number: int) -> str:
    """The files of this reload; how it is to end."""
    broken = number % EVERY_BROKEN == FIRST_BROKEN
    (folder / "app.py").write_text((BROKEN if broken else APP) + "#" * (number % 7))
    (folder / "config.toml").write_text(CONFIG + (MORE if number % 2 else ""))
    return "reload.failed" if broken else "reload.done"


def reload(client: Client, events: Events, strength: Strength, expected: str) -> float:
    """From the wish to the end."""
    began = time.monotonic()
    number = client.call("reload")["reload"]
    while True:
        event = events.next(timeout=PATIENCE)
        assert event is not None, f"reload {number} did not end"
        strength.hear(event)
        if event["event"] in ENDS and event["reload"] == number:
            assert event["event"] == expected, event
            return time.monotonic() - began


def held(pid: int, children: int) -> tuple[str, ...]:
    """Memory, descriptors and threads of the master, once it has so many children again."""
    process = psutil.Process(pid)
    until = time.monotonic() + PATIENCE
    while len(process.children()) != children and time.monotonic() < until:
        select.select([], [], [], 0.05)
    memory = process.memory_full_info()
    sizes = (f"{memory.rss / 2**20:.1f}", f"{memory.uss / 2**20:.1f}")
    return (*sizes, str(process.num_fds()), str(process.num_threads()), str(len(process.children())))


def main(count: int) -> None:
    table = Table(title=f"the master over {count} reloads", title_justify="left")
    for heading in ("reloads", "seconds", "RSS MiB", "USS MiB", "fds", "threads", "children", "least"):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, 2)
        with master(folder) as process:
            client = Client(str(folder / "m.sock"))
            strength = Strength(wait_for_state(client, "running"))
            measure(table, folder, client, strength, (process.pid, count))
    Console().print(table)


def measure(table: Table, folder: Path, client: Client, strength: Strength, run: tuple[int, int]) -> None:
    """A row before, and one for each tenth of the reloads."""
    pid, count = run
    children = len(psutil.Process(pid).children())
    seconds: list[float] = []
    with client.events() as events:
        table.add_row("0", "", *held(pid, children), str(strength.least))
        for number in range(1, count + 1):
            seconds.append(reload(client, events, strength, prepare(folder, number)))
            if number % max(1, count // ROWS) == 0:
                row = (str(number), f"{statistics.median(seconds):.2f}", *held(pid, children))
                table.add_row(*row, str(strength.least))
                seconds.clear()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else RELOADS)
