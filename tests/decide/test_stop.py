"""Who acknowledged, who left how, what is left behind, and what the report says of it."""

from __future__ import annotations

import pytest
from bodies import GOOD, Body, Helpers, HookBody, pool
from scenes import (
    DEAF,
    HANGS,
    RESTART,
    STOP,
    UNKILLABLE,
    ask,
    farewell,
    left_after,
    running,
    stopped,
)

from supervisor.decide.actions import Kill, KillGroup, Run, Sweep
from supervisor.decide.stopping import Firmness


def test_who_has_not_acknowledged_after_a_second_is_named_once() -> None:
    bodies = [
        GOOD,
        Body(acknowledges_after=5.0, leaves_after=6.0),
        Body(acknowledges_after=0.5, leaves_after=6.0),
    ]
    k = running(pool(workers=3), bodies=lambda s: bodies[s.slot])
    ask(k)
    stopped(k)
    [note] = k.notes("stop.waiting")
    assert note.fields == {"workers": ["a.1"], "seconds": 1.0}
    assert next(t for t, a in k.log if a is note) == 1061.0


def test_nobody_is_named_when_all_have_acknowledged() -> None:
    k = running(body=Body(leaves_after=6.0))
    ask(k)
    stopped(k)
    assert k.notes("stop.waiting") == []


def test_a_worker_acknowledges_once_and_its_seconds_count_from_when_it_was_told() -> None:
    body = Body(acknowledges_after=0.25, leaves_after=6.0, stutters=True)
    k = running(hooks={"on_stop": [HookBody(2.0)]}, body=body)
    ask(k)
    stopped(k)
    [note] = k.notes("worker.acknowledged")
    assert note.fields == {"seconds": 0.25}
    assert (farewell(k, "a.0")["acknowledged_after"], farewell(k, "a.0")["gone_after"]) == (0.25, 6.0)


def test_the_report_has_every_field_of_every_worker_that_was_alive() -> None:
    k = running(pool(workers=2), bodies=lambda s: DEAF if s.slot else GOOD, stop_timeout=10.0)
    k.life.pools["a"].told(2, 17, 3, "busy")
    ask(k, reason="SIGTERM")
    stopped(k)
    assert (k.report["reason"], k.report["status"], k.report["seconds"]) == ("SIGTERM", 3, 10.0)
    good = {"acknowledged_after": 0.0, "gone_after": 0.1, "code": 0, "signal": None, "killed": False}
    deaf = {"acknowledged_after": None, "gone_after": 10.0, "code": None, "signal": "SIGKILL", "killed": True}
    assert k.report["workers"] == [
        {"worker": "a.0", "pid": 10_001, "in_flight": None, **good},
        {"worker": "a.1", "pid": 10_002, "in_flight": 3, **deaf},
    ]


# -- after the workers ---------------------------------------------------------------


def test_what_survives_sigkill_is_killed_again_and_given_up_after_five_seconds() -> None:
    k = running(pool(workers=2), bodies=lambda s: UNKILLABLE if s.slot else GOOD, stop_timeout=10.0)
    ask(k)
    stopped(k)
    assert k.times(Kill)[:6] == [1070.0, 1071.0, 1072.0, 1073.0, 1074.0, 1075.0]
    [stuck] = k.notes("stop.stuck")
    assert stuck.fields == {"workers": ["a.1"], "seconds": 5.0}
    assert (k.status, farewell(k, "a.1")["gone_after"], farewell(k, "a.1")["killed"]) == (3, None, True)
    assert k.report["phases"]["kill"] == 5.0


@pytest.mark.parametrize(("firmness", "status"), [(RESTART, 4), (STOP, 0)])
def test_helpers_get_term_and_a_second_later_kill_and_are_no_cut_work(
    firmness: Firmness, status: int
) -> None:
    k = running(helpers=Helpers(gone_after_term=None))
    ask(k, firmness)
    stopped(k)
    sweeps = [(round(t, 6), a.kill) for t, a in k.log if isinstance(a, Sweep)]
    assert (sweeps, k.status) == ([(1060.1, False), (1061.1, True)], status)


def test_helpers_that_obey_are_not_killed() -> None:
    k = running(helpers=Helpers(gone_after_term=0.4))
    ask(k)
    stopped(k)
    assert [a.kill for _, a in k.log if isinstance(a, Sweep)] == [False]
    assert left_after(k)["helpers"] == 0.5


def test_helpers_have_no_time_beyond_the_deadline() -> None:
    k = running(body=Body(leaves_after=9.6), stop_timeout=10.0, helpers=Helpers(gone_after_term=None))
    ask(k)
    stopped(k)
    sweeps = [(round(t, 6), a.kill) for t, a in k.log if isinstance(a, Sweep)]
    assert sweeps == [(1069.6, False), (1070.0, True)]


def test_helpers_that_survive_are_swept_again_and_given_up_after_five_seconds() -> None:
    k = running(helpers=Helpers(gone_after_term=None, gone_after_kill=None))
    ask(k)
    stopped(k)
    kills = [t for t, a in k.log if isinstance(a, Sweep) and a.kill]
    assert min(kills) == pytest.approx(1061.1)
    assert len(kills) in (40, 41), "ten a second"
    assert k.now == pytest.approx(1065.1)
    assert k.status == 0


def test_on_exit_hooks_run_when_everybody_is_gone_each_within_its_time() -> None:
    k = running(hooks={"on_exit": [HookBody(1.0, "ValueError"), HANGS, HookBody(1.0)]}, hook_timeout=5.0)
    ask(k)
    stopped(k)
    assert k.times(Run) == [1060.1, 1061.1, 1066.1]
    assert (k.status, k.report["phases"]["on_exit"]) == (0, 7.0)


def test_after_the_end_nothing_is_planned_any_more() -> None:
    k = running()
    ask(k)
    stopped(k)
    assert (k.life.deadline(), k.life.plan(k.now + 1000)) == (None, [])


def test_being_alone_counts_only_once_the_helpers_were_told() -> None:
    """A master that had no child for a moment may have adopted one since."""
    k = running(body=Body(leaves_after=2.0), helpers=Helpers(gone_after_term=None))
    ask(k)
    k.wait(1)
    k.life.alone()
    stopped(k)
    assert [a.kill for _, a in k.log if isinstance(a, Sweep)] == [False, True]


def test_what_outlived_its_worker_is_killed_a_second_later_and_once() -> None:
    k = running()
    k.life.outlived(4711, k.now)
    groups = [(t, a.group) for t, a in k.log if isinstance(a, KillGroup)]
    assert (groups, k.life.deadline()) == ([], 1061.0)
    k.wait(5)
    assert [(t, a.group) for t, a in k.log if isinstance(a, KillGroup)] == [(1061.0, 4711)]
