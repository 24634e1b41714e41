"""How fast tasks start that are due at the same second: against bare fork, and against a pool.

    python benchmarks/tasks.py [N]

From the first one that runs to the last one; interleaved, medians.  The goal is
1.5 times bare fork for 100.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from contestants import HERE, bare, ours, running
from rich.console import Console
from rich.table import Table

ROUNDS = 7
COUNT = 100
MASTER = """
[master]
socket = "m.sock"
state_dir = "state"
log_format = "json"
pythonpath = ["{here}"]
"""
TASK = """
[tasks.t{number}]
target = "trivial:run"
every = "1s"
"""


def tasks(folder: Path, count: int) -> list[str]:
    """So many that are due a second after the start."""
    text = MASTER.format(here=HERE) + "".join(TASK.format(number=number) for number in range(count))
    (folder / "config.toml").write_text(text)
    return [sys.executable, "-m", "supervisor", "start", "-c", str(folder / "config.toml")]


def main(count: int) -> None:
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(1 + ROUNDS):
            for name, command in (("tasks", tasks), ("a pool", ours), ("bare fork", bare)):
                with running(command, Path(folder) / str(turn) / name.replace(" ", "-"), count) as run:
                    run.stop()
                if turn:  # the first round does not count
                    seconds[name].append(run.boot - run.first)
    table = Table(title=f"{count} at once: first to last, median ms (times bare fork)", title_justify="left")
    for heading in ("", "all"):
        table.add_column(heading, justify="right" if heading else "left")
    base = statistics.median(seconds["bare fork"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        table.add_row(name, f"{1e3 * median:.0f} ({median / base:.1f})")
    Console().print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else COUNT)
