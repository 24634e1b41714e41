"""A stop wins in every state, and only ever gets firmer."""

from __future__ import annotations

import pytest
from bodies import Body, Helpers, HookBody, pool
from kernel import Kernel, kernel
from scenes import (
    DEAF,
    FORCE,
    GAVE_UP,
    HANGS,
    RESTART,
    STOP,
    ask,
    left_after,
    running,
    stopped,
)

from supervisor.decide.actions import Dump, Kill, Run, Start, Stop, Sweep
from supervisor.decide.stopping import Firmness, Phase
from supervisor.settings import Backoff, Seconds

WAYS_DOWN = [GAVE_UP, RESTART, STOP]
ALL_PHASES = [phase for phase in Phase if phase is not Phase.DONE]
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
    k = running(
        hooks=SLOW, drain_delay=1.0, helpers=Helpers(gone_after_term=None), body=Body(leaves_after=2.0)
    )
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
    assert (k.status, left_after(k)["on_stop"]) == (0, 5.0)


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
