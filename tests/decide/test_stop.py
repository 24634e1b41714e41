"""The way down, phase by phase, and that a stop only ever gets firmer."""

from __future__ import annotations

from typing import Any

import pytest
from kernel import GOOD, SIGSEGV, Body, Helpers, HookBody, Kernel, kernel, pool

from supervisor.decide.actions import Dump, Kill, Note, Run, Start, Stop, Sweep
from supervisor.decide.stopping import Firmness, Phase
from supervisor.exits import End
from supervisor.settings import Backoff, Seconds

GAVE_UP, RESTART, STOP, FORCE = Firmness
DEAF = Body(leaves_after=None, acknowledges_after=None)
UNKILLABLE = Body(leaves_after=None, dies_of_kill_after=None)
HANGS = HookBody(seconds=None)
WAYS_DOWN = [GAVE_UP, RESTART, STOP]
LAST = Phase.DONE


def running(*pools: Any, **keys: Any) -> Kernel:
    """A life that has been up for a minute."""
    k = kernel(*pools, **keys)
    k.wait(60)
    k.log.clear()
    return k


def ask(k: Kernel, firmness: Firmness = STOP, reason: str = "SIGTERM") -> None:
    k.life.ask(firmness, reason, k.now)


def stopped(k: Kernel) -> Kernel:
    """To the end of the stop."""
    k.until(lambda: k.finished)
    return k


def phases(k: Kernel) -> dict[str, float]:
    """When each phase was left, in seconds since the first."""
    begun = next(t for t, a in k.log if isinstance(a, Note) and a.event == "stop.phase")
    left = [(t, a) for t, a in k.log if isinstance(a, Note) and a.event == "stop.phase"]
    return {a.fields["phase"]: round(t - begun, 6) for t, a in left}


def farewell(k: Kernel, name: str) -> dict[str, Any]:
    return next(entry for entry in k.report["workers"] if entry["worker"] == name)


# -- precedence ----------------------------------------------------------------------

ALL_PHASES = [phase for phase in Phase if phase is not LAST]
SLOW = {"on_stop": [HookBody(1.0)], "on_exit": [HookBody(1.0)]}
EXPECTED = {GAVE_UP: (6, 6), RESTART: (4, 5), STOP: (0, 3), FORCE: (3, 3)}  # clean, cut


def down_to(phase: Phase, firmness: Firmness) -> Kernel:
    """A stop that has come down to a phase and will be there for a while."""
    slow_to_die = Body(leaves_after=None, dies_of_kill_after=1.0)
    body = slow_to_die if phase is Phase.KILL else Body(leaves_after=2.0)
    k = running(hooks=SLOW, drain_delay=1.0, body=body, helpers=Helpers(gone_after_term=None))
    ask(k, firmness, "first")
    if phase is not Phase.ANNOUNCE:
        k.until(lambda: k.life.stop is not None and k.life.stop.phase is phase)
    return k


@pytest.mark.parametrize("phase", ALL_PHASES)
@pytest.mark.parametrize("second", Firmness)
@pytest.mark.parametrize("first", Firmness)
def test_of_two_requests_the_firmer_one_decides_how_it_ends(
    first: Firmness, second: Firmness, phase: Phase
) -> None:
    """Each ordered pair in each phase: status, reason, and a deadline that never moves."""
    if first is FORCE and phase in (Phase.ON_STOP, Phase.DRAIN_DELAY, Phase.TERMINATE):
        phase = Phase.KILL  # a forced stop has no others
    k = down_to(phase, first)
    assert k.life.stop is not None
    deadline = k.life.stop.deadline
    ask(k, second, "second")
    stopped(k)
    firmest, killed = max(first, second), phase is Phase.KILL
    assert k.status == k.report["status"] == EXPECTED[firmest][killed]
    assert k.report["reason"] == ("second" if second > first else "first")
    assert len(k.notes("signal.ignored")) == (second <= first)
    assert k.life.stop.deadline == deadline
    assert [k.times(Start), len(k.report["workers"])] == [[], 1]


@pytest.mark.parametrize("phase", ALL_PHASES)
@pytest.mark.parametrize("first", WAYS_DOWN)
def test_a_forced_stop_kills_in_the_same_turn(first: Firmness, phase: Phase) -> None:
    k = down_to(phase, first)
    if phase in (Phase.KILL, Phase.HELPERS, Phase.ON_EXIT):
        assert not k.alive or k.times(Kill), "there everybody has been killed or is gone"
        return
    ask(k, FORCE, "SIGQUIT")
    k.turn()
    assert k.times(Kill) == [k.now]
    assert stopped(k).status == 3
    assert not [a for _, a in k.log if isinstance(a, Dump)], "no drain, no ceremony"


