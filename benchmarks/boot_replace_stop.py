"""Time to all workers running, to a replacement, and to gone: ours, bare fork, and peers.

    python benchmarks/boot_replace_stop.py [N ...]

Runs are interleaved and medians compared, so the machine's other load hits all
alike; read the ratios, not the milliseconds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from contestants import contestants, cpu_of_children, running
from rich.console import Console
from rich.table import Table

SIZES = (10, 100, 1000)
REPLACEMENTS = 10
GOALS = {"boot": 1.5, "replace": 2.0, "stop": 1.5}  # times bare fork
Times = dict[str, list[float]]


def rounds(count: int) -> int:
    return 7 if count < 1000 else 3


def measure(count: int) -> dict[str, Times]:
    """Seconds by contestant and by what was measured; first a round that does not count."""
    seconds: dict[str, Times] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(1 + rounds(count)):
            for name, command in contestants().items():
                before = cpu_of_children()
                with running(command, Path(folder) / str(turn) / name, count) as run:
                    replaced = [run.replace() for _ in range(REPLACEMENTS)]
                    times = {"start": [run.first], "boot": [run.boot - run.first], "replace": replaced}
                    times["stop"] = [run.stop()]
                times["cpu"] = [cpu_of_children() - before]
                for what, taken in times.items() if turn else ():
                    seconds[name][what] += taken
    return seconds


def show(console: Console, count: int, seconds: dict[str, Times]) -> None:
    table = Table(title=f"{count} workers: median ms (times bare fork)", title_justify="left")
    medians = {n: {w: statistics.median(t) for w, t in ts.items()} for n, ts in seconds.items()}
    for heading in ("", "first", "all", "replaced", "gone", "CPU"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, times in medians.items():
        base = medians["bare fork"]
        table.add_row(name, *(f"{1e3 * t:.0f} ({t / base[what]:.1f})" for what, t in times.items()))
    goals = (f"{what} {limit}" for what, limit in GOALS.items())
    table.caption = f"goals: {', '.join(goals)}"
    console.print(table)


def main(sizes: list[int]) -> None:
    console = Console()
    for count in sizes or SIZES:
        show(console, count, measure(count))


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]])
