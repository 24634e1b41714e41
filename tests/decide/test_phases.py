"""The way down, phase by phase: hooks, delay, telling, and killing at the one deadline."""

from __future__ import annotations

import pytest
from bodies import SIGSEGV, Body, Helpers, HookBody, pool
from scenes import (
    DEAF,
    GAVE_UP,
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

from supervisor.decide.actions import Dump, Kill, Run, Start, Stop
from supervisor.decide.stopping import Firmness
from supervisor.exits import End


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
    assert left_after(k)["terminate"] == 10.0


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


def test_a_master_that_slept_over_the_deadline_still_dumps_before_it_kills() -> None:
    k = running(body=DEAF, stop_timeout=10.0)
    ask(k)
    k.wait(1)
    k.freeze(100.0)
    assert (k.times(Dump), k.times(Kill)) == ([1161.0], [])
    stopped(k)
    assert k.times(Kill) == [1161.001]
