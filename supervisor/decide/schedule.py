"""The due times of one task: which is next, and whether one that passed still counts.

Knows the settings and asks the calendar; knows nothing of states or runs.  All
times are wall times, seconds since the epoch.

``since`` is how far due times have been dealt with; the next one is the first
after it, wherever the clock is, so that no due time comes twice.  A clock that
is set back makes the next one far away: by up to one gap of the schedule
that is right (those in between have had their run), by more it would silence the
task, so then `since` goes back to what last had a run, or to the clock (`reckon`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from supervisor.settings import TaskSettings

Calendar = Callable[[TaskSettings, float], "float | None"]

GRACE = 60.0  # what is later than this was missed, or later than half the time to the next one,
LEAST_GRACE = 1.0  # but a busy machine has a second
SHORTEST = 0.001  # between two due times
MOST_KNOWN = 2  # answers of the calendar that are kept: to look at a due time and the next costs no third
MOST_GAPS = 2.0  # a due time further away than so many gaps of its schedule is too far


def signature(settings: TaskSettings) -> str:
    """What makes two schedules the same."""
    if settings.every is not None:
        return f"every {settings.every:.15g}"
    return " ".join((settings.schedule or "").split()) + f" ({settings.timezone or 'local time'})"


class Schedule:
    """What the settings of one task say about time."""

    def __init__(self, settings: TaskSettings, calendar: Calendar, random: Callable[[], float]) -> None:
        self._settings, self._calendar, self._random = settings, calendar, random
        self._every = None if settings.every is None else max(float(settings.every), SHORTEST)
        self._known: list[tuple[float, float]] = []  # moments with the due times after them, newest last

    def after(self, anchor: float, moment: float) -> float | None:
        """The first due time after ``moment``."""
        if self._every is not None:
            return _step(anchor, self._every, moment)
        for earlier, due in self._known:
            if earlier <= moment < due:  # there is none in between
                return due
        found = self._calendar(self._settings, moment)
        if found is not None:
            self._known = [*self._known[1 - MOST_KNOWN :], (moment, found)]
        return found

    def reckon(
        self, anchor: float, since: float, fired: float | None, wall: float
    ) -> tuple[float | None, float]:
        """The next due time, and how far due times have been dealt with; ``fired`` last had a run."""
        for dealt_with in (since, wall if fired is None else max(wall, fired), wall):
            due = self.after(anchor, dealt_with)
            if not self._is_too_far(anchor, dealt_with, due, wall):
                break
        return due, dealt_with

    def _is_too_far(self, anchor: float, since: float, due: float | None, wall: float) -> bool:
        if since <= wall or due is None:
            return False
        gap = max(due - since, (self.after(anchor, due) or due) - due)
        return due - wall > MOST_GAPS * gap

    def delay(self, anchor: float, due: float) -> float:
        """What jitter adds to a due time: always less than the time to the next one."""
        if not self._settings.jitter:
            return 0.0
        following = self.after(anchor, due)
        gap = math.inf if following is None else following - due
        return self._random() * min(self._settings.jitter, gap)

    def still_counts(self, anchor: float, due: float, wall: float) -> float | None:
        """Of the due times from ``due`` to now, the newest, if it is not too late to be run."""
        newest = self._newest(anchor, due, wall)
        following = self.after(anchor, newest)
        gap = math.inf if following is None else following - newest
        grace = min(GRACE, max(LEAST_GRACE, gap / 2)) + min(self._settings.jitter, gap)
        return newest if newest >= wall - grace else None

    def _newest(self, anchor: float, due: float, wall: float) -> float:
        """The last due time up to now, of those from ``due`` on; of a long past, only what may count."""
        if self._every is not None:
            return due + max(0, math.floor((wall - due) / self._every)) * self._every
        for back in (GRACE, GRACE + self._settings.jitter):
            if due >= wall - back:
                return self._last(anchor, due, wall)
            recent = self.after(anchor, wall - back)
            if recent is not None and recent <= wall:
                return self._last(anchor, recent, wall)
        return due

    def _last(self, anchor: float, due: float, wall: float) -> float:
        """The last one up to now, found by halves: with a long jitter there may be very many."""
        none_after = wall
        while (following := self.after(anchor, due)) is not None and following <= none_after:
            due, middle = following, (following + none_after) / 2
            further = self.after(anchor, middle)
            if further is not None and further <= none_after:
                due = further
            else:
                none_after = middle
        return due

    def dealt_with(self, anchor: float, due: float, wall: float) -> float:
        """How far due times have been dealt with once those from ``due`` to now are."""
        following = self.after(anchor, due)
        return due if following is None or following > wall else wall


def _step(anchor: float, every: float, moment: float) -> float:
    due = anchor + (math.floor((moment - anchor) / every) + 1) * every
    # What is as near as this is the due time ``moment``, after two roundings.
    return due if due - moment > 2 * math.ulp(moment) else due + every