@pytest.mark.parametrize("phase", ALL_PHASES)
def test_one_interrupt_stops_and_a_second_one_forces_in_every_phase(phase: Phase) -> None:
    k = running(hooks=SLOW, drain_delay=1.0, helpers=Helpers(gone_after_term=None), body=Body(leaves_after=2.0))
    k.life.interrupt("SIGINT", k.now)
    assert k.life.stop is not None
    assert k.life.stop.firmness is STOP
    if phase is Phase.KILL:
        k.life.interrupt("SIGINT", k.now)
    elif phase is not Phase.ANNOUNCE:
        k.until(lambda: k.life.stop is not None and k.life.stop.phase is phase)
    k.life.interrupt("SIGINT", k.now)
    assert k.life.stop.firmness is FORCE
    assert stopped(k).status == 3


@pytest.mark.parametrize("first", WAYS_DOWN)
def test_an_interrupt_during_any_stop_forces_it(first: Firmness) -> None:
    k = running(body=Body(leaves_after=2.0))
    ask(k, first)
    k.wait(1)
    k.life.interrupt("SIGINT", k.now)
    assert (stopped(k).status, k.report["reason"]) == (3, "SIGINT")


def test_repeating_a_request_gains_no_time() -> None:
    k = running(body=DEAF, stop_timeout=10.0)
    ask(k)
    for _ in range(9):
        k.wait(1)
        ask(k)
    k.wait(2)
    assert k.times(Kill) == [1070.0]


def test_a_stop_that_was_forced_while_helpers_had_their_time_kills_them_at_once() -> None:
    k = running(helpers=Helpers(gone_after_term=None))
    ask(k)
    k.wait(0.5)
    assert k.life.stop is not None
    assert k.life.stop.phase is Phase.HELPERS
    ask(k, FORCE, "SIGQUIT")
    assert Sweep(kill=True) in k.turn()


# -- from every state ----------------------------------------------------------------


@pytest.mark.parametrize(
    "hooks",
    [
        {"import": [HookBody(3.0)]},
        {"import": [HookBody(3.0)], "on_start": [HookBody(1.0)] * 2, "on_ready": [HookBody(1.0)]},
        {"on_start": [HookBody(3.0)] * 3},
        {"on_start": [HookBody(3.0, "ValueError: too late to matter")]},
        {"on_ready": [HookBody(3.0)] * 3},
    ],
    ids=["import", "import of hooks", "on_start", "on_start that fails", "on_ready"],
)
@pytest.mark.parametrize(("firmness", "status"), [(RESTART, 4), (STOP, 0), (FORCE, 3)])
def test_a_stop_during_a_hook_on_the_way_up_waits_for_it_and_begins_no_other(
    hooks: dict[str, list[HookBody]], firmness: Firmness, status: int
) -> None:
    k = kernel(pool(), hooks={**hooks, "on_stop": [HookBody()]})
    k.wait(1)
    before = len(k.times(Run))
    ask(k, firmness)
    stopped(k)
    assert k.status == status
    assert k.now == (1001.0 if firmness is FORCE else 1003.2 if list(hooks) == ["on_ready"] else 1003.0)
    later = [a.moment for _, a in k.log if isinstance(a, Run)][before:]
    assert later == ([] if firmness is FORCE else ["on_stop"])
    assert k.notes("hook.timeout") == []


@pytest.mark.parametrize("moment", ["import", "on_start", "on_ready"])
def test_a_hook_that_hangs_on_the_way_up_costs_a_stop_half_its_time_at_most(moment: str) -> None:
    k = kernel(pool(), hooks={moment: [HANGS]}, stop_timeout=10.0, hook_timeout=60.0)
    k.wait(1)
    ask(k)
    stopped(k)
    assert (k.status, phases(k)["on_stop"]) == (0, 5.0)


def test_a_stop_while_workers_are_not_ready_tells_them_too() -> None:
    k = kernel(pool(workers=2), body=Body(ready_after=None))
    k.wait(1)
    ask(k)
    stopped(k)
    assert (k.status, k.life.was_ready, len(k.times(Stop))) == (0, False, 2)


def test_a_stop_during_backoff_does_not_wait_for_it() -> None:
    k = kernel(pool(backoff=Backoff(Seconds(30.0))), body=Body(ready_after=None, dies_after=1.0))
    k.wait(2)
    ask(k)
    assert (stopped(k).status, k.now, k.report["workers"]) == (0, 1002.0, [])


