"""The pure part of the writer: what of a history has room in one answer."""

from __future__ import annotations

import json

from rows import run

from supervisor.inner.store import ROOM, fitting


def size(rows: object) -> int:
    return len(json.dumps(rows, separators=(",", ":")))


def test_a_short_history_is_whole() -> None:
    rows = [run(n, "a", lines=["x" * 50] * 20) for n in range(20)]
    assert fitting(rows) == (rows, 20)


def test_runs_come_before_what_they_printed() -> None:
    """The newest ones keep their lines."""
    rows = [run(n, "a", lines=["x" * 80] * 20) for n in range(100)]
    found, whole = fitting(rows)
    kept = sum(bool(row["lines"]) for row in found)
    assert len(found) == 100
    assert 0 < kept == whole < 100
    assert found == [*rows[:kept], *({**row, "lines": []} for row in rows[kept:])]


def test_no_history_is_larger_than_an_answer() -> None:
    for count, lines in ((1000, []), (1000, ["x" * 4000]), (3, ["\u20ac" * 20_000]), (1, ["x" * 70_000])):
        found, _ = fitting([run(n, "a", lines=lines) for n in range(count)])
        assert size(found) <= ROOM + 2
        assert found


def test_what_is_passed_in_is_not_changed() -> None:
    rows = [run(1, "a", lines=["x" * 70_000])]
    assert fitting(rows) == ([{**rows[0], "lines": []}], 0)
    assert rows[0]["lines"]
