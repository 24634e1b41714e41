"""What a worker costs in memory when its application is imported once for all.

    python benchmarks/preload.py [WORKERS] [MEGABYTES]

Each worker has a heap of small Python objects (`heap.py`) and has collected it
three times in full.  PSS counts a page that N processes share as a N-th of it; what is
alone its own is what one more worker costs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import heap
import psutil
from contestants import HERE, Command, Run, running
from rich.console import Console
from rich.table import Table

WORKERS, HEAP = 8, 100
CONFIG = """
[master]
socket = "m.sock"
state_dir = "state"
log_format = "json"
pythonpath = ["{here}"]
[pools.heap]
target = "heap:run"
workers = {count}
preload = {preload}
start_timeout = "5m"
"""


def ours(preload: bool) -> Command:
    def command(folder: Path, count: int) -> list[str]:
        text = CONFIG.format(here=HERE, count=count, preload=str(preload).lower())
        (folder / "config.toml").write_text(text)
        return [sys.executable, "-m", "supervisor", "start", "-c", str(folder / "config.toml")]

    return command


def measured(run: Run) -> tuple[float, float, float]:
    """Megabytes: PSS of a worker and what is alone its own, the mean of all; PSS of everybody."""
    workers = [psutil.Process(pid).memory_full_info() for pid in run.pids]
    master = psutil.Process(run.process.pid)
    everybody = [process.memory_full_info().pss for process in (master, *master.children(recursive=True))]
    pss, own = (sum(getattr(used, kind) for used in workers) / len(workers) for kind in ("pss", "uss"))
    return pss / 1e6, own / 1e6, sum(everybody) / 1e6


def main(workers: int, megabytes: float) -> None:
    os.environ[heap.MEGABYTES] = str(megabytes)
    title = f"{workers} workers, a heap of {megabytes:g} MB, three full collections in each"
    table = Table(title=title, title_justify="left")
    for heading in ("", "PSS of a worker", "its own", "all processes", "all running"):
        table.add_column(heading, justify="right" if heading else "left")
    with tempfile.TemporaryDirectory() as folder:
        for name, preload in {"without preload": False, "with preload": True}.items():
            with running(ours(preload), Path(folder) / name, workers) as run:
                sizes = [f"{size:.1f} MB" for size in measured(run)]
                table.add_row(name, *sizes, f"{run.boot:.2f} s")
                run.stop()
    Console().print(table)


if __name__ == "__main__":
    given = [float(argument) for argument in sys.argv[1:]]
    main(int(given[0]) if given else WORKERS, given[1] if given[1:] else HEAP)
