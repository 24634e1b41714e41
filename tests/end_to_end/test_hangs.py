"""Workers that hang: before they are ready, between heartbeats, when asked to leave."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from program import Program

Start = Callable[..., Program]
QUICK = 'backoff = {initial = "10ms", max = "80ms"}'


def pool(more: str = "", name: str = "a", target: str = "run") -> str:
    return f'[pools.{name}]\ntarget = "app:{target}"\n{QUICK}\n{more}\n'


IMPORT_HANGS = """
    import os, time
    def wedged():
        time.sleep(60)
    if "SUPERVISOR_WORKER" in os.environ:
        wedged()
    def run():
        pass
"""
NEVER_SAYS_READY = """
    import time
    def wedged():
        time.sleep(60)
    def run():
        wedged()
"""


@pytest.mark.parametrize(
    ("app", "more"),
    [(IMPORT_HANGS, ""), (NEVER_SAYS_READY, 'ready = "notify"')],
    ids=["import hangs", "READY=1 never comes"],
)
def test_a_worker_that_does_not_become_ready_is_killed(program: Start, app: str, more: str) -> None:
    """start_timeout: its stack is logged, it is killed, counted as a failure, and tried again."""
    one = program(app, pool(f'start_timeout = "500ms"\n{more}'))
    pid = one.wait_for("worker.started")["pid"]
    stack = one.wait_for("worker.stack", pid=pid)["stack"]
    assert "wedged" in stack
    assert "app.py" in stack
    end = one.wait_for("worker.failed", pid=pid)
    assert end["signal"] == "SIGKILL"
    assert end["reason"].startswith("SIGKILL by supervisord-lite: not ready in ")
    assert end["delay"] > 0
    one.wait_for("worker.started", since=one.events.index(end))
    assert one.find("master.ready") is None
    one.signal(signal.SIGQUIT)
    one.wait(3)


def test_a_worker_may_ask_for_more_time_to_become_ready(program: Start) -> None:
    """EXTEND_TIMEOUT_USEC before readiness moves start_timeout."""
    app = """
        import os, socket
        def run(worker):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(b"EXTEND_TIMEOUT_USEC=60000000", os.environ["NOTIFY_SOCKET"])
            worker.wait(1)
            worker.ready()
            worker.wait()
    """
    one = program(app, pool('start_timeout = "500ms"\nready = "notify"')).ready()
    assert one.find("worker.failed") is None
    one.stop(0)


def test_the_watchdog_replaces_only_who_is_silent(program: Start) -> None:
    """No beat: stack, KILL, a new one.  Who beats while busy lives, and so does who waits."""
    app = """
        import time
        def wedged():
            time.sleep(60)
        def silent():
            wedged()
        def busy(worker):
            while not worker.stopping:
                worker.beat()
        def waiting(worker):
            worker.wait()
        async def awaiting(worker):
            await worker.stopped()
    """
    beats = 'watchdog = "1s"'
    names = ("silent", "busy", "waiting", "awaiting")
    one = program(app, "".join(pool(beats, name, name) for name in names))
    one.ready()
    for _ in range(2):
        pid = one.worker("silent.0")
        assert "wedged" in one.wait_for("worker.stack", pid=pid)["stack"]
        assert "no heartbeat for " in one.wait_for("worker.failed", pid=pid, signal="SIGKILL")["reason"]
        one.wait_for("worker.ready", since=one.mark(), pool="silent")
    failed = {e["worker"] for e in one.events if e["event"] == "worker.failed"}
    assert failed == {"silent.0"}
    one.signal(signal.SIGQUIT)
    one.wait(3)


def test_a_worker_that_holds_the_interpreter_in_c_is_told_from_its_stack(program: Start) -> None:
    """Its threads cannot run, so nothing answers a signal: the watchdog ends it, and says where it was."""
    app = """
        import re
        def in_c():
            re.match("(a+)+$", "a" * 60 + "b")  # years, and it keeps the interpreter's lock
        def run(worker):
            in_c()
    """
    one = program(app, pool('watchdog = "1s"')).ready()
    assert "in_c" in one.wait_for("worker.stack")["stack"]
    failed = one.wait_for("worker.failed", signal="SIGKILL")
    one.wait_for("worker.ready", since=one.events.index(failed))
    one.signal(signal.SIGQUIT)
    one.wait(3)


def test_a_frozen_master_does_not_blame_its_workers(program: Start) -> None:
    """SIGSTOP of the master for longer than the watchdog: when it goes on, nobody is killed."""
    app = """
        import os, signal
        def run(worker):
            worker.wait()
        def thaws(worker):
            worker.wait(2.5)  # longer than the watchdog
            os.kill(os.getppid(), signal.SIGCONT)
            worker.wait(1.2)  # and once more, so that a late judgement would be seen
            worker.ready()
            worker.wait()
    """
    one = program(app, pool('watchdog = "1s"') + pool('ready = "notify"', "b", "thaws"))
    one.wait_for("worker.ready", pool="a")
    one.wait_for("worker.started", pool="b")
    one.signal(signal.SIGSTOP)
    one.ready().stop(0)
    assert not [e for e in one.events if e["event"] in ("worker.failed", "worker.killed")]


def test_a_worker_stopped_by_sigstop_leaves_when_the_master_stops(program: Start) -> None:
    """TERM is followed by CONT: a worker in state T drains like any other."""
    one = program("def run(worker):\n    worker.wait()\n", pool()).ready()
    os.kill(one.worker("a.0"), signal.SIGSTOP)
    report = one.stop(0)
    assert report["workers"][0]["code"] == 0


def test_a_wedged_worker_that_was_asked_by_hand_is_killed(program: Start) -> None:
    """kill -TERM of a worker that does not leave: its stack, KILL after stop_timeout, a new one."""
    app = """
        import time
        def wedged():
            print("inside", flush=True)
            time.sleep(60)
        def run(worker):
            wedged()
    """
    one = program(app, pool('stop_timeout = "500ms"'), master='stop_timeout = "1s"').ready()
    one.wait_for_line("inside")
    pid = one.worker("a.0")
    os.kill(pid, signal.SIGTERM)
    assert "wedged" in one.wait_for("worker.stack", pid=pid)["stack"]
    failed = one.wait_for("worker.failed", pid=pid, signal="SIGKILL")
    assert "did not stop" in failed["reason"]
    one.wait_for("worker.ready", since=one.events.index(failed))
    one.signal(signal.SIGQUIT)
    one.wait(3)
