"""Whether a row of the state file is one that we could have written.

SQLite notices damaged pages, not values that somebody put there: each is looked at
before it is believed.  Knows types and ranges; knows no file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

LATEST = 2e11  # seconds since the epoch, about the year 8300: what a calendar can still show
STATES = ("running", "paused", "errored", "removed")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < LATEST


def _is_number(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**53


def _or_none(is_one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_one(value)


TASK: dict[str, Callable[[Any], bool]] = {
    "task": _is_text,
    "state": lambda value: value in STATES,
    "reason": _or_none(_is_text),
    "error": _or_none(_is_text),
    "by": _or_none(_is_text),
    "paused_until": _or_none(_is_time),
    "failures": lambda value: _is_number(value) and value >= 0,
    "anchor": _is_time,
    "last_due": _or_none(_is_time),
    "schedule": _is_text,
    "changed_at": _is_time,
}
RUN: dict[str, Callable[[Any], bool]] = {
    "run": lambda value: _is_number(value) and value > 0,
    "task": _is_text,
    "by": _is_text,
    "due": _or_none(_is_time),
    "started_at": _is_time,
    "seconds": _or_none(_is_time),
    "outcome": _is_text,
    "code": _or_none(_is_number),
    "signal": _or_none(_is_text),
    "reason": _or_none(_is_text),
}


def problem(row: Mapping[str, Any]) -> str | None:
    """What is wrong with it, or None."""
    rules, what = (RUN, f"run {row['run']!r}") if "run" in row else (TASK, f"task {row.get('task')!r}")
    wrong = next((name for name, is_right in rules.items() if not is_right(row.get(name))), None)
    return wrong and f"{what} has a {wrong!r} that cannot be: {row.get(wrong)!r}"


def lines(text: Any) -> list[str]:
    """What a run printed last; rubbish is no reason to do without all the rest."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return []
    return [str(line) for line in found] if isinstance(found, list) else []
