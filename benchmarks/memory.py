"""What the master holds: with the reference configuration, and after many replacements.

    python benchmarks/memory.py [REPLACEMENTS]

The goals: below 20 MB, and no growth of memory, descriptors or threads.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from contestants import HERE, Run, contestants, running
from rich.console import Console
from rich.table import Table

REPLACEMENTS = 10_000
WORKERS = 4
PAGE = os.sysconf("SC_PAGE_SIZE")
BUDGET = 20e6
EXAMPLE = """
[master]
socket = "m.sock"
state_dir = "state"
pythonpath = ["{root}", "{here}"]
[pools.checksum]
target = "examples.checksum:run"
options = {{ database = "jobs.sqlite" }}
[pools.trivial]
target = "trivial:run"
workers = {count}
backoff = {{ initial = "1ms", max = "2ms" }}
"""


def with_example(folder: Path, count: int) -> list[str]:
    """Ours, with the example's pool beside the workers that are replaced."""
    (folder / "config.toml").write_text(EXAMPLE.format(root=HERE.parent, here=HERE, count=count))
    return [sys.executable, "-m", "supervisor", "start", "-c", str(folder / "config.toml")]


def held(run: Run) -> tuple[float, int, int]:
    """Megabytes resident, descriptors and threads of the master."""
    place = f"/proc/{run.process.pid}"
    pages = int(Path(place, "statm").read_text().split()[1])
    return pages * PAGE / 1e6, len(os.listdir(f"{place}/fd")), len(os.listdir(f"{place}/task"))


def main(replacements: int) -> None:
    table = Table(title=f"the master, {WORKERS} workers", title_justify="left")
    for heading in ("", "replacements", "MB resident", "descriptors", "threads"):
        table.add_column(heading, justify="right" if heading else "left")
    with tempfile.TemporaryDirectory() as folder:
        others = {name: command for name, command in contestants().items() if name != "supervisord-lite"}
        for name, command in {"supervisord-lite": with_example, **others}.items():
            with running(command, Path(folder) / name, WORKERS) as run:
                for done in (0, replacements // 10, replacements) if command is with_example else (0,):
                    while run.replaced < done:
                        run.replace()
                    megabytes, fds, threads = held(run)
                    table.add_row(name, str(done), f"{megabytes:.2f}", str(fds), str(threads))
                    assert command is not with_example or megabytes < BUDGET / 1e6, "over the budget of 20 MB"
                run.stop()
    Console().print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else REPLACEMENTS)
