"""Pools with a template: imported once, forked many times, and the template may die at any moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest
from preloaded import APP, imports, pool, template
from program import Program, wait_gone
from reloading import code, fails, hup, outcome, pids, serving, strength, works

Start = Callable[..., Program]


# -- what it is for -----------------------------------------------------------------------


def test_many_workers_at_once_from_one_import(program: Start) -> None:
    """Twenty, each the master's own child, in a session of its own; the code was read once."""
    one = program(APP, pool(20)).ready()
    assert imports(one) == 1
    for pid in pids(one).values():
        process = psutil.Process(pid)
        assert process.ppid() == one.pid
        assert os.getsid(pid) == os.getpgid(pid) == pid
    report = one.stop(0)
    assert len(report["workers"]) == 20
    assert {w["code"] for w in report["workers"]} == {0}
    assert all(w["acknowledged_after"] is not None for w in report["workers"])


def test_what_was_imported_is_shared(program: Start) -> None:
    """A heap of small objects costs each worker a fraction, also after collections of garbage."""
    app = """
        import gc
        HEAP = [{"number": n, "text": str(n)} for n in range(100_000)]
        def run(worker):
            for _ in range(3):
                gc.collect()
            worker.ready()
            worker.wait()
    """
    plain = '[pools.b]\ntarget = "app:run"\nworkers = 4\nready = "notify"\n'
    one = program(app, pool(4, 'ready = "notify"\n') + plain).ready()
    shared, alone = (sum(pss(pid) for pid in pids(one, name).values()) for name in "ab")
    one.stop(0)
    assert shared < alone / 2


def pss(pid: int) -> int:
    return int(psutil.Process(pid).memory_full_info().pss)


def test_hooks_of_workers_run_in_those_that_are_forked(program: Start) -> None:
    """Each in each worker; what the hooks' module did at its import was done once."""
    app = """
        import os
        from supervisor import on_worker_exit, on_worker_start, on_worker_stop
        print("imported by", os.getpid(), flush=True)
        def say(moment, worker):
            print(f"{moment} in {worker.id} {os.getpid()}", flush=True)
        @on_worker_start
        def start(worker):
            say("start", worker)
        @on_worker_stop
        def stop(worker):
            say("stop", worker)
        @on_worker_exit
        def leave(worker):
            say("exit", worker)
        def run(worker):
            worker.wait()
    """
    one = program(app, pool(2)).ready()
    moments = ("start", "stop", "exit")
    expected = [f"{moment} in {w} {pid}" for w, pid in pids(one).items() for moment in moments]
    imported = f"imported by {template(one)}"
    one.stop(0)
    assert sorted(one.noise) == sorted([*expected, imported])


def test_threads_that_the_import_began_are_warned_of(program: Start) -> None:
    """They are not there in the workers, and may have held a lock."""
    app = """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        def run(worker):
            worker.wait()
    """
    one = program(app, pool(2)).ready()
    warned = [e for e in one.events if e["event"] == "worker.error"]
    one.stop(0)
    assert [e["level"] for e in warned] == ["warning"]
    assert "1 thread when it was imported" in warned[0]["reason"]


# -- reloads ----------------------------------------------------------------------------


def test_a_reload_imports_the_new_code_once_and_lets_the_old_template_go(program: Start) -> None:
    one = program(APP, pool(3)).ready()
    old = template(one)
    code(one, APP + "\n    NEW = True\n")
    works(one)
    assert imports(one) == 2
    assert serving(one) == {"a.0": 2, "a.1": 2, "a.2": 2}
    wait_gone(old)
    os.kill(one.worker("a.0"), signal.SIGKILL)
    one.wait_for("worker.ready", since=one.mark(), worker="a.0", generation=2)
    assert imports(one) == 2
    one.stop(0)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("1 / 0\n", "ZeroDivisionError"),
        ("def run(worker:\n", "SyntaxError"),
        ("import os; os._exit(3)\n", "exit status 3"),
    ],
)
def test_code_that_does_not_import_leaves_the_old_generation(program: Start, broken: str, why: str) -> None:
    """Nobody was touched; and its template still gives new workers of the good code."""
    one = program(APP, pool(2)).ready()
    one.tracebacks_expected = True
    mark, before = one.mark(), pids(one)
    code(one, broken)
    assert why in fails(one)
    assert pids(one) == before
    assert min(strength(one, since=mark)) == 2
    mark = one.mark()
    os.kill(before["a.1"], signal.SIGKILL)
    one.wait_for("worker.ready", since=mark, worker="a.1", generation=1)
    assert imports(one) == 1
    one.stop(0)


# -- its boot -----------------------------------------------------------------------------


def test_a_boot_with_broken_code_goes_on_trying_and_says_why(program: Start) -> None:
    """In the log and in status; mended code comes up by itself."""
    one = program("1 / 0\n", pool(2))
    one.tracebacks_expected = True
    error = one.wait_for("worker.error")
    assert "ZeroDivisionError" in error["traceback"]
    failed = one.wait_for("inner.failed")
    assert "ZeroDivisionError" in failed["reason"]
    shown = one.status()["pools"]["a"]
    assert (shown["state"], shown["workers"]) == ("starting", [])
    assert shown["reason"].startswith("its template failed: exit status 1: ")
    assert "its template failed: exit status 1: " in one.cli("status").stdout
    code(one, APP)
    one.ready()
    assert "reason" not in one.status()["pools"]["a"]
    one.stop(0)


def test_an_import_that_hangs_is_ended_and_tried_again(program: Start) -> None:
    """After start_timeout, with the line of code where it hung in the log."""
    app = """
        import os, threading
        def hang():
            threading.Event().wait()
        if not os.path.exists("been"):
            open("been", "w").close()
            hang()
        def run(worker):
            worker.wait()
    """
    one = program(app, pool(2, 'start_timeout = "1s"\n'))
    stack = one.wait_for("inner.stack")
    assert "in hang" in stack["stack"]
    one.wait_for("inner.killed")
    one.ready().stop(0)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_stop_at_any_moment_of_a_boot_with_a_template(program: Start, number: int) -> None:
    """A little later each time: nobody is killed, nobody is left."""
    for delay in (*range(100, 240, 5), 20_000):
        one = program(APP, pool(6))
        one.read_until(lambda one=one: one.find("master.ready"), timeout=delay / 1000)
        one.process.send_signal(number)
        status = one.wait()
        if status == -number:  # before there was a master
            assert not one.events
            continue
        assert status == (0 if number == signal.SIGTERM else 4), one.log()
        assert not any(w["killed"] for w in one.report()["workers"])
    assert one.find("master.ready")


@pytest.mark.long
def test_a_stop_at_any_moment_of_a_reload_with_a_template(program: Start) -> None:
    """Both generations and both templates are gone, and nobody had to be killed."""
    for delay in (*range(0, 300, 25), 20_000):
        one = program(APP, pool(3)).ready()
        mark = hup(one)
        if delay == 20_000:
            outcome(one, mark)
        one.read_until(lambda one=one: one.find("reload.done"), timeout=delay / 1000)
        began = time.monotonic()
        report = one.stop(0)
        assert not any(w["killed"] for w in report["workers"]), one.log()
        assert time.monotonic() - began < 15
