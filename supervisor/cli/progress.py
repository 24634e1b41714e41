"""Progress on stderr: on a terminal one line that is drawn again and again, else plain lines.

Knows terminals and the words of a progress line; does not ask anybody anything.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from supervisor.cli import words

TOLD = frozenset(
    {
        "stop.phase",
        "stop.waiting",
        "worker.killed",
        "worker.stack",
        "hook.failed",
        "hook.timeout",
        "task.unsaved",
        "master.warning",
        "stream.dropped",
    }
)
SHORT = 0.1  # a phase that took less says nothing
STACK = 4  # lines of a straggler's stack, innermost first; the log has all
NAMED = 4  # workers in the progress line; the rest is a number


class Screen:
    """Where progress is shown."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        sys.stderr.write(words.plain(text) + "\n")
        sys.stderr.flush()

    def show(self, text: str) -> None:
        """The line that the next one replaces; on no terminal, nothing."""
        if self.live:
            width = shutil.get_terminal_size((80, 24)).columns - 1
            sys.stderr.write(f"\r{words.cut(words.plain(text), width)}\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def note(self, event: dict[str, Any]) -> None:
        """Say an event that a person who waits wants to know of."""
        name = event.get("event")
        frames = innermost(str(event.get("stack") or ""))
        short = name == "stop.phase" and event.get("seconds", SHORT) < SHORT
        if name in TOLD and not short and (frames or name != "worker.stack"):
            self.say(str(event.get("message", name)))
            for line in frames:
                self.say(f"    {line}")


def innermost(stack: str) -> list[str]:
    """The few frames in which the main thread of a straggler sits, in faulthandler's words.

    Where there are none, what is said in their place.
    """
    _, _, main = stack.rpartition("Current thread")
    lines = [line.strip() for line in main.splitlines() if line.strip()]
    frames = [line for line in lines if line.startswith("File ")]
    return (frames or lines)[:STACK]


def draining(status: dict[str, Any], since: float) -> str:
    """Who is still there, for how long, and how much of the deadline is left."""
    workers = [w for pool in status["pools"].values() for w in pool["workers"] if w.get("pid")]
    left = words.until(status.get("stop_deadline"))
    found = f"{status['state']} for {words.age(since)}"
    if left is not None:
        found += f", {words.age(left)} until SIGKILL"
    count = f"{len(workers)} worker{'' if len(workers) == 1 else 's'} left"
    return f"{found}: {count}{names(workers)}"


def names(workers: list[dict[str, Any]]) -> str:
    """`` (a.0, a.1 with 2 in flight and 3 more)``; nothing for nobody."""
    if not workers:
        return ""
    named = [_name(worker) for worker in workers[:NAMED]]
    more = f" and {len(workers) - NAMED} more" if len(workers) > NAMED else ""
    return f" ({', '.join(named)}{more})"


def _name(worker: dict[str, Any]) -> str:
    name = str(worker.get("id") or worker.get("worker"))
    return name + (f" with {worker['in_flight']} in flight" if worker.get("in_flight") else "")


# -- a reload ------------------------------------------------------------------


@dataclass
class Trial:
    """What is known of a reload beside the status: its generation, and since when each pool has one of it."""

    generation: int | None  # None: it has not begun
    stable_after: Mapping[str, float]
    ready: dict[str, float] = field(default_factory=dict)  # pool to monotonic seconds
    until: float | None = None  # all are new, and watched so long


def reloading(status: dict[str, Any], trial: Trial, now: float) -> str:
    """How many are new in each pool that is not done, and what it waits for."""
    if trial.generation is None:
        return "waiting for the reload that goes on"
    pools: dict[str, Any] = status.get("pools") or {}
    if not any(w["generation"] == trial.generation for pool in pools.values() for w in pool["workers"]):
        return f"generation {trial.generation}: reading the configuration"
    found = [text for name, pool in pools.items() for text in _rolling(name, pool, trial, now)]
    watched = None if trial.until is None or now >= trial.until else f"watched for {trial.until - now:.1f} s"
    found += ["all new, " + (watched or "finishing")] if watched or not found else []
    return f"generation {trial.generation}: {'; '.join(found)}"


def _rolling(name: str, pool: dict[str, Any], trial: Trial, now: float) -> Iterator[str]:
    """``web 3 of 8 new, starting (web.3)``; nothing for a pool that is done."""
    living = [w for w in pool["workers"] if w.get("pid")]
    new = [w for w in living if w["generation"] == trial.generation]
    up = [w for w in new if w["state"] in {"ready", "quiet"}]
    if len(up) < pool["desired"] or len(up) < len(living):
        yield f"{name} {len(up)} of {pool['desired']} new{_waits_for(name, living, new, trial, now)}"


def _waits_for(
    name: str, living: list[dict[str, Any]], new: list[dict[str, Any]], trial: Trial, now: float
) -> str:
    starting = [w for w in new if w["state"] == "starting"]
    if starting:
        return f", starting{names(starting)}"
    leaving = [w for w in living if w["state"] == "stopping"]
    if leaving:
        return f", finishing{names(leaving)}"
    since, needed = trial.ready.get(name), trial.stable_after.get(name)
    if since is None or needed is None or now - since >= needed:
        return ""
    return f", stable for {now - since:.1f} of {needed:g} s"
