"""Rows as the decisions make them, for the tests of what keeps them."""

from __future__ import annotations

from typing import Any


def task(name: str, state: str = "running", **more: Any) -> Any:
    return {
        "task": name,
        "state": state,
        "reason": None,
        "error": None,
        "by": None,
        "paused_until": None,
        "failures": 0,
        "anchor": 1_700_000_000.25,
        "last_due": None,
        "schedule": "every 60",
        "changed_at": 1_700_000_000.25,
        **more,
    }


def run(number: int, name: str, outcome: str = "ok", **more: Any) -> Any:
    return {
        "run": number,
        "task": name,
        "by": "schedule",
        "due": 1_700_000_000.0,
        "started_at": 1_700_000_000.5,
        "seconds": 1.25,
        "outcome": outcome,
        "code": 0,
        "signal": None,
        "reason": None,
        "lines": ["done"],
        **more,
    }
