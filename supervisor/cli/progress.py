"""Progress on stderr: on a terminal one line that is drawn again and again, else plain lines.

Knows terminals and the words of a progress line; does not ask anybody anything.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from supervisor.cli import words

TOLD = frozenset(
    {"stop.phase", "stop.waiting", "worker.killed", "worker.stack", "hook.failed", "hook.timeout"}
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
        if name in TOLD and not (name == "stop.phase" and event.get("seconds", SHORT) < SHORT):
            self.say(str(event.get("message", name)))
            for line in innermost(str(event.get("stack") or "")):
                self.say(f"    {line}")


def innermost(stack: str) -> list[str]:
    """The few frames in which the main thread of a straggler sits; faulthandler's words."""
    _, _, main = stack.rpartition("Current thread")
    frames = [line.strip() for line in main.splitlines() if line.startswith("  File")]
    return frames[:STACK]


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
