"""Workers die, hang and leave, and their slots are filled again: exits, signals, policies, limits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import pairwise

import pytest
from program import Event, Program

Start = Callable[..., Program]

WAITS = """
    def run(worker):
        worker.wait()
"""
# The first life of the pool ends as `leave` says, the second waits.
ONCE = """
    import ctypes, os, signal, sys

    def leave(how):
        if how == "segfault":
            ctypes.string_at(0)
        if how == "raise":
            raise ValueError("the reason")
        if how == "sys.exit":
            sys.exit(4)
        os._exit(how)

    def run(worker):
        try:
            os.mkdir("been")
        except FileExistsError:
            worker.wait()
        else:
            leave(worker.options["how"])
"""
QUICK = 'backoff = {initial = "10ms", max = "80ms"}'


def pool(more: str = "", workers: int = 1) -> str:
    return f'[pools.a]\ntarget = "app:run"\nworkers = {workers}\n{QUICK}\n{more}\n'


def exits(one: Program, worker: str = "a.0") -> list[Event]:
    ends = ("worker.exited", "worker.failed")
    return [e for e in one.events if e["event"] in ends and e["worker"] == worker]


def test_killed_workers_are_replaced_in_their_slots_and_explained(program: Start) -> None:
    """After kill -9 of all: each slot is filled anew, the log names signal, suspicion and last status."""
    app = """
        def run(worker):
            worker.status(f"job {worker.slot}")
            worker.wait()
    """
    one = program(app, pool(workers=3)).ready()
    names = ["a.0", "a.1", "a.2"]
    before = {name: one.worker(name) for name in names}
    one.wait_until(lambda: all(w["status"] for w in one.status()["pools"]["a"]["workers"]))
    mark = one.mark()
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    for name in names:
        end = one.wait_for("worker.failed", since=mark, worker=name)
        assert (end["signal"], end["code"], end["planned"], end["pid"]) == (
            "SIGKILL",
            None,
            False,
            before[name],
        )
        assert end["reason"] == "SIGKILL, not sent by supervisord-lite: out of memory?"
        assert end["last_status"] == f"job {name[-1]}"
        assert one.wait_for("worker.ready", since=mark, worker=name)["pid"] != before[name]
    workers = one.status()["pools"]["a"]["workers"]
    assert [w["restarts"] for w in workers] == [1, 1, 1]
    assert {w["last_exit"]["signal"] for w in workers} == {"SIGKILL"}
    one.stop(0)


@pytest.mark.parametrize(
    ("how", "event", "reason"),
    [
        (0, "worker.failed", "exit status 0"),
        (1, "worker.failed", "exit status 1"),
        (4, "worker.exited", "exit status 4"),
        ('"sys.exit"', "worker.exited", "exit status 4"),
        ('"raise"', "worker.failed", "exit status 1: app:run raised: ValueError: the reason"),
        ('"segfault"', "worker.failed", "SIGSEGV, not sent by supervisord-lite"),
    ],
)
def test_an_exit_that_nobody_asked_for(program: Start, how: object, event: str, reason: str) -> None:
    """4 is planned and replaced at once; 0, 1 and a crash are failures and wait; each is replaced."""
    one = program(ONCE, pool(f"options = {{how = {how}}}"))
    one.tracebacks_expected = how == '"raise"'
    end = one.wait_for(event)
    assert end["reason"] == reason
    planned = event == "worker.exited"
    assert end["planned"] is planned
    assert (end["delay"] == 0) is planned
    one.wait_for("worker.ready", pid=one.wait_for("worker.started", since=one.events.index(end))["pid"])
    if how == '"raise"':
        assert "the reason" in one.wait_for("worker.error")["traceback"]
    if how == '"segfault"':
        one.wait_for_line("Segmentation fault")  # and where, from faulthandler
    one.stop(0)


def test_backoff_doubles_up_to_its_cap(program: Start) -> None:
    """Each quick failure doubles the delay, less up to a quarter of jitter, and never above max."""
    one = program("def run():\n    raise SystemExit(1)\n", pool())
    mark = 0
    for whole in (0.01, 0.02, 0.04, 0.08, 0.08, 0.08):
        end = one.wait_for("worker.failed", since=mark)
        assert 0.75 * whole - 1e-6 <= end["delay"] <= whole + 1e-6
        mark = one.events.index(end) + 1
    assert one.find("master.ready") or one.find("worker.ready")
    one.stop(0)


def test_a_loop_of_replace_me_is_slowed_down(program: Start) -> None:
    """The first early exit 4 is taken at its word; the next ones wait longer and longer."""
    one = program("def run():\n    raise SystemExit(4)\n", pool())
    one.wait_until(lambda: len(exits(one)) >= 5)
    delays = [end["delay"] for end in exits(one)[:5]]
    assert delays[0] == 0
    assert all(before < after for before, after in pairwise(delays))
    assert all(end["planned"] for end in exits(one))
    one.stop(0)


def test_a_pool_that_keeps_failing_is_parked(program: Start) -> None:
    """After max_restarts failures the pool rests, the others go on, and scale revives it."""
    app = """
        def run(worker):
            worker.wait()
        def broken():
            raise SystemExit(1)
    """
    config = pool() + f'[pools.b]\ntarget = "app:broken"\nready = "notify"\nmax_restarts = 2\n{QUICK}\n'
    one = program(app, config)
    one.wait_for("pool.parked", pool="b")
    one.wait_until(lambda: len(exits(one, "b.0")) == 3)
    assert [end["delay"] is None for end in exits(one, "b.0")] == [False, False, True]
    status = one.status()
    assert (status["state"], status["pools"]["b"]["state"]) == ("starting", "parked")
    assert status["pools"]["a"]["ready"] == 1
    mark = one.mark()
    one.client().call("scale", pool="b", workers=1)
    one.wait_for("worker.started", since=mark, worker="b.0")
    one.stop(0)


def test_a_pool_that_gives_up_ends_the_master_with_6(program: Start) -> None:
    """on_give_up = "exit": everything is stopped in order, and the status says why."""
    app = """
        def run(worker):
            worker.wait()
        def broken():
            raise SystemExit(1)
    """
    config = pool() + f'[pools.b]\ntarget = "app:broken"\nmax_restarts = 1\non_give_up = "exit"\n{QUICK}\n'
    one = program(app, config)
    one.wait(6)
    assert (one.report()["reason"], one.report()["status"]) == ("gave up", 6)
    assert [w["code"] for w in one.report()["workers"] if w["worker"] == "a.0"] == [0]


@pytest.mark.parametrize(("policy", "finished"), [("on-failure", [0]), ("never", [0, 1, 4, 9])])
def test_a_slot_that_is_not_to_be_restarted_is_finished(
    program: Start, policy: str, finished: list[int]
) -> None:
    """on-failure: an exit 0 ends the slot; never: every exit does; a finished slot is not missing."""
    app = """
        import os, signal
        def run(worker):
            status = worker.options["ends"][worker.slot]
            if status == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            raise SystemExit(status)
    """
    more = f'restart = "{policy}"\noptions = {{ends = {finished}}}'
    one = program(app, pool(more, workers=len(finished)))
    one.wait_until(lambda: sum(len(exits(one, f"a.{slot}")) for slot in range(4)) == len(finished))
    one.ready()
    status = one.status()
    assert status["pools"]["a"]["state"] == "ready"
    assert one.stop(0)["workers"] == []


def test_on_failure_restarts_failures(program: Start) -> None:
    """on-failure: an exit 1 is replaced."""
    one = program(ONCE, pool('restart = "on-failure"\noptions = {how = 1}'))
    failed = one.wait_for("worker.failed", code=1)
    one.wait_for("worker.started", since=one.events.index(failed))
    one.stop(0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR2, 4), (signal.SIGTERM, 0)])
def test_a_worker_asked_by_hand_drains_and_is_replaced(program: Start, number: int, code: int) -> None:
    """kill -USR2 WORKER and kill -TERM WORKER: it acknowledges, finishes, leaves, a new one comes."""
    one = program(WAITS, pool()).ready()
    mark, pid = one.mark(), one.worker("a.0")
    os.kill(pid, number)
    one.wait_for("worker.acknowledged", since=mark, pid=pid)
    one.wait_until(lambda: exits(one))
    end = exits(one)[0]
    assert (end["code"], end["signal"], end["pid"]) == (code, None, pid)
    assert end["planned"] is (code == 4)
    assert one.wait_for("worker.ready", since=mark)["pid"] != pid
    one.stop(0)


def test_quit_to_a_worker_ends_it_at_once(program: Start) -> None:
    """QUIT is os._exit, also where the target ignores a stop; INT and HUP are nothing to it."""
    app = """
        import time
        def run(worker):
            while True:
                time.sleep(60)
    """
    one = program(app, pool()).ready()
    pid = one.worker("a.0")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(pid, number)
    assert one.wait_for("worker.failed", pid=pid)["code"] == 128 + signal.SIGQUIT
    one.signal(signal.SIGQUIT)
    one.wait(3)
