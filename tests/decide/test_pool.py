"""One pool stays up: starts, readiness, heartbeats, and exits that nobody asked for."""

from __future__ import annotations

import pytest
from bodies import GOOD, SIGSEGV, Body, pool
from kernel import kernel
from scenes import (
    BACKOFF,
    DEAF,
    NEVER_READY,
    one,
    slots,
    up,
)

from supervisor.decide.actions import Dump, Kill, Start, Stop
from supervisor.decide.replacement import FORKS_AT_ONCE
from supervisor.decide.worker import State
from supervisor.exits import End

# -- coming up ---------------------------------------------------------------------


def test_every_slot_gets_one_worker() -> None:
    k = kernel(pool(workers=3))
    assert slots(k.wait(5)) == [0, 1, 2]
    assert (one(k).up, one(k).full, one(k).state, one(k).restarts) == (3, True, "ready", 0)


def test_a_large_pool_is_forked_in_portions_so_that_signals_are_served_in_between() -> None:
    k = kernel(pool(workers=FORKS_AT_ONCE * 2 + 1))
    k.until(lambda: one(k).crew.forking > 0)
    assert len(k.times(Start)) == FORKS_AT_ONCE
    k.wait(1)
    assert one(k).up == FORKS_AT_ONCE * 2 + 1


def test_a_worker_is_numbered_by_its_slot_and_a_replacement_takes_it_over() -> None:
    k = up(workers=3)
    k.crash("a.1")
    assert slots(k.wait(0)) == [1]
    assert k.worker("a.1").id == 4
    assert one(k).slots[1].restarts == one(k).restarts == 1


def test_a_pool_of_no_workers_is_at_strength() -> None:
    k = kernel(pool(workers=0))
    assert slots(k.wait(5)) == []
    assert (one(k).full, k.life.was_ready) == (True, True)


def test_a_worker_that_is_not_ready_in_time_is_dumped_then_killed_then_replaced() -> None:
    bodies = iter([NEVER_READY, GOOD])
    k = kernel(pool(start_timeout=5.0, backoff=BACKOFF), bodies=lambda _: next(bodies))
    k.wait(20)
    assert (k.times(Dump), k.times(Kill), k.times(Start)) == ([1005.0], [1005.3], [1000.0, 1006.3])
    [killed], [failed] = k.notes("worker.killed"), k.notes("worker.failed")
    assert killed.fields["reason"] == "not ready in 5.0 s"
    assert failed.fields["reason"] == "SIGKILL by supervisord-lite: not ready in 5.0 s"


def test_the_time_to_become_ready_counts_from_before_the_fork() -> None:
    k = kernel(pool(start_timeout=5.0), body=NEVER_READY)
    k.until(lambda: one(k).crew.forking > 0)
    k.now += 3.0  # so long did the fork take
    k.turn()
    assert k.life.deadline() == 1005.0


def test_a_worker_may_ask_for_more_time_to_become_ready_but_never_for_less() -> None:
    k = kernel(pool(start_timeout=5.0), body=NEVER_READY)
    k.wait(4)
    one(k).extended(1, 3.0, k.now)
    one(k).extended(1, 0.5, k.now)
    k.wait(2.9)
    assert k.times(Dump) == []
    k.wait(1)
    assert k.times(Dump) == [1007.0]


def test_more_time_is_refused_to_one_that_is_ready_or_being_killed() -> None:
    k = up(body=Body(dies_of_kill_after=None), watchdog=4.0)
    one(k).extended(1, 500.0, k.now)
    assert (one(k).deadline() or 0) <= k.now + 4.0
    late = kernel(pool(start_timeout=5.0), body=NEVER_READY)
    late.wait(5)
    one(late).extended(1, 500.0, late.now)
    late.wait(1)
    assert late.times(Kill) == [1005.3]


def test_a_worker_that_is_being_killed_cannot_become_ready_any_more() -> None:
    k = kernel(pool(start_timeout=5.0), body=NEVER_READY)
    k.wait(5)
    one(k).ready(1, k.now)
    assert (one(k).up, k.worker("a.0").ready_at) == (0, None)


# -- leaving unasked ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "end", "lived", "delay"),
    [
        ("always", End(code=0), 5.0, 1.0),
        ("always", End(code=0), 10.0, 0.0),
        ("always", End(code=1), 5.0, 1.0),
        ("always", End(code=1), 10.0, 0.0),
        ("always", End(code=4), 5.0, 0.0),
        ("always", End(signal=SIGSEGV), 5.0, 1.0),
        ("on-failure", End(code=0), 5.0, None),
        ("on-failure", End(code=0), 10.0, None),
        ("on-failure", End(code=4), 5.0, 0.0),
        ("on-failure", End(code=1), 5.0, 1.0),
        ("never", End(code=1), 5.0, None),
        ("never", End(signal=SIGSEGV), 10.0, None),
    ],
)
def test_when_a_worker_is_replaced(restart: str, end: End, lived: float, delay: float | None) -> None:
    bodies = iter([Body(ready_after=0.0, dies_after=lived, dies_of=end)])
    k = kernel(pool(restart=restart, backoff=BACKOFF), bodies=lambda _: next(bodies, GOOD))
    k.wait(60)
    again = [] if delay is None else [1000.0 + lived + delay]
    assert k.times(Start) == [1000.0, *again]
    assert one(k).slots.finished == (delay is None)
    assert one(k).full


def test_a_worker_that_never_was_ready_did_not_live_however_long_it_took() -> None:
    k = kernel(pool(backoff=BACKOFF), body=Body(ready_after=None, dies_after=20.0))
    k.wait(70)
    assert k.times(Start) == [1000.0, 1021.0, 1043.0, 1067.0]


