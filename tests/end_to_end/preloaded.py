"""A pool with a template, how often it imported, and which template is up."""

from __future__ import annotations

from program import Event, Program

QUICK = 'backoff = {initial = "10ms", max = "80ms"}\nstable_after = "100ms"\n'

APP = """
    import os
    with open("imports", "a") as file:
        file.write(f"{os.getuid()}\\n")
    def run(worker):
        worker.wait()
"""


def pool(workers: int = 2, more: str = "", name: str = "a") -> str:
    return f'[pools.{name}]\ntarget = "app:run"\npreload = true\nworkers = {workers}\n{QUICK}{more}\n'


def imports(one: Program) -> int:
    """How often the application was imported."""
    path = one.folder / "imports"
    return len(path.read_text().splitlines()) if path.exists() else 0


def template(one: Program, since: int = 0, name: str = "@a:1.0") -> int:
    """The pid of the last one that is up."""
    one.wait_for("inner.ready", since=since, worker=name)
    return int([e for e in one.events if e["event"] == "inner.ready" and e.get("worker") == name][-1]["pid"])


def failures(one: Program) -> list[Event]:
    return [e for e in one.events if e["event"] == "worker.failed"]
