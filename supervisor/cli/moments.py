"""Moments as people read them: in local time, and how far away they are."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from supervisor.cli.words import DAY, HOUR, MINUTE

WEEK = timedelta(days=6)  # beyond it the name of a day would be ambiguous
FEW_HOURS = 10  # minutes say something only below


def moment(value: object) -> datetime | None:
    """An ISO 8601 time, or seconds since the epoch, in local time; None for none."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, timezone.utc).astimezone()
    if not isinstance(value, str) or not value:
        return None
    return datetime.fromisoformat(
        value.replace("Z", "+00:00")
    ).astimezone()  # Python 3.10 does not know the Z


def now() -> datetime:
    return datetime.now(timezone.utc).astimezone()


def clock(when: datetime, now: datetime) -> str:
    """As much of it as is needed: ``14:05``, ``Sat 03:00``, ``2026-03-01 03:00``."""
    if when.date() == now.date():
        return when.strftime("%H:%M:%S" if when.second else "%H:%M")
    return when.strftime("%a %H:%M" if timedelta(0) < when - now < WEEK else "%Y-%m-%d %H:%M")


def ahead(when: datetime, now: datetime) -> str:
    """``now``, ``in 12 s``, ``in 4 min``, ``in 3 h 20 min``, ``in 13 h``, ``in 5 days``."""
    seconds = round((when - now).total_seconds())
    if seconds <= 0:
        return "now"
    if seconds < 2 * MINUTE:
        return f"in {seconds} s"
    minutes = round(seconds / MINUTE)
    if minutes < HOUR // MINUTE:
        return f"in {minutes} min"
    if minutes < 2 * DAY // MINUTE:
        hours, minutes = divmod(minutes, 60)
        return f"in {hours} h {minutes} min" if minutes and hours < FEW_HOURS else f"in {hours} h"
    return f"in {round(seconds / DAY)} days"


def past(when: datetime, now: datetime) -> float:
    """Seconds since then; clocks of a bad day do not make it negative."""
    return max(0.0, (now - when).total_seconds())