def test_a_loop_of_replace_me_is_slowed_down_after_the_first() -> None:
    k = kernel(pool(backoff=BACKOFF), body=Body(ready_after=0.0, dies_after=1.0, dies_of=End(code=4)))
    k.wait(12)
    assert k.times(Start) == [1000.0, 1001.0, 1003.0, 1006.0, 1011.0]
    assert all(note.fields["planned"] for note in k.notes("worker.exited"))


def test_a_failed_fork_waits_like_a_failure_but_is_not_held_against_the_program() -> None:
    bodies = iter([Body(fork_works=False)] * 3)
    k = kernel(pool(max_restarts=0, backoff=BACKOFF), bodies=lambda _: next(bodies, GOOD))
    k.wait(60)
    assert k.times(Start) == [1000.0, 1001.0, 1003.0, 1007.0]
    assert (one(k).parked, one(k).full) == (False, True)
    assert k.notes("worker.failed")[0].fields["reason"] == "fork: Resource temporarily unavailable"


def test_a_failed_fork_does_not_use_up_the_one_life_of_restart_never() -> None:
    bodies = iter([Body(fork_works=False)])
    k = kernel(pool(restart="never", backoff=BACKOFF), bodies=lambda _: next(bodies, GOOD))
    k.wait(10)
    assert (one(k).up, one(k).slots.finished) == (1, 0)


def test_a_death_by_a_stranger_is_told_as_such() -> None:
    k = up()
    k.ends(1, End(signal=9))
    k.turn()
    [note] = k.notes("worker.failed")
    assert note.fields["reason"] == "SIGKILL, not sent by supervisord-lite: out of memory?"
    assert (note.fields["planned"], note.fields["signal"], note.fields["code"]) == (False, "SIGKILL", None)


# -- heartbeats --------------------------------------------------------------------


def test_a_worker_that_stops_beating_is_dumped_then_killed_then_replaced_at_once() -> None:
    k = kernel(pool(watchdog=4.0, backoff=BACKOFF), body=Body(beats_for=20.0))
    k.wait(30)
    assert (k.times(Dump), k.times(Kill)) == ([1022.1], [1022.4])
    assert k.times(Start) == [1000.0, 1022.4]
    assert k.notes("worker.killed")[0].fields["reason"] == "no heartbeat for 4.0 s"


def test_a_worker_that_beats_is_left_alone() -> None:
    k = up(watchdog=4.0)
    k.wait(100)
    assert k.times(Dump) == []


def test_a_master_that_could_not_listen_holds_nothing_against_its_workers() -> None:
    bodies = iter([GOOD, NEVER_READY])
    k = kernel(pool(workers=2, watchdog=4.0, start_timeout=5.0), bodies=lambda _: next(bodies, GOOD))
    k.wait(3)
    k.now += 100.0
    k.life.thawed(k.now)
    k.turn()
    assert k.times(Dump) == []
    k.wait(6)
    assert k.times(Dump) == [1108.0], "the clocks run on from there"


def test_thawing_takes_no_time_from_a_worker_that_had_been_given_more() -> None:
    k = kernel(pool(start_timeout=5.0), body=NEVER_READY)
    k.wait(1)
    one(k).extended(1, 100.0, k.now)
    k.life.thawed(k.now)
    k.wait(99.9)
    assert k.times(Dump) == []


def test_thawing_saves_nobody_whose_heart_had_stopped_before() -> None:
    k = kernel(pool(watchdog=4.0), body=Body(beats_for=20.0))
    k.until(lambda: bool(k.times(Dump)))
    k.life.thawed(k.now)
    k.wait(1)
    assert k.times(Kill) == [1022.4]


def test_thawing_saves_nobody_who_is_already_being_killed() -> None:
    k = kernel(pool(start_timeout=5.0), body=NEVER_READY)
    k.wait(5)
    k.life.thawed(k.now)
    k.wait(1)
    assert k.times(Kill) == [1005.3]


# -- asked by somebody else --------------------------------------------------------


def test_a_worker_told_to_go_by_hand_has_the_pools_time_to_do_so_then_is_killed() -> None:
    bodies = iter([Body(leaves_after=None)])
    k = kernel(pool(stop_timeout=8.0, backoff=BACKOFF), bodies=lambda _: next(bodies, GOOD))
    k.wait(20)
    k.told_to_leave(1, 0)
    k.wait(20)
    assert (k.times(Stop), k.times(Dump), k.times(Kill)) == ([], [1027.7], [1028.0])
    assert k.notes("worker.killed")[0].fields["reason"] == "did not stop in 8.0 s"
    assert one(k).full


def test_a_worker_told_by_hand_to_be_replaced_is_replaced_at_once() -> None:
    k = kernel(pool(backoff=BACKOFF), body=Body(leaves_after=2.0))
    k.wait(1)
    k.told_to_leave(1, 4)
    k.wait(1)
    assert (k.worker("a.0").state, one(k).up, one(k).state) == (State.STOPPING, 0, "degraded")
    k.wait(10)
    assert k.times(Start) == [1000.0, 1003.0]
    assert k.notes("worker.exited")[0].fields["planned"] is True


def test_a_stop_by_hand_and_a_stop_by_the_master_end_at_the_earlier_deadline() -> None:
    k = kernel(pool(workers=2, stop_timeout=8.0), body=DEAF)
    k.wait(20)
    one(k).acknowledged(2, k.now)
    k.wait(5)
    k.life.resize(one(k), 1, k.now)
    k.wait(20)
    assert k.times(Kill) == [1028.0]
