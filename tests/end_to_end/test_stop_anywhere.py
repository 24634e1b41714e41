"""TERM wins in every phase of the master's life, and so does INT."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program

pytestmark = pytest.mark.long

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


def check_stopped(one: Program, *, told: int | None = None) -> None:
    """Exit 0 with a report in which nobody was killed."""
    one.wait(0)
    report = one.report()
    assert not any(w["killed"] for w in report["workers"]), one.log()
    assert told is None or len(report["workers"]) == told


# -- the boot ---------------------------------------------------------------------

DELAYS = [*range(0, 200, 5), *range(200, 401, 20), 20_000]  # milliseconds, or until it is ready


def pythons_own(one: Program) -> bool:
    """Until `main` gives it back, SIGINT is Python's to answer: with a traceback, or not at all."""
    text = "\n".join(one.noise)
    before_main = "Fatal Python error: init" in text  # 3.13 turns it into another exception then
    one.tracebacks_expected = before_main or (
        "KeyboardInterrupt" in text and not re.search(r"supervisor/(cli/run|boot)", text)
    )
    return one.tracebacks_expected


def interrupt_again_if_lost(one: Program) -> None:
    """Python raises KeyboardInterrupt also where exceptions are ignored: then it is gone."""
    one.read_until(lambda: one.find("master.stopping") or (one.find("master.ready") and one.noise))
    if pythons_own(one) and one.find("master.ready"):
        one.process.send_signal(signal.SIGINT)


def check_nothing_was_made(one: Program) -> None:
    assert not one.events
    assert not one.socket.exists()
    assert not one.pidfile.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_at_any_moment_of_the_boot(program: Start, number: int) -> None:
    """52 starts, each stopped a little later: ended before anything was made, or exit 0 with a report."""
    for delay in DELAYS:
        one = program(WAITS, TWO)
        one.read_until(lambda one=one: one.find("master.ready"), timeout=delay / 1000)
        one.process.send_signal(number)
        if number == signal.SIGINT:
            interrupt_again_if_lost(one)
        code = one.wait()
        if code == -number or (code == 1 and pythons_own(one)):
            check_nothing_was_made(one)
        else:
            check_stopped(one)
    assert one.process.returncode == 0


def test_usr2_during_the_boot_is_a_restart_like_any_other(program: Start) -> None:
    """USR2 before the first worker is ready: no second pool, exit 4."""
    one = program("print('importing', flush=True)\nimport threading\nthreading.Event().wait()", TWO)
    one.wait_for_line("importing")
    one.signal(signal.SIGUSR2)
    one.wait(4)
    assert one.find("master.ready") is None
    assert len([e for e in one.events if e["event"] == "worker.started"]) <= 2


def test_term_while_200_workers_are_forked(program: Start) -> None:
    """The forks stop, those that were made leave, nobody has to be killed."""
    one = program(WAITS, '[pools.a]\ntarget = "app:run"\nworkers = 200')
    one.wait_for("worker.started")
    one.stop(0)
    check_stopped(one)
    assert one.find("master.ready") is None
    last_start = max(i for i, e in enumerate(one.events) if e["event"] == "worker.started")
    told = next(i for i, e in enumerate(one.events) if e["event"] == "stop.phase")
    assert last_start < told + 200


# -- workers that are not up -------------------------------------------------------


def test_term_while_workers_import(program: Start) -> None:
    """An import that never ends holds nothing up: no application code has begun."""
    app = """
        import threading
        print("importing", flush=True)
        threading.Event().wait()
        def run(worker): ...
    """
    one = program(app, '[pools.a]\ntarget = "app:run"')
    one.wait_for_line("importing")
    one.stop(0)
    check_stopped(one, told=1)


def test_term_before_ready(program: Start) -> None:
    """A worker that has not said READY is told to stop like any other."""
    one = program(WAITS, TWO + 'ready = "notify"')
    one.wait_for("worker.started", worker="a.1")
    one.stop(0)
    check_stopped(one, told=2)
    assert one.find("master.ready") is None


def test_term_in_backoff(program: Start) -> None:
    """A worker that waits for its next try is not waited for."""
    app = """
        import sys
        def run(worker):
            sys.exit(7)
    """
    one = program(app, TWO + 'backoff = {initial = "1h", max = "1h"}')
    one.wait_for("worker.failed", worker="a.0")
    one.wait_for("worker.failed", worker="a.1")
    one.stop(0)
    check_stopped(one, told=0)


def test_term_in_a_crash_loop(program: Start) -> None:
    """Workers that fail as fast as they start do not keep a stop from ending."""
    app = """
        import sys
        def run(worker):
            sys.exit(7)
    """
    one = program(app, TWO + 'backoff = {initial = "1ms", max = "1ms"}')
    one.read_until(lambda: sum(e["event"] == "worker.failed" for e in one.events) >= 20)
    one.stop(0)
    check_stopped(one)


# -- hooks that hang ------------------------------------------------------------------

