"""The methods for tasks and their parameters; `protocol` has them among all others.

Knows what is accepted, not what it does.  Times go over the wire as seconds.
"""

from __future__ import annotations

from typing import Any

from supervisor.control.params import Param
from supervisor.stored import KEPT_RUNS

MOST_NAMES = 10_000
LONGEST_NAME = 64
LONGEST_REASON = 1000  # characters; it becomes part of events, of the status and of the state file
LONGEST_PAUSE = 10 * 365.25 * 86400
LAST_RUN = 2**53


def _is_text(value: Any, longest: int) -> bool:
    """Half a surrogate pair, which JSON can say, has no place in UTF-8: neither in a log nor in a file."""
    return (
        isinstance(value, str) and len(value) <= longest and value.encode(errors="ignore").decode() == value
    )


def _is_name(value: Any) -> bool:
    return value != "" and _is_text(value, LONGEST_NAME)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_NAMES and all(map(_is_name, value))


def _is_pause(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 < value <= LONGEST_PAUSE)


def _is_reason(value: Any) -> bool:
    return value is None or _is_text(value, LONGEST_REASON)


def _is_run(value: Any) -> bool:
    return value is None or (type(value) is int and 0 < value <= LAST_RUN)


_NAME = Param("the name of a task", _is_name)
_NAMES = Param("a list of names of tasks", _are_names, required=False, default=())
_ALL = Param("true or false", lambda v: isinstance(v, bool), required=False, default=False)

METHODS: dict[str, dict[str, Param]] = {
    "tasks.list": {},
    "tasks.pause": {
        "names": _NAMES,
        "all": _ALL,
        "for": Param("seconds, more than 0 and at most 10 years, or null", _is_pause, required=False),
        "reason": Param(
            f"a text of at most {LONGEST_REASON} characters in valid Unicode",
            _is_reason,
            required=False,
        ),
    },
    "tasks.resume": {"names": _NAMES, "all": _ALL},
    "tasks.run": {"name": _NAME},
    "tasks.history": {
        "name": _NAME,
        "limit": Param(
            f"a whole number from 1 to {KEPT_RUNS}",
            lambda v: type(v) is int and 1 <= v <= KEPT_RUNS,
            required=False,
            default=20,
        ),
        # What has no room in one reply: it says how many of its runs are "whole".
        "before": Param("the number of a run, or null", _is_run, required=False),
    },
}
