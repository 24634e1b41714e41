"""What a worker's message brings about, and that nothing in it is trusted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.messages import LONGEST_ERROR, LONGEST_EXTENSION, LONGEST_TEXT, MOST, hear
from supervisor.unix.notify import form, parse


class FakePool:
    """Notes which facts it is given, in order."""

    def __init__(self) -> None:
        self.facts: list[tuple[object, ...]] = []

    def __getattr__(self, fact: str) -> object:
        return lambda *given: self.facts.append((fact, *given))


def facts(message: dict[str, str]) -> list[tuple[object, ...]]:
    pool = FakePool()
    hear(pool, 7, message, 100.0)  # type: ignore[arg-type]
    return pool.facts


def test_each_assignment_is_a_fact() -> None:
    assert facts({"READY": "1"}) == [("ready", 7, 100.0)]
    assert facts({"STOPPING": "1"}) == [("acknowledged", 7, 100.0)]
    assert facts({"WATCHDOG": "1"}) == [("beat", 7, 100.0)]
    assert facts({"EXTEND_TIMEOUT_USEC": "2500000"}) == [("extended", 7, 2.5, 100.0)]
    assert facts({"STATUS": "busy"}) == [("told", 7, None, None, "busy", None)]
    assert facts({"X_JOBS": "3", "X_IN_FLIGHT": "0"}) == [("told", 7, 3, 0, None, None)]
    assert facts({"X_ERROR": "cannot load"}) == [("told", 7, None, None, None, "cannot load")]


def test_what_is_told_comes_before_what_it_brings_about() -> None:
    """So that the event `worker.acknowledged` already knows the jobs in flight."""
    message = {"STOPPING": "1", "READY": "1", "X_IN_FLIGHT": "2", "WATCHDOG": "1"}
    assert [fact[0] for fact in facts(message)] == ["told", "beat", "ready", "acknowledged"]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"READY": "0"},
        {"READY": "yes"},
        {"STOPPING": ""},
        {"WATCHDOG": "trigger"},
        {"MAINPID": "1"},
        {"BARRIER": "1"},
        {"RELOADING": "1"},
        {"ready": "1"},
        {" READY": "1"},
        {"X_JOBS": "-1"},
        {"X_JOBS": "1.5"},
        {"X_JOBS": "1e3"},
        {"X_JOBS": "٣"},
        {"X_JOBS": "²"},
        {"X_IN_FLIGHT": " 1"},
        {"X_IN_FLIGHT": "9" * 17},
        {"X_JOBS": "9" * 1_000_000},
        {"EXTEND_TIMEOUT_USEC": "never"},
    ],
)
def test_anything_else_is_ignored(message: dict[str, str]) -> None:
    assert facts(message) == []


def test_an_extension_is_a_day_at_most() -> None:
    assert facts({"EXTEND_TIMEOUT_USEC": str(MOST)}) == [("extended", 7, LONGEST_EXTENSION, 100.0)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x" * 5000, "x" * LONGEST_TEXT),
        ("\x1b[2Jclear\x07", " [2Jclear "),
        ("tab\tnul\0cr\rdel\x7f", "tab nul cr del "),
        ("line\u2028over\u202eride", "line over ride"),
        ("größer 文字 🚀", "größer 文字 🚀"),
        ("", ""),
    ],
)
def test_a_text_is_bounded_and_harms_no_terminal(text: str, shown: str) -> None:
    assert facts({"STATUS": text}) == [("told", 7, None, None, shown, None)]


def test_an_error_is_bounded_and_harms_no_terminal() -> None:
    long = "\x1b[2J" + "x" * 5000
    shown = (" [2J" + "x" * 5000)[:LONGEST_ERROR]
    assert facts({"X_ERROR": long}) == [("told", 7, None, None, None, shown)]


@given(st.binary(max_size=300))
def test_no_bytes_on_the_wire_break_the_master(data: bytes) -> None:
    for fact in facts(parse(data)):
        assert fact[1] == 7
        assert all(text is None or str(text).isprintable() for text in fact[2:])


@given(st.dictionaries(st.sampled_from(["STATUS", "X_JOBS", "READY", "STOPPING"]), st.text(), max_size=4))
def test_a_value_is_never_another_assignment(fields: dict[str, str]) -> None:
    """A newline in a text cannot forge `STOPPING=1`."""
    assert set(parse(form(**fields))) == set(fields)