HANGS = """
    import threading
    def hang(context):
        print("hook hangs", flush=True)
        threading.Event().wait()
    def run(worker):
        worker.wait()
"""


@pytest.mark.parametrize("moment", ["on_start", "on_ready", "on_stop", "on_exit"])
def test_term_while_a_hook_of_the_master_hangs(program: Start, moment: str) -> None:
    """It costs at most hook_timeout, is told by name, and changes no exit status."""
    config = TWO + f'[hooks]\n{moment} = "app:hang"'
    one = program(HANGS, config, master='hook_timeout = "1s"\nstop_timeout = "10s"')
    if moment in ("on_stop", "on_exit"):
        one.ready().signal(signal.SIGTERM)
    one.wait_for_line("hook hangs")
    one.signal(signal.SIGTERM)
    check_stopped(one)
    assert one.find("hook.timeout", hook="app:hang")
    assert one.report()["seconds"] < 5


def test_term_while_a_module_of_hooks_is_imported(program: Start, tmp_path: Path) -> None:
    """An import that never ends takes at most half of stop_timeout."""
    (tmp_path / "slow.py").write_text("import threading\nprint('slow', flush=True)\nthreading.Event().wait()")
    one = program(WAITS, TWO + '[hooks]\nimport = ["slow"]', master='stop_timeout = "2s"')
    one.wait_for_line("slow")
    one.stop(0)
    check_stopped(one, told=0)
    assert one.report()["seconds"] < 4


# -- later ----------------------------------------------------------------------------


def test_term_during_drain_delay_makes_a_restart_a_stop(program: Start) -> None:
    """USR2 waits out its drain_delay; TERM meanwhile decides the exit status, and adds no second delay."""
    one = program(WAITS, TWO, master='drain_delay = "1s"\nstop_timeout = "20s"').ready()
    one.signal(signal.SIGUSR2)
    one.wait_for("stop.phase", next="drain_delay")
    one.signal(signal.SIGTERM)
    check_stopped(one, told=2)
    assert one.report()["reason"] == "SIGTERM"
    assert 0.9 < one.report()["phases"]["drain_delay"] < 5


def test_term_while_quiet(program: Start) -> None:
    """A quiet program stops like any other."""
    one = program(WAITS, TWO).ready()
    one.signal(signal.SIGTSTP)
    one.wait_for("master.quiet")
    one.stop(0)
    check_stopped(one, told=2)


def test_term_while_a_worker_is_stopped(program: Start) -> None:
    """CONT follows every stop signal, so a worker in state T leaves by itself, long before the deadline."""
    one = program(WAITS, TWO).ready()
    os.kill(one.worker("a.0"), signal.SIGSTOP)
    one.stop(0)
    check_stopped(one, told=2)
    assert one.report()["seconds"] < 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_stop_that_waits_while_the_master_is_stopped(program: Start, number: int) -> None:
    """Pending until CONT, then an ordered stop."""
    one = program(WAITS, TWO).ready()
    one.signal(signal.SIGSTOP, number, signal.SIGCONT)
    one.wait(4 if number == signal.SIGUSR2 else 0)
    assert not any(w["killed"] for w in one.report()["workers"])


@pytest.mark.parametrize("frozen", [0.9, 2.5])
def test_a_master_that_was_frozen_kills_nobody(program: Start, frozen: float) -> None:
    """Stopped for longer than the watchdog it could hear no heartbeat: nobody is blamed, TERM works after."""
    app = """
        def run(worker):
            while not worker.wait(0.05):
                worker.beat()
    """
    one = program(app, '[pools.a]\ntarget = "app:run"\nworkers = 30\nwatchdog = "600ms"').ready()
    one.signal(signal.SIGSTOP)
    one.read_until(lambda: False, timeout=frozen)
    one.signal(signal.SIGCONT)
    one.read_until(lambda: one.find("worker.killed"), timeout=1.5)
    one.signal(signal.SIGSTOP, signal.SIGTERM)
    one.read_until(lambda: False, timeout=1.5)
    one.signal(signal.SIGCONT)
    check_stopped(one, told=30)
    assert one.find("worker.killed") is None
    assert one.find("worker.failed") is None


def test_a_worker_that_hangs_is_still_found_after_a_freeze(program: Start) -> None:
    """What a freeze forgives is the freeze, not the silence after it."""
    app = """
        import threading
        def run(worker):
            worker.beat()
            print("silent", flush=True)
            threading.Event().wait()
    """
    one = program(
        app, '[pools.a]\ntarget = "app:run"\nwatchdog = "2s"\n', master='stop_timeout = "1s"'
    ).ready()
    one.wait_for_line("silent")
    one.signal(signal.SIGSTOP)
    one.read_until(lambda: False, timeout=3.5)
    one.signal(signal.SIGCONT)
    one.wait_for("worker.killed", worker="a.0")
    one.signal(signal.SIGQUIT)
    one.wait(3)
