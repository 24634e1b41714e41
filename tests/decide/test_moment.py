"""One moment's hooks run one after another, each within its time, and none after a skip."""

from __future__ import annotations

from supervisor.decide.actions import Note, Run
from supervisor.decide.moment import Moment


def names(moment: Moment, now: float, latest: float | None = None) -> list[str | int]:
    plan = moment.plan(now, latest)
    return [a.index if isinstance(a, Run) else a.event for a in plan if isinstance(a, Run | Note)]


def test_a_moment_without_hooks_is_done_at_once() -> None:
    moment = Moment("on_exit", 5.0)
    assert moment.done
    assert names(moment, 0.0) == []


def test_the_next_hook_runs_when_the_one_before_has_ended() -> None:
    moment = Moment("on_exit", 5.0, count=2)
    assert names(moment, 0.0) == [0]
    assert names(moment, 1.0) == []
    moment.ended(0, None)
    assert names(moment, 1.0) == [1]
    assert (moment.running, moment.done, moment.until) == (True, False, 6.0)
    moment.ended(1, None)
    assert (moment.running, moment.done, moment.failed) == (False, True, None)


def test_a_hook_that_raises_is_remembered_and_the_next_one_runs() -> None:
    moment = Moment("on_exit", 5.0, count=2)
    names(moment, 0.0)
    moment.ended(0, "")
    assert names(moment, 0.0) == [1]
    moment.ended(1, "ValueError: second")
    assert moment.failed == "", "the first error is the one that is told, even one without words"


def test_a_hook_that_hangs_is_left_behind_and_named() -> None:
    moment = Moment("on_stop", 5.0, count=2)
    names(moment, 0.0)
    [note, run] = moment.plan(5.0)
    assert isinstance(note, Note)
    assert note.fields == {"hook": "on_stop", "index": 0, "seconds": 5.0}
    assert run == Run("on_stop", 1)
    assert moment.failed


def test_a_hook_that_was_left_behind_may_end_later_without_harm() -> None:
    moment = Moment("on_stop", 5.0, count=2)
    names(moment, 0.0)
    names(moment, 5.0)
    moment.ended(0, None)
    assert moment.running, "the second one is still at work"


def test_no_hook_runs_beyond_the_latest_time() -> None:
    moment = Moment("on_stop", 5.0, count=2)
    assert names(moment, 0.0, 3.0) == [0]
    assert moment.until == 3.0
    assert names(moment, 3.0, 3.0) == ["hook.timeout"]
    assert not moment.running


def test_a_latest_time_also_holds_for_a_hook_that_had_begun() -> None:
    moment = Moment("on_start", 5.0, count=1)
    names(moment, 0.0)
    names(moment, 1.0, 2.0)
    assert moment.until == 2.0


def test_after_a_skip_none_begins_and_the_one_at_work_may_still_end() -> None:
    moment = Moment("on_start", 5.0, count=3)
    names(moment, 0.0)
    moment.skip()
    assert (moment.running, moment.done) == (True, False)
    moment.ended(0, None)
    assert (moment.running, moment.done, names(moment, 1.0)) == (False, True, [])


def test_after_a_skip_none_begins_though_the_count_is_learnt_later() -> None:
    moment = Moment("on_start", 5.0)
    moment.skip()
    moment.count = 3
    assert (moment.done, names(moment, 0.0)) == (True, [])


def test_abandoning_also_leaves_the_one_at_work() -> None:
    moment = Moment("on_stop", 5.0, count=2)
    names(moment, 0.0)
    moment.abandon()
    assert (moment.running, moment.done, names(moment, 9.0)) == (False, True, [])
    moment.ended(0, "too late")
    assert moment.failed is None
