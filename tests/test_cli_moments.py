"""How moments read: local time, as much of it as is needed, and how far away they are."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from supervisor.cli.moments import ahead, clock, moment, past

NOW = datetime(2026, 1, 5, 14, 0, tzinfo=timezone.utc)  # a Monday


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "now"),
        (0.4, "now"),
        (0.6, "in 1 s"),
        (119.4, "in 119 s"),
        (120, "in 2 min"),
        (245, "in 4 min"),
        (3569, "in 59 min"),
        (3571, "in 1 h"),
        (3 * 3600 + 20 * 60, "in 3 h 20 min"),
        (13 * 3600 + 26 * 60, "in 13 h"),
        (48 * 3600 - 60, "in 47 h"),
        (48 * 3600, "in 2 days"),
        (45 * 86400, "in 45 days"),
    ],
)
def test_how_far_away(seconds: float, words: str) -> None:
    assert ahead(NOW + timedelta(seconds=seconds), NOW) == words


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (timedelta(minutes=5), "14:05"),
        (timedelta(minutes=5, seconds=30), "14:05:30"),
        (timedelta(hours=-2), "12:00"),
        (timedelta(hours=13), "Tue 03:00"),
        (timedelta(days=5), "Sat 14:00"),
        (timedelta(days=6), "2026-01-11 14:00"),
        (timedelta(days=-1), "2026-01-04 14:00"),
    ],
)
def test_a_moment_by_itself(ahead: timedelta, words: str) -> None:
    assert clock(NOW + ahead, NOW) == words


def test_moments_are_read_from_texts_and_numbers() -> None:
    for written in (
        "2026-01-05T14:00:00Z",
        "2026-01-05T15:00:00+01:00",
        NOW.timestamp(),
        int(NOW.timestamp()),
    ):
        assert moment(written) == NOW
    assert [moment(nothing) for nothing in (None, "", {})] == [None] * 3


def test_the_past_is_never_ahead() -> None:
    assert past(NOW - timedelta(seconds=3), NOW) == 3.0
    assert past(NOW + timedelta(seconds=3), NOW) == 0.0
