"""Cron schedules: daylight saving, leap days, zones, and words for what is wrong."""

from __future__ import annotations

import builtins
import io
import itertools
import os
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from supervisor.calendar import next_due, problem, zone
from supervisor.config import zones
from supervisor.settings import TaskSettings

BERLIN = "Europe/Berlin"  # 2026: forward on 29 March at 2:00, back on 25 October at 3:00
DAY = 86400.0


def task(schedule: str, zone: str = BERLIN) -> TaskSettings:
    return TaskSettings("a", schedule=schedule, timezone=zone, zone=zones.read(zone, {}))


def at(text: str, zone: str = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def dues(schedule: str, begin: str, end: str, zone: str = BERLIN) -> list[str]:
    """All due times in between, as the clock on the wall shows them; the second of two with a ``+``."""
    found, moment = [], at(begin, zone)
    while (due := next_due(task(schedule, zone), moment)) is not None and due < at(end, zone):
        assert due > moment
        local = datetime.fromtimestamp(due, ZoneInfo(zone))
        found.append(f"{local:%d %H:%M}" + "+" * local.fold)
        moment = due
    return found


def test_a_time_that_does_not_exist_is_due_once_at_the_next_moment() -> None:
    assert dues("30 2 * * *", "2026-03-28", "2026-03-31") == ["28 02:30", "29 03:00", "30 02:30"]


@pytest.mark.parametrize("days", ["* * SUN", "8 * *", "* 3 SUN"])
def test_the_hour_after_a_midnight_that_does_not_exist_is_there(days: str) -> None:
    """In Havana the 8th of March 2026, a Sunday, begins at 1:00."""
    found = dues(f"*/30 1 {days}", "2026-03-02", "2026-03-09", "America/Havana")
    assert found == ["08 01:00", "08 01:30"]


def test_a_time_that_exists_twice_is_due_once() -> None:
    assert dues("30 2 * * *", "2026-10-24", "2026-10-27") == ["24 02:30", "25 02:30", "26 02:30"]


def test_and_not_again_when_it_is_asked_for_in_the_repeated_hour() -> None:
    due = next_due(task("30 2 * * *"), at("2026-10-25T02:10", fold=1))
    assert due == at("2026-10-26T02:30")


def test_what_is_due_all_the_time_follows_the_time_that_passes() -> None:
    for begin, end in (("2026-03-29", "2026-03-30"), ("2026-10-25", "2026-10-26")):
        first, last = at(begin), at(end)
        moment, found = first, 0
        while (due := next_due(task("*/15 * * * *"), moment)) is not None and due < last:
            assert due - moment == 900
            moment, found = due, found + 1
        assert found == (last - first) / 900 - 1


def test_every_hour_is_due_in_both_of_two_hours() -> None:
    assert dues("0 * * * *", "2026-10-25T01:30", "2026-10-25T04:30") == [
        "25 02:00",
        "25 02:00+",
        "25 03:00",
        "25 04:00",
    ]


def test_minutes_with_a_star_in_an_hour_that_is_not_there_are_not_due() -> None:
    assert dues("*/30 2 * * *", "2026-03-29", "2026-03-30") == []


@pytest.mark.parametrize("zone", [BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Havana"])
@pytest.mark.parametrize("schedule", ["0 0 * * *", "15 1 * * *", "30 2 * * *", "0 3 * * *"])
def test_a_daily_schedule_is_due_once_on_each_day_of_two_years(schedule: str, zone: str) -> None:
    moment, days = at("2025-12-31T12:00", zone), []
    for _ in range(731):
        due = next_due(task(schedule, zone), moment)
        assert due is not None
        assert due > moment
        days.append(datetime.fromtimestamp(due, ZoneInfo(zone)).date())
        moment = due
    assert all(b - a == timedelta(days=1) for a, b in itertools.pairwise(days))


def test_the_29th_of_february_comes_in_leap_years_alone() -> None:
    years, moment = [], at("2025-01-01")
    for _ in range(3):
        due = next_due(task("0 12 29 2 *"), moment)
        assert due is not None
        years.append(datetime.fromtimestamp(due, ZoneInfo(BERLIN)).year)
        moment = due
    assert years == [2028, 2032, 2036]


def test_a_due_time_is_after_the_moment_that_it_is_asked_for() -> None:
    noon = at("2026-01-01T12:00")
    assert next_due(task("0 12 * * *"), noon) == noon + DAY
    assert next_due(task("0 12 * * *"), noon - 0.25) == noon
    assert next_due(task("0 12 * * *"), noon + 0.25) == noon + DAY


@pytest.mark.parametrize("moment", [-1e30, -1e18, -1e11, 0.0, 2.5e11, 1e18, 1e30, float("inf")])
def test_a_clock_beyond_all_years_is_no_accident(moment: float) -> None:
    due = next_due(task("0 12 * * *"), moment)
    assert due is None or due > moment


def test_no_file_is_opened_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master asks in its loop, where a file could keep it waiting, or be gone."""
    asked = task("0 12 * * *", "Asia/Tokyo")
    zone.cache_clear()
    for module in (builtins, io, os):
        monkeypatch.setattr(module, "open", None)
    assert next_due(asked, 0.0) == 3 * 3600.0


# -- what is wrong -------------------------------------------------------------


@pytest.mark.parametrize(
    "schedule",
    ["* * * * *", "0 2 * * 1-5", "0 0 L * *", "0 9 * * MON#1", "0 0 29 2 *", "0 0 * 2 MON#5", "9 0 3 * * *"],
)
def test_a_schedule_that_comes_is_right(schedule: str) -> None:
    assert problem(schedule, zones.read(BERLIN, {})) is None


EXPECTED = (
    'expected five fields such as "30 2 * * *" (minute, hour, day of month, month, day of week; '
    "six: seconds first), not "
)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("61 * * * *", "'61 * * * *' has a bad minute, '61': it is 0 to 59"),
        ("61 * * * * *", "'61 * * * * *' has a bad second, '61': it is 0 to 59"),
        ("0 24 * * *", "'0 24 * * *' has a bad hour, '24': it is 0 to 23"),
        ("0 0 * JAN,FEV *", "'0 0 * JAN,FEV *' has a bad month, 'JAN,FEV': it is 1 to 12, or JAN to DEC"),
        ("0 0 * * 6-0", "'0 0 * * 6-0' has a bad day of week, '6-0': write \"6,0\""),
        ("0 0 * * fri-mon", "'0 0 * * fri-mon' has a bad day of week, 'fri-mon': write \"5-6,0-1\""),
        ("0 0 * * 7-1", "'0 0 * * 7-1' has a bad day of week, '7-1': write \"0-1\""),
        ("0 0 L-2 * *", "'0 0 L-2 * *' has a bad day of month, 'L-2': it is 1 to 31"),
        ("0 22-2 * * *", "'0 22-2 * * *' has a bad hour, '22-2': write \"22-23,0-2\""),
        ("0 0 1 NOV-FEB *", "'0 0 1 NOV-FEB *' has a bad month, 'NOV-FEB': write \"11-12,1-2\""),
        ("* * *", EXPECTED + "'* * *': wrong number of fields"),
        ("", EXPECTED + "'': wrong number of fields"),
        ("0 0 32 2 *", "'0 0 32 2 *' has a bad day of month, '32': it is 1 to 31"),
        ("0 0 30 2 *", "'0 0 30 2 *' never comes: there is no such day"),
        ("@daily", EXPECTED + "'@daily': write \"0 0 * * *\""),
        ("* * * * funday", "'* * * * funday' has a bad day of week, 'funday': it is 0 to 6, or SUN to SAT"),
        ("0 0 */29 2 TUE#5", "'0 0 */29 2 TUE#5' never comes: there is no such day"),
    ],
)
def test_a_schedule_that_is_wrong_is_refused_with_words(schedule: str, said: str) -> None:
    assert problem(schedule, zones.read(BERLIN, {})) == said


@pytest.mark.parametrize("day", ["30 2", "31 2", "31 4", "31 6", "31 9", "31 11", "30,31 2", "31 2,4,6"])
def test_a_day_that_never_comes_is_refused(day: str) -> None:
    assert problem(f"0 0 {day} *") is not None


FIELDS = st.text("*/,-#L0123456789W MONJAN?H", max_size=24)


@hypothesis_settings(max_examples=500, deadline=None, database=None)
@given(FIELDS | st.text(max_size=20) | st.lists(FIELDS, min_size=5, max_size=6).map(" ".join))
def test_whatever_is_written_it_is_either_right_or_refused(schedule: str) -> None:
    said = problem(schedule)
    due = None if said else next_due(task(schedule, "UTC"), 0.0)
    assert (said is None) == (due is not None)


@hypothesis_settings(max_examples=300, deadline=None, database=None)
@given(
    st.sampled_from(
        ["30 2 * * *", "*/7 * * * *", "0 0 1 * *", "0-59 2 * * *", "5 1,2 * * SUN", "*/9 2 * * *"]
    ),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "America/Havana", "Africa/Cairo"]),
    st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1)),  # noqa: DTZ001  # hypothesis wants them naive
)
def test_the_next_is_the_first_one_after_wherever_it_is_asked_from(
    schedule: str, zone: str, when: datetime
) -> None:
    """Asked from anywhere before it, the same due time is found: none is passed over, none is made up."""
    moment = when.replace(tzinfo=timezone.utc).timestamp()
    due = next_due(task(schedule, zone), moment)
    assert due is not None
    assert due > moment
    assert next_due(task(schedule, zone), (moment + due) / 2) == due
