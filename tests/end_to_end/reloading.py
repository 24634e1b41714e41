"""Reloads of a `Program`: asked for, waited for, and watched for lost strength.

All of it is read from the log, whose lines are the events in the order in which
the master brought them about.
"""

from __future__ import annotations

import signal
import textwrap
from importlib.util import cache_from_source
from pathlib import Path

from program import Event, Program

ENDS = ("reload.done", "reload.failed")
GONE = ("worker.stopping", "worker.acknowledged", "worker.killed", "worker.exited", "worker.failed")

WAITS = """
    def run(worker):
        worker.wait()
"""
STABLE = 'stable_after = "200ms"\n'


def pool(name: str = "a", workers: int = 2, more: str = "") -> str:
    """A pool that need not be stable for long."""
    return f'[pools.{name}]\ntarget = "app:run"\nworkers = {workers}\n{STABLE}{textwrap.dedent(more)}\n'


# -- what changes on disk ------------------------------------------------------


def code(one: Program, text: str, name: str = "app.py") -> None:
    """New code, for which no cached bytecode is taken: it may be as long as what was there this second."""
    path = one.folder / name
    path.write_text(textwrap.dedent(text))
    Path(cache_from_source(str(path))).unlink(missing_ok=True)


def swap(path: Path, old: str, new: str) -> None:
    """Put ``new`` in the place of ``old``."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def configure(one: Program, *pairs: tuple[str, str]) -> None:
    """Replace in the configuration."""
    for old, new in pairs:
        swap(one.config, old, new)


# -- the reload ----------------------------------------------------------------


def outcome(one: Program, since: int = 0) -> Event:
    """How the first reload that ended since then did."""

    def ended() -> Event | None:
        return next((e for e in one.events[since:] if e["event"] in ENDS), None)

    one.wait_until(lambda: ended() or one.process.poll() is not None)
    event = ended()
    assert event is not None, one.log()
    return event


def hup(one: Program) -> int:
    """Ask for one; where the log was, of which all that is there is read before."""
    one.read_until(lambda: False, timeout=0)
    mark = one.mark()
    one.signal(signal.SIGHUP)
    return mark


def works(one: Program) -> Event:
    """One reload, which is done."""
    event = outcome(one, hup(one))
    assert event["event"] == "reload.done", one.log()
    return event


def fails(one: Program) -> str:
    """One reload, which is not; its error."""
    event = outcome(one, hup(one))
    assert event["event"] == "reload.failed", one.log()
    assert one.status()["last_reload"]["ok"] is False
    assert one.status()["last_reload"]["error"] == event["error"]
    return str(event["error"])


# -- who serves ----------------------------------------------------------------


def strength(one: Program, name: str = "a", since: int = 0) -> list[int]:
    """How many of a pool were ready after each event; nobody who was told to leave counts."""
    ready: set[int] = set()
    counts = []
    for event in one.events:
        if event.get("pool") == name:
            if event["event"] == "worker.ready":
                ready.add(event["pid"])
            elif event["event"] in GONE:
                ready.discard(event["pid"])
        counts.append(len(ready))
    return counts[since:]


def least(one: Program, name: str = "a") -> int:
    """The fewest that were ready at any time since the first reload began."""
    began = next(i for i, e in enumerate(one.events) if e["event"] == "reload.started")
    return min(strength(one, name, began))


def serving(one: Program, name: str = "a") -> dict[str, int]:
    """Who is ready now, by name, and of which generation."""
    workers = one.status()["pools"][name]["workers"]
    return {w["id"]: w["generation"] for w in workers if w["state"] == "ready"}


def pids(one: Program, name: str = "a") -> dict[str, int]:
    """The processes of those who are ready now."""
    workers = one.status()["pools"][name]["workers"]
    return {w["id"]: w["pid"] for w in workers if w["state"] == "ready"}


def started(one: Program, generation: int) -> list[Event]:
    """All workers of a generation that were ever started."""
    return [e for e in one.events if e["event"] == "worker.started" and e["generation"] == generation]
