"""One task: what each input does in each state.

::

                    running                 paused                 errored
    due             a run                   (does not come)        (does not come)
    pause           paused                  paused anew            paused, the error is kept
    resume          -                       running                running
    pause is over   (does not come)         running, or errored    (does not come)
    trial is due    (does not come)         (does not come)        the one run, by "retry"
    run by hand     a run                   a run                  a run
    run ok          failures 0              failures 0, no error   trial: running
    run failed      failures + 1; too many: failures + 1; too      trial: errored anew
     or timed out    errored                 many: error kept
    interrupted     -                       -                      trial: again after retry_after
    configured      next due from now on    the same, and paused   the same, and errored
    removed         -                       -                      -          (a run is let finish, uncounted)
    restored        what was missed while nobody was there is like what was missed while paused
    clock was set   nothing that was dealt with comes again, see `schedule`; what waits goes on
                    waiting, but where its due time comes again

Runs by hand change no state, however they end.  Due times that pass while it is
not running were missed: leaving that state brings at most one run, and none
but with ``missed = "once"``; a trial that went well stands for them.
A run that is due while another goes on is skipped or waits, as `overlap` says; one
for what was missed waits; one waits at most, and what waits by itself goes when the
state does.  One that cannot begin, though nothing in here speaks against it, is put
back: whatever it was for is as if it had not come yet.

Knows nothing of other tasks, numbers or the store.  Times are wall times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.decide.actions import Note
from supervisor.decide.run import (
    FAILED,
    MISSED,
    OK,
    RETRY,
    SCHEDULE,
    TIMED_OUT,
    Before,
    Ended,
    Run,
    Want,
)
from supervisor.decide.schedule import Schedule, signature
from supervisor.decide.standing import Pause, Standing, State
from supervisor.settings import TaskSettings
from supervisor.stored import RunRow, TaskRow


class Task:
    """Its picture.  `news` is what people want to read about, `waiting` the run that is to begin next."""

    def __init__(
        self,
        settings: TaskSettings,
        schedule: Schedule,
        wall: float,
        *,
        standing: Standing | None = None,
        since: tuple[float, float | None] | None = None,
        last_run: RunRow | None = None,
        last_fired: float | None = None,
    ) -> None:
        self.name, self.settings, self._schedule = settings.name, settings, schedule
        self.standing = standing or Standing(changed_at=wall)
        self.anchor, self.last_due = since or (wall, None)
        self.run: Run | None = None
        self.waiting: Want | None = None
        self.last_run = last_run
        self.last_fired = last_fired  # the last due time that had a run
        self.news: list[Note] = []
        self.due: float | None = None
        self._delay = 0.0
        self.reckon(wall)

    # -- questions -------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.standing.state

    def moment(self) -> float | None:
        """When something will happen by itself: a due time, the end of a pause, a trial."""
        match self.state:
            case State.RUNNING:
                return None if self.due is None else self.due + self._delay
            case State.PAUSED:
                return self.standing.pause.until if self.standing.pause else None
            case State.ERRORED:
                after = self.settings.retry_after
                busy = self.waiting is not None or (self.run is not None and self.run.want.trial)
                return None if after is None or busy else self.standing.changed_at + after

    def row(self, standing: Standing | None = None) -> TaskRow:
        """What is written of it, or would be."""
        now = standing or self.standing
        return {
            "task": self.name,
            "state": now.state.value,
            "reason": now.reason,
            "error": now.error,
            "by": now.by,
            "paused_until": now.pause.until if now.pause else None,
            "failures": now.failures,
            "anchor": self.anchor,
            "last_due": self.last_due,
            "schedule": signature(self.settings),
            "changed_at": now.changed_at,
        }

    # -- time ------------------------------------------------------------------

    def came(self, wall: float) -> None:
        """The moment has come."""
        match self.state:
            case State.RUNNING:
                self._due_came(wall)
            case State.PAUSED:
                self._pause_over(wall)
            case State.ERRORED:
                self.waiting = Want(RETRY)

    def clock_set(self, wall: float) -> None:
        """The clock was set, or time passed in which the machine slept."""
        self.standing = self.standing.set_back(wall)
        self.reckon(wall)

    def reckon(self, wall: float) -> None:
        """Find the next due time."""
        before = self.due
        since = self.anchor if self.last_due is None else self.last_due
        self.due, dealt_with = self._schedule.reckon(self.anchor, since, self.last_fired, wall)
        if dealt_with != since:
            self.last_due = dealt_with
            self.last_fired = min(dealt_with, self.last_fired or dealt_with)
            if self.waiting and (self.waiting.due or dealt_with) > dealt_with:
                self.drop_waiting("the clock was set back, and it will be due again")
        if self.due is not None and self.due != before:
            self._delay = self._schedule.delay(self.anchor, self.due)

    def _due_came(self, wall: float) -> None:
        if self.due is None:
            return
        first, fresh = self.due, self._schedule.still_counts(self.anchor, self.due, wall)
        before = self._deal_with(first, wall)
        if fresh is None:
            self._missed(first, "too late", before)
            return
        if fresh != first and self.settings.missed == "skip":
            self._missed(first, "too late", before)
            before = before._replace(last_due=first)
        self._want(Want(SCHEDULE, fresh, before=before))

    def _missed(self, due: float, why: str, before: Before) -> None:
        if self.settings.missed == "once":
            self._want(Want(MISSED, due, before=before))
        else:
            self._note("task.missed", {"due": due, "reason": why})

    def _deal_with(self, due: float, wall: float) -> Before:
        before = Before(self.anchor, self.last_due, self.last_fired)
        self.last_due = self._schedule.dealt_with(self.anchor, due, wall)
        self.reckon(wall)
        return before

    def put_back(self, want: Want, wall: float) -> None:
        """It has not begun, and will not: what it was for is as it was before, if that is still so."""
        before = want.before
        if before is None or before.anchor != self.anchor:
            return
        if self.last_fired == want.due:
            self.last_fired = before.last_fired
        if self.last_due is not None:
            self.last_due = None if before.last_due is None else min(before.last_due, self.last_due)
        self.reckon(wall)

    def _catch_up(self, wall: float, why: str | None) -> None:
        """Its schedule is live again.  ``why`` it was not, or None where nothing was missed by that."""
        if self.due is None or self.due + self._delay > wall:
            return
        first = self.due
        before = self._deal_with(first, wall)
        if why is not None:
            self._missed(first, why, before)

    # -- people ----------------------------------------------------------------

    def pause(self, pause: Pause, by: str | None, asked: float, wall: float) -> None:
        """As it was stored: ``asked`` is when."""
        self.standing = self.standing.paused(pause, by, asked).set_back(wall)
        self._note("task.paused", {"by": by, "reason": pause.reason, "until": pause.until})
        self.drop_waiting("paused")

    def resume(self, by: str | None, asked: float, wall: float) -> None:
        """The same."""
        before, self.standing = self.state, self.standing.resumed(by, asked).set_back(wall)
        if before is not State.RUNNING:
            self.drop_waiting("resumed")  # the trial: its schedule is live again
            self._note("task.resumed", {"by": by, "reason": f"it was {before.value}"})
            self._catch_up(wall, before.value)

    def run_by_hand(self, want: Want) -> None:
        """It is wanted by a person, and nothing speaks against it."""
        self.drop_waiting("a run by hand takes its place")
        self.waiting = want

    def configured(self, settings: TaskSettings, schedule: Schedule, wall: float) -> None:
        """The configuration was read again."""
        if signature(settings) != signature(self.settings) or settings.zone != self.settings.zone:
            self.anchor, self.last_due = wall, None
        self.settings, self._schedule = settings, schedule
        self.due = None  # so that its delay is drawn anew
        self.reckon(wall)

    # -- its runs --------------------------------------------------------------

    def began(self, run: Run) -> None:
        """The run that waited begins."""
        self.run, self.waiting, self.last_run = run, None, run.row()
        self.last_fired = run.want.due or self.last_fired

    def ended(self, run: Run, how: Ended, wall: float) -> None:
        """The run that went on is over."""
        self.run, self.last_run = None, how.row(run)
        self._note(*how.told(run))
        if run.want.hand or not run.counts:
            return
        if how.outcome == OK:
            self._succeeded(wall)
        elif how.outcome in (FAILED, TIMED_OUT):
            self._failed(how.reason(run), wall)
        elif run.want.trial:
            self.standing = self.standing.postponed(wall)

    def unborn(self, run: Run, wall: float) -> None:
        """The run that was to begin never will."""
        self.run = None
        self.put_back(run.want, wall)

    def _succeeded(self, wall: float) -> None:
        before, self.standing = self.state, self.standing.succeeded(wall)
        if before is State.ERRORED:
            self._note("task.resumed", {"by": RETRY, "reason": "its trial run went well"})
            self._catch_up(wall, None)

    def _failed(self, reason: str, wall: float) -> None:
        self.standing = self.standing.failed(reason, self.settings.pause_after_failures, wall)
        if self.state is State.ERRORED:
            self._tell_error()
            self.drop_waiting("errored")

    def _pause_over(self, wall: float) -> None:
        self.standing = self.standing.pause_over(wall)
        if self.state is State.ERRORED:
            self._tell_error()
        else:
            self._note("task.resumed", {"by": None, "reason": "its pause is over"})
            self._catch_up(wall, "paused")

    def _want(self, want: Want) -> None:
        """One that is due: now, or when the run that goes on is over, or never."""
        if self.run and self.settings.overlap == "skip" and want.by != MISSED:
            self._note("task.skipped", {"due": want.due, "reason": "the run before it still goes on"})
        elif self.waiting:
            self._note("task.skipped", {"due": want.due, "reason": "another run waits already"})
        else:
            self.waiting = want

    def removed(self) -> None:
        """It is not configured any more; a run that goes on is let finish, and nothing follows from it."""
        self.drop_waiting("the task was removed")
        if self.run:
            self.run.counts = False

    def drop_waiting(self, why: str) -> None:
        """What waits by itself is not to be."""
        if self.waiting and not self.waiting.hand:
            if self.waiting.due is not None:
                self._note("task.skipped", {"due": self.waiting.due, "reason": why})
            self.waiting = None

    def _tell_error(self) -> None:
        fields = {"by": None, "reason": self.standing.error, "failures": self.standing.failures}
        self._note("task.errored", {**fields, "next_run": self.moment()})

    def _note(self, event: str, fields: Mapping[str, Any]) -> None:
        self.news.append(Note(event, None, {"task": self.name, **fields}))
