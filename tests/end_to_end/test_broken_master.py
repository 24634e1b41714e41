"""The master meets a bug of its own, or a hook that takes what is the master's: no orphan pool.

The bugs are made by an on_start hook, which runs in the master's process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from program import Program

Start = Callable[..., Program]

CONFIG = """
    [hooks]
    on_start = "app:break_it"
    [pools.a]
    target = "app:run"
    workers = 2
    backoff = {initial = "10ms"}
"""


@pytest.mark.parametrize("error", ["RuntimeError('a bug')", "MemoryError()"])
def test_an_exception_in_the_loop_ends_in_an_ordered_stop(program: Start, error: str) -> None:
    """It is logged with its traceback, workers drain, hooks run, exit 1."""
    app = f"""
        from supervisor import on_exit
        from supervisor.decide.life import Life

        def break_it(context):
            def hush(self, on):
                raise {error}
            Life.hush = hush

        def run(worker):
            print("at work", flush=True)
            worker.wait()
            print(worker.id, "drained", flush=True)
    """
    one = program(app, CONFIG).ready()
    one.wait_until(lambda: one.noise.count("at work") == 2)
    one.tracebacks_expected = True
    one.signal(signal.SIGTSTP)
    one.wait(1)
    assert error.partition("(")[0] in one.wait_for("master.error")["traceback"]
    assert [(w["code"], w["killed"]) for w in one.report()["workers"]] == [(0, False)] * 2
    assert {"a.0 drained", "a.1 drained"} <= set(one.noise)
    assert (one.report()["reason"], one.report()["status"]) == ("internal error", 1)


def test_an_exception_before_the_fork_leaves_nobody_to_wait_for(program: Start) -> None:
    """The workers that were planned and never forked do not hold up the stop."""
    app = """
        from supervisor.master.births import Births

        def break_it(context):
            def fail(self, worker):
                raise MemoryError
            Births._birth = fail

        def run(worker):
            worker.wait()
    """
    one = program(app, CONFIG)
    one.tracebacks_expected = True
    one.wait(1)
    assert one.report()["seconds"] < 5, "far from stop_timeout"
    assert one.find("worker.started") is None


def test_a_master_that_cannot_even_stop_kills_its_workers_and_goes(program: Start) -> None:
    """An exception in every turn: no orphan pool is left; exit 1."""
    app = """
        from supervisor.decide.life import Life

        def break_it(context):
            def hush(self, on):
                Life.plan = hush
                raise RuntimeError("a bug in each turn")
            Life.hush = hush

        def run(worker):
            worker.wait()
    """
    one = program(app, CONFIG).ready()
    one.tracebacks_expected = True
    one.signal(signal.SIGTSTP)
    one.wait(1)
    assert sum(e["event"] == "master.error" for e in one.events) == 2
    one.orphans_end()


def test_a_hook_that_takes_the_exit_status_of_a_worker(program: Start) -> None:
    """waitpid(-1) in a hook's thread: the worker is replaced, and the log says what happened."""
    app = """
        import ctypes, psutil, sys

        def break_it(context):
            pass

        def steal(context):
            victim = psutil.Process().children()[0].pid
            libc = ctypes.PyDLL(None)  # keeps the interpreter's lock: the master must not be first
            sys.setswitchinterval(60)
            libc.kill(victim, 9)
            libc.waitpid(-1, None, 0)
            sys.setswitchinterval(0.005)

        def run(worker):
            worker.wait()
    """
    one = program(app, CONFIG.replace("[pools.a]", 'on_ready = "app:steal"\n    [pools.a]'))
    end = one.wait_for("worker.failed")
    assert "waitpid(-1)" in end["reason"]
    assert one.wait_for("worker.ready", since=one.events.index(end))["worker"] == end["worker"]
    one.stop(0)


def test_a_hook_that_leaves_a_thread_behind_is_warned_of(program: Start) -> None:
    """A fork beside other threads may copy their locks: said once, with their names."""
    app = """
        import threading

        def break_it(context):
            threading.Thread(target=threading.Event().wait, name="collector", daemon=True).start()

        def run(worker):
            worker.wait()
    """
    one = program(app, CONFIG).ready()
    one.stop(0)
    [warning] = [e for e in one.events if e["event"] == "master.warning"]
    assert "(collector)" in warning["reason"]
