"""What the methods for tasks accept, and the words for what they do not."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.control import protocol
from supervisor.control.protocol import Refusal, check


def asked(method: str, params: Any) -> protocol.Params:
    return check({"jsonrpc": "2.0", "method": method, "params": params})[1]


@pytest.mark.parametrize(
    ("method", "params", "complete"),
    [
        ("list", {}, {}),
        ("pause", {"names": ["a"]}, {"names": ["a"], "all": False, "for": None, "reason": None}),
        (
            "pause",
            {"all": True, "for": 3600, "reason": "new disk"},
            {"names": (), "all": True, "for": 3600, "reason": "new disk"},
        ),
        ("pause", {"names": ["a"], "for": None, "reason": None}, None),
        ("pause", {"names": ["a"], "for": 0.5}, None),
        ("resume", {"names": ["a", "b"]}, {"names": ["a", "b"], "all": False}),
        ("run", {"name": "a"}, {"name": "a"}),
        ("run", ["a"], {"name": "a"}),
        ("history", {"name": "a"}, {"name": "a", "limit": 20, "before": None}),
        ("history", {"name": "a", "limit": 1000, "before": 7}, {"name": "a", "limit": 1000, "before": 7}),
    ],
)
def test_what_is_accepted(method: str, params: Any, complete: Any) -> None:
    found = asked(f"tasks.{method}", params)
    assert complete is None or found == complete


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("list", {"x": 1}, "no parameter"),
        ("pause", {"names": "a"}, "a list of names"),
        ("pause", {"names": [""]}, "a list of names"),
        ("pause", {"names": ["x" * 65]}, "a list of names"),
        ("pause", {"names": [1]}, "a list of names"),
        ("pause", {"names": ["a"] * 10_001}, "a list of names"),
        ("pause", {"all": 1}, "true or false"),
        ("pause", {"all": True, "for": 0}, "seconds"),
        ("pause", {"all": True, "for": -1}, "seconds"),
        ("pause", {"all": True, "for": 1e10}, "seconds"),
        ("pause", {"all": True, "for": True}, "seconds"),
        ("pause", {"all": True, "for": "1h"}, "seconds"),
        ("pause", {"all": True, "reason": 1}, "a text"),
        ("pause", {"all": True, "reason": "x" * 1001}, "a text"),
        ("resume", {"for": 1}, "no parameter"),
        ("pause", {"all": True, "reason": "\ud800"}, "valid Unicode"),
        ("pause", {"names": ["a", "\ud800"]}, "a list of names"),
        ("run", {}, "the name of a task"),
        ("run", {"name": "\udcff"}, "the name of a task"),
        ("history", {"name": "\ud800"}, "the name of a task"),
        ("run", {"name": ["a"]}, "the name of a task"),
        ("history", {"name": "a", "limit": 0}, "a whole number"),
        ("history", {"name": "a", "limit": 1001}, "a whole number"),
        ("history", {"name": "a", "limit": 2.0}, "a whole number"),
        ("history", {"name": "a", "limit": True}, "a whole number"),
        ("history", {"name": "a", "before": 0}, "the number of a run"),
        ("history", {"name": "a", "before": 2**64 - 1}, "the number of a run"),
    ],
)
def test_what_is_not(method: str, params: Any, words: str) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        asked(f"tasks.{method}", params)
    assert caught.value.code == protocol.INVALID_PARAMS
