"""The stop, with real processes and real signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from program import Program

Start = Callable[..., Program]

WAITS = """
    def run(worker):
        worker.wait()
"""
TWO = """
    [pools.a]
    target = "app:run"
    workers = 2
"""
AT_WORK = TWO + 'ready = "notify"'  # else a stop may come before the target is called


def test_term_drains_and_exits_0(program: Start) -> None:
    """TERM: every worker acknowledges and leaves, exit 0, and the report tells it."""
    report = program(WAITS, TWO).ready().stop(0)
    assert report["reason"] == "SIGTERM"
    assert [w["worker"] for w in report["workers"]] == ["a.0", "a.1"]
    assert all(
        w["code"] == 0 and not w["killed"] and w["acknowledged_after"] is not None for w in report["workers"]
    )


def test_usr2_exits_4_and_workers_hear_that_a_successor_comes(program: Start) -> None:
    """USR2: the same stop, exit 4; workers leave with 4."""
    one = program(WAITS, TWO).ready()
    one.signal(signal.SIGUSR2)
    one.wait(4)
    assert [w["code"] for w in one.report()["workers"]] == [4, 4]


IGNORES = """
    import signal, time
    def run(worker):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        worker.ready()
        while True:
            time.sleep(60)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 3), (signal.SIGUSR2, 5)])
def test_a_worker_that_does_not_leave_is_killed_at_the_deadline(
    program: Start, number: int, status: int
) -> None:
    """KILL at the deadline, its stack in the log, exit 3 or 5."""
    one = program(IGNORES, AT_WORK, master='stop_timeout = "1s"').ready()
    one.signal(number)
    one.wait(status)
    report = one.report()
    assert all(w["killed"] and w["signal"] == "SIGKILL" for w in report["workers"])
    assert 0.9 < report["seconds"] < 2.5
    assert one.find("worker.killed")


def test_the_stack_of_a_straggler_is_in_the_log(program: Start) -> None:
    """The log says which line blocked the stop."""
    app = """
        import time
        def stubborn():
            time.sleep(60)
        def run(worker):
            worker.ready()
            stubborn()
            stubborn()
    """
    one = program(app, AT_WORK, master='stop_timeout = "1s"').ready()
    one.stop(3)
    stack = one.wait_for("worker.stack", worker="a.0")["stack"]
    assert "stubborn" in stack
    assert "app.py" in stack


def test_a_second_int_forces(program: Start) -> None:
    """INT is a graceful stop; a second one kills at once, exit 3."""
    one = program(IGNORES, AT_WORK).ready()
    one.signal(signal.SIGINT)
    one.wait_for("worker.stopping")
    os.kill(one.pid, signal.SIGINT)
    one.wait(3, timeout=5)