def test_a_stop_of_a_quiet_master_is_a_stop_like_any_other() -> None:
    k = running()
    k.life.hush(True)
    k.wait(1)
    ask(k)
    assert stopped(k).status == 0


def test_a_stop_before_anything_was_planned_runs_nothing() -> None:
    k = kernel(pool(), hooks={"on_start": [HookBody()], "on_exit": [HookBody()]})
    ask(k)
    assert (stopped(k).status, k.times(Run), k.times(Start)) == (0, [], [])


def test_wishes_come_too_late_during_a_stop() -> None:
    k = running(body=Body(leaves_after=5.0))
    ask(k)
    k.wait(1)
    k.life.hush(True)
    k.life.resize(k.life.pools["a"], 9, k.now)
    assert (k.turn(), k.life.pools["a"].slots.size, k.life.quiet) == ([], 1, False)


def test_the_state_says_whether_somebody_will_start_it_again() -> None:
    k = running(body=Body(leaves_after=5.0))
    ask(k, RESTART)
    assert k.life.state == "restarting"
    ask(k, STOP)
    assert k.life.state == "stopping"


# -- the phases ----------------------------------------------------------------------


def test_the_phases_follow_one_another_and_add_up() -> None:
    k = running(
        hooks={"on_stop": [HookBody(1.0)], "on_exit": [HookBody(2.0)]},
        drain_delay=3.0,
        body=Body(leaves_after=4.0),
        helpers=Helpers(gone_after_term=0.5),
    )
    ask(k)
    stopped(k)
    expected = {
        "announce": 0.0,
        "on_stop": 1.0,
        "drain_delay": 3.0,
        "terminate": 4.0,
        "kill": 0.0,
        "helpers": 0.5,
        "on_exit": 2.0,
    }
    assert k.report["phases"] == pytest.approx(expected)
    assert list(k.report["phases"]) == list(expected)
    assert k.report["seconds"] == pytest.approx(sum(expected.values()))
    assert [n.fields["next"] for n in k.notes("stop.phase")] == [*list(expected)[1:], "done"]


def test_nobody_is_replaced_from_the_request_on() -> None:
    k = running(hooks={"on_stop": [HookBody(3.0)]})
    ask(k)
    k.wait(1)
    k.crash("a.0")
    stopped(k)
    assert k.times(Start) == []
    assert (farewell(k, "a.0")["code"], farewell(k, "a.0")["gone_after"]) == (1, 1.0)


def test_on_stop_hooks_have_ended_before_workers_are_told() -> None:
    k = running(hooks={"on_stop": [HookBody(2.0), HookBody(1.0)]})
    ask(k)
    stopped(k)
    assert k.times(Run)[:2] == [1060.0, 1062.0]
    assert k.times(Stop) == [1063.0]


def test_an_on_stop_hook_that_raises_is_passed_over() -> None:
    k = running(hooks={"on_stop": [HookBody(1.0, "ValueError"), HookBody(1.0)]})
    ask(k)
    assert (stopped(k).status, k.times(Stop)) == (0, [1062.0])


def test_an_on_stop_hook_that_hangs_costs_its_time_and_the_next_one_runs() -> None:
    k = running(hooks={"on_stop": [HANGS, HookBody(1.0)]}, hook_timeout=5.0)
    ask(k)
    assert (stopped(k).status, k.times(Stop)) == (0, [1066.0])
    assert [n.fields["index"] for n in k.notes("hook.timeout")] == [0]


@pytest.mark.parametrize("drain_delay", [0.0, 1.0, 100.0])
def test_hooks_and_delay_together_take_half_the_time_at_most(drain_delay: float) -> None:
    hooks = {"on_stop": [HANGS] * 9}
    k = running(hooks=hooks, stop_timeout=10.0, hook_timeout=4.0, drain_delay=drain_delay, body=DEAF)
    ask(k)
    stopped(k)
    assert (k.times(Stop), k.times(Kill)) == ([1065.0], [1070.0])


def test_a_long_delay_ends_at_half_the_time_or_when_nobody_is_left() -> None:
    k = running(stop_timeout=10.0, drain_delay=100.0)
    ask(k)
    k.wait(4.9)
    assert k.times(Stop) == []
    k.wait(0.1)
    assert k.times(Stop) == [1065.0]
    empty = running(stop_timeout=10.0, drain_delay=100.0)
    ask(empty)
    empty.wait(1)
    empty.crash("a.0")
    stopped(empty)
    assert (empty.now, empty.times(Stop)) == (1061.0, [])


