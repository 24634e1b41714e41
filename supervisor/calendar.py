"""When a cron schedule is next due.

Knows how schedules and time zones are written and what daylight saving does to
them.  It is what Debian's cron does:

- a fixed time that does not exist (clocks go forward over it) is due at the next
  moment that does, and one that exists twice is due the first time only;
- where the minute or the hour begins with ``*``, the schedule follows the time
  that really passes: ``*/15 * * * *`` is due every 15 minutes also while an hour is
  repeated, and ``*/30 2 * * *`` not at all on a day that has no hour 2.

Six fields begin with seconds; they always follow the time that really passes.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from supervisor.settings import TaskSettings

LOCAL_TIME = "/etc/localtime"
EPOCH = datetime.fromtimestamp(0, timezone.utc)
EXPECTED = (
    'five fields such as "30 2 * * *" (minute, hour, day of month, month, day of week; six: seconds first)'
)
FIELDS = (  # what they are called, what they hold, and cronsim's name for what it has read
    ("second", "0 to 59", "seconds"),
    ("minute", "0 to 59", "minutes"),
    ("hour", "0 to 23", "hours"),
    ("day of month", "1 to 31", "days"),
    ("month", "1 to 12, or JAN to DEC", "months"),
    ("day of week", "0 to 6, or SUN to SAT", "weekdays"),
)
WEEKDAY = 5
MEANT = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def next_due(settings: TaskSettings, after: float) -> float | None:
    """The first time after ``after`` at which the schedule is due; seconds since the epoch.

    None: never, or not in the years that there are.
    """
    try:
        return _search(settings.schedule or "", _zone(settings.timezone), after)
    except (ValueError, OverflowError, OSError, ZoneInfoNotFoundError):  # a clock in the year 10000
        return None


def problem(schedule: str, timezone: str | None) -> str | None:
    """What is wrong with these two keys, for the person who wrote them."""
    try:
        zone = _zone(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return _no_zone(timezone)
    if instead := MEANT.get(schedule.strip().lower()):
        return f'expected {EXPECTED}, not {schedule!r}: write "{instead}"'
    from cronsim import CronSimError

    try:
        due = _search(schedule, zone, 0.0)
    except (CronSimError, ValueError, AssertionError) as error:
        if not _has_no_such_day(schedule):
            return _bad_field(schedule) or f"expected {EXPECTED}, not {schedule!r}: {str(error).lower()}"
        due = None
    return f"{schedule!r} never comes: there is no such day" if due is None else None


def _has_no_such_day(schedule: str) -> bool:
    """Whether it is only the month that makes the day a wrong one: cronsim refuses 30 February."""
    from cronsim import CronSim, CronSimError

    try:
        *time, day, month, weekday = schedule.split()
        CronSim(" ".join((*time, day, "1", weekday)), EPOCH)  # all its days exist in January,
        CronSim(" ".join((*time, "1", month, weekday)), EPOCH)  # and all its months have a first
    except (CronSimError, ValueError, AssertionError):
        return False
    return True


def _bad_field(schedule: str) -> str | None:
    """The first that is wrong, and what to write."""
    parts = schedule.split()
    for number, part in enumerate(parts, len(FIELDS) - len(parts)) if len(parts) in (5, 6) else ():
        name, holds, _ = FIELDS[number]
        if _read(number, part) is None:
            instead = _over_its_end(number, part)
            advice = f'write "{instead}"' if instead else f"it is {holds}"
            return f"{schedule!r} has a bad {name}, {part!r}: {advice}"
    return None


def _over_its_end(number: int, part: str) -> str | None:
    """``6,0`` for ``6-0``, ``22-23,0-2`` for ``22-2``; None for what is no such range."""
    match [_read(number, end) for end in part.split("-")]:
        case [[int(first)], [int(last)]] if min(first, last) >= 0:  # below are those of L
            every = [value for value in _read(number, "*") or () if (number, value) != (WEEKDAY, 7)]
            first %= every[-1] + 1  # the 7 of a Sunday
            spans = [(first, last)] if first <= last else [(first, every[-1]), (every[0], last)]
            return ",".join(f"{one}" if one == other else f"{one}-{other}" for one, other in spans)
    return None


def _read(number: int, part: str) -> list[Any] | None:
    """What this field alone means to cronsim, in order."""
    from cronsim import CronSim, CronSimError

    fields = ["*"] * len(FIELDS)
    fields[number] = part
    try:
        return sorted(getattr(CronSim(" ".join(fields), EPOCH), FIELDS[number][2]))
    except (CronSimError, ValueError, AssertionError):
        return None


def _search(schedule: str, zone: tzinfo, after: float) -> float | None:
    from cronsim import CronSim

    # In an hour that is repeated cronsim goes on from the clock on the wall, and so may look back.
    for due in CronSim(schedule, datetime.fromtimestamp(after, zone)):
        if due.timestamp() > after:
            return due.timestamp()
    return None


def _zone(name: str | None) -> tzinfo:
    """The zone of this name; by default that of the machine, as the C library finds it."""
    if name is None:
        name = os.environ.get("TZ", "").removeprefix(":") or LOCAL_TIME
    if not name.startswith("/"):
        return timezone.utc if name == "UTC" else ZoneInfo(name)
    try:
        with open(name, "rb") as file:
            return ZoneInfo.from_file(file)
    except FileNotFoundError:
        return timezone.utc


def _no_zone(name: str | None) -> str:
    if name is None:
        return f"the time zone of this machine (TZ={os.environ.get('TZ')!r}) is not known: set 'timezone'"
    import difflib
    from zoneinfo import available_timezones

    close = difflib.get_close_matches(name, available_timezones(), 1)
    meant = f", did you mean {close[0]!r}?" if close else '; expected a name such as "Europe/Berlin"'
    return f"no time zone {name!r} is known here{meant}"
