"""A pool whose output goes to a file, and what stands in that file by now."""

from __future__ import annotations

from program import Program

QUICK = 'backoff = {initial = "10ms", max = "80ms"}\n'
TO_FILE = f'[pools.a]\ntarget = "app:run"\nstdout = "out.log"\n{QUICK}'

COUNTS = """
    def run(worker):
        n = 0
        while not worker.wait(0.002):
            print("line", n)
            n += 1
"""


def lines(one: Program, name: str = "out.log") -> list[str]:
    """Those that are in a file by now."""
    path = one.folder / name
    return path.read_text().splitlines() if path.exists() else []


def numbers(texts: list[str]) -> list[int]:
    """Of ``line 7``; whatever else stands there is a failure."""
    assert all(text.startswith("line ") for text in texts), texts
    return [int(text.split()[1]) for text in texts]