def test_pools_are_told_in_reverse_order_of_their_start() -> None:
    k = running(pool("a"), pool("b"), pool("c"))
    ask(k)
    k.wait(0)
    assert [a.worker for _, a in k.log if isinstance(a, Stop)] == [3, 2, 1]


@pytest.mark.parametrize(("firmness", "replace"), [(RESTART, True), (STOP, False), (GAVE_UP, False)])
def test_workers_are_told_whether_a_successor_will_come(firmness: Firmness, replace: bool) -> None:
    k = running()
    ask(k, firmness)
    stopped(k)
    assert [a for _, a in k.log if isinstance(a, Stop)] == [Stop(1, replace)]
    assert farewell(k, "a.0")["code"] == (4 if replace else 0)


@pytest.mark.parametrize(("firmness", "status"), [(GAVE_UP, 6), (RESTART, 5), (STOP, 3)])
def test_who_does_not_leave_is_dumped_then_killed_at_the_deadline(firmness: Firmness, status: int) -> None:
    k = running(pool(workers=2), body=DEAF, stop_timeout=10.0)
    ask(k, firmness)
    stopped(k)
    assert (k.times(Dump), k.times(Kill)) == ([1069.7] * 2, [1070.0] * 2)
    assert (k.status, farewell(k, "a.1")["killed"], farewell(k, "a.1")["signal"]) == (status, True, "SIGKILL")
    assert phases(k)["terminate"] == 10.0


def test_a_pool_may_have_less_time_than_the_master_but_never_more() -> None:
    k = running(pool("a", stop_timeout=4.0), pool("b", stop_timeout=99.0), body=DEAF, stop_timeout=10.0)
    ask(k)
    stopped(k)
    assert k.times(Kill) == [1064.0, 1070.0]


def test_one_that_left_by_itself_at_the_last_moment_was_not_killed() -> None:
    k = running(body=Body(leaves_after=9.9), stop_timeout=10.0)
    ask(k)
    stopped(k)
    assert (k.times(Dump), k.times(Kill), k.status) == ([1069.7], [], 0)
    assert (farewell(k, "a.0")["killed"], farewell(k, "a.0")["code"]) == (False, 0)


def test_one_that_crashes_while_it_leaves_was_not_killed_by_us() -> None:
    k = running(body=Body(leaves_after=None, dies_after=62.0, dies_of=End(signal=SIGSEGV)))
    ask(k)
    stopped(k)
    assert (k.status, farewell(k, "a.0")["signal"], farewell(k, "a.0")["killed"]) == (0, "SIGSEGV", False)


def test_one_that_was_being_killed_already_is_not_given_until_a_later_deadline() -> None:
    k = running(pool(watchdog=4.0), body=Body(beats_for=70.0, leaves_after=None), stop_timeout=10.0)
    k.until(lambda: bool(k.times(Dump)))
    dumped = k.now
    ask(k)
    stopped(k)
    assert k.times(Kill) == [round(dumped + 0.3, 6)]


def test_a_stop_shorter_than_the_time_for_a_dump_still_kills_at_its_deadline() -> None:
    k = running(pool(watchdog=4.0), body=Body(beats_for=70.0, leaves_after=None), stop_timeout=0.1)
    k.until(lambda: bool(k.times(Dump)))
    dumped = k.now
    ask(k)
    stopped(k)
    assert k.times(Kill) == [round(dumped + 0.1, 6)]


def test_a_short_stop_with_an_unkillable_worker_does_not_spin() -> None:
    """The reminder after a second falls behind the deadline; the laws watch for the spin."""
    k = running(body=UNKILLABLE, stop_timeout=0.5)
    ask(k)
    assert stopped(k).status == 3


# -- acknowledgement -----------------------------------------------------------------


def test_who_has_not_acknowledged_after_a_second_is_named_once() -> None:
    bodies = [GOOD, Body(acknowledges_after=5.0, leaves_after=6.0), Body(acknowledges_after=0.5, leaves_after=6.0)]
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
def test_helpers_get_term_and_a_second_later_kill_and_are_no_cut_work(firmness: Firmness, status: int) -> None:
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
    assert phases(k)["helpers"] == 0.5


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
    assert (min(kills), len(kills)) == (pytest.approx(1061.1), pytest.approx(40, abs=1))
    assert (k.now, k.status) == (pytest.approx(1065.1), 0)


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
