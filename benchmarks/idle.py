"""Who wakes up while nothing happens.

    python benchmarks/idle.py [SECONDS]

Counts voluntary context switches of the master and of 100 workers in
`worker.wait()`, no watchdog set.  The goal is 0 for each.
"""

from __future__ import annotations

import re
import select
import sys
import tempfile
from pathlib import Path

from contestants import contestants, running
from rich.console import Console
from rich.table import Table

WORKERS = 100
SECONDS = 30.0
SETTLE = 2.0  # seconds in which the boot's last messages get through


def switches(pid: int) -> int:
    """Of all threads of a process."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


def pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def main(seconds: float) -> None:
    table = Table(title=f"wakeups in {seconds:.0f} s with {WORKERS} idle workers", title_justify="left")
    for heading in ("", "master", "all workers", "workers that woke"):
        table.add_column(heading, justify="right" if heading else "left")
    with tempfile.TemporaryDirectory() as folder:
        for name, command in contestants().items():
            with running(command, Path(folder) / name, WORKERS) as run:
                pause(SETTLE)
                before = {pid: switches(pid) for pid in (run.process.pid, *run.pids)}
                pause(seconds)
                woke = {pid: switches(pid) - before[pid] for pid in before}
                run.stop()
            workers = [woke[pid] for pid in run.pids]
            table.add_row(
                name, str(woke[run.process.pid]), str(sum(workers)), str(sum(w > 0 for w in workers))
            )
    Console().print(table)


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else SECONDS)
