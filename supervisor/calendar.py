"""When a cron schedule is next due.

Knows how schedules are written and what daylight saving does to them.  A zone
comes as data, see `config.zones`: no file is opened here, for a master must not
wait for one.  It is what Debian's cron does:

- a fixed time that does not exist (clocks go forward over it) is due at the next
  moment that does, and one that exists twice is due the first time only;
- where the minute or the hour begins with ``*``, the schedule follows the time
  that really passes: ``*/15 * * * *`` is due every 15 minutes also while an hour is
  repeated, and ``*/30 2 * * *`` not at all on a day that has no hour 2.

Six fields begin with seconds; they always follow the time that really passes.
"""

from __future__ import annotations

from datetime import datetime, timezone, tzinfo
from functools import cache
from io import BytesIO
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from supervisor.settings import TaskSettings

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
        return _search(settings.schedule or "", zone(settings.zone), after)
    except (ValueError, OverflowError, OSError):  # a clock in the year 10000: gmtime(3), too, refuses it
        return None


@cache
def zone(data: bytes) -> tzinfo:
    """Of what is in a file of a zone; nothing means UTC."""
    return ZoneInfo.from_file(BytesIO(data)) if data else timezone.utc


def problem(schedule: str, data: bytes = b"") -> str | None:
    """What is wrong with this schedule in this zone, for the person who wrote it."""
    if instead := MEANT.get(schedule.strip().lower()):
        return f'expected {EXPECTED}, not {schedule!r}: write "{instead}"'
    try:
        due = _search(schedule, zone(data), 0.0)
    except (CronSimError, ValueError, AssertionError) as error:
        if not _has_no_such_day(schedule):
            return _bad_field(schedule) or f"expected {EXPECTED}, not {schedule!r}: {str(error).lower()}"
        due = None
    return f"{schedule!r} never comes: there is no such day" if due is None else None


def _has_no_such_day(schedule: str) -> bool:
    """Whether it is only the month that makes the day a wrong one: cronsim refuses 30 February."""
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
    fields = ["*"] * len(FIELDS)
    fields[number] = part
    try:
        return sorted(getattr(CronSim(" ".join(fields), EPOCH), FIELDS[number][2]))
    except (CronSimError, ValueError, AssertionError):
        return None


class _Real(CronSim):
    """Where clocks skip the midnight of a day, cronsim also leaves out the hour after that."""

    def advance_month(self) -> None:
        super().advance_month()
        self._exist()

    def advance_day(self) -> bool:
        moved = super().advance_day()
        self._exist()
        return moved

    def _exist(self) -> None:
        if self.dt.tzinfo is not None:
            self.dt = self.dt.astimezone(timezone.utc).astimezone(self.dt.tzinfo)


def _search(schedule: str, place: tzinfo, after: float) -> float | None:
    # In an hour that is repeated cronsim goes on from the clock on the wall, and so may look back.
    for due in _Real(schedule, datetime.fromtimestamp(after, place)):
        if due.timestamp() > after:
            return due.timestamp()
    return None
