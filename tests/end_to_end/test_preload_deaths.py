"""A template may die, hang or fail at any moment: its pool comes back, and no worker notices."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil
import pytest
from preloaded import APP, failures, imports, pool, template
from program import Program, wait_gone
from reloading import code, fails, pids, serving

Start = Callable[..., Program]


def test_a_killed_template_is_replaced_and_no_worker_notices(program: Start) -> None:
    """The next one imports anew, and then forks who is missing."""
    one = program(APP, pool(3)).ready()
    before, mark = pids(one), one.mark()
    os.kill(template(one), signal.SIGKILL)
    template(one, since=mark)
    assert pids(one) == before
    os.kill(before["a.2"], signal.SIGKILL)
    one.wait_for("worker.ready", since=mark, worker="a.2")
    assert imports(one) == 2
    assert one.find("inner.failed", worker="@a:1.0", signal="SIGKILL")
    assert len(failures(one)) == 1
    one.stop(0)


def test_a_worker_that_is_missing_while_there_is_no_template_comes_with_the_next(program: Start) -> None:
    """Both die together."""
    one = program(APP, pool(2)).ready()
    mark, old = one.mark(), pids(one)
    for pid in (template(one), *old.values()):
        os.kill(pid, signal.SIGKILL)
    for name in ("a.0", "a.1"):
        one.wait_for("worker.ready", since=mark, worker=name)
    assert not set(old.values()) & set(pids(one).values())
    assert len(one.stop(0)["workers"]) == 2


# An application that can make its template hang, just before that forks.
HANGS = """
    import os, time
    from pathlib import Path
    def hang():
        while Path("hang").exists():
            time.sleep(0.01)
    os.register_at_fork(before=hang)
    def run(worker):
        worker.wait()
"""


def test_a_template_that_hangs_is_ended_when_it_makes_a_worker_late(program: Start) -> None:
    """It does not answer within start_timeout: killed, replaced, and the pool is at strength again."""
    one = program(HANGS, pool(2, 'start_timeout = "1s"\n')).ready()
    hanging = template(one)
    (one.folder / "hang").touch()
    mark = one.mark()
    os.kill(one.worker("a.1"), signal.SIGKILL)
    one.wait_for("worker.failed", since=mark, worker="a.1", reason="its template process is gone")
    wait_gone(hanging)
    (one.folder / "hang").unlink()
    ours = "SIGKILL by supervisord-lite: it did not answer when it was asked for a.1"
    one.wait_for("inner.failed", since=mark, worker="@a:1.0", reason=ours)
    assert one.wait_for("worker.ready", since=mark, worker="a.1")["pid"] != hanging
    assert one.status()["pools"]["a"]["ready"] == 2
    one.stop(0)


def test_a_template_killed_with_requests_open(program: Start) -> None:
    """Four workers were asked of it while it hung: the next one gives each slot one, and no two."""
    one = program(HANGS, pool(4)).ready()
    old, mark = pids(one), one.mark()
    first = template(one)
    (one.folder / "hang").touch()
    for pid in old.values():
        os.kill(pid, signal.SIGKILL)
    one.wait_until(lambda: len(failures(one)) == 4)
    os.kill(first, signal.SIGKILL)
    (one.folder / "hang").unlink()
    for name in old:
        one.wait_for("worker.ready", since=mark, worker=name)
    assert len(set(pids(one).values())) == 4
    assert len([p for p in psutil.Process(one.pid).children() if p.pid in pids(one).values()]) == 4
    one.stop(0)


@pytest.mark.long
def test_templates_killed_again_and_again_while_workers_are_born(program: Start) -> None:
    """Whatever moment it dies at, no worker is lost, doubled or left behind."""
    one = program(APP, pool(4)).ready()
    for round in range(25):
        mark = one.mark()
        victim = template(one)
        os.kill(one.worker(f"a.{round % 4}"), signal.SIGKILL)
        one.read_until(lambda: False, timeout=round * 0.0005)
        os.kill(victim, signal.SIGKILL)
        template(one, since=mark)
        one.wait_until(lambda: one.status()["pools"]["a"]["ready"] == 4)
    assert len(set(pids(one).values())) == 4
    assert len(one.stop(0)["workers"]) == 4


def test_a_worker_that_dies_before_anything_has_its_own_exit_status(program: Start) -> None:
    """Killed by its own hook, or left by os._exit, in the first instant."""
    app = """
        import os, signal
        from supervisor import on_worker_start
        @on_worker_start
        def start(worker):
            if worker.slot == 0:
                os._exit(9)
            os.kill(os.getpid(), signal.SIGKILL)
        def run(worker): ...
    """
    one = program(app, pool(2, 'restart = "never"\n'))
    first = one.wait_for("worker.failed", worker="a.0")
    second = one.wait_for("worker.failed", worker="a.1")
    assert (first["code"], first["signal"]) == (9, None)
    assert (second["code"], second["signal"]) == (None, "SIGKILL")
    one.stop(0)


def test_the_master_killed_workers_finish_and_the_template_goes(program: Start) -> None:
    """Workers hear of it at once and leave with 0; the template has nobody to fork for."""
    app = """
        def run(worker):
            worker.ready()
            worker.wait()
            with open(f"finished.{worker.id}", "w"):
                pass
    """
    one = program(app, pool(3, 'ready = "notify"\n')).ready()
    first = template(one)
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)
    ends = one.orphans_end()
    assert [ends[name] for name in ("a.0", "a.1", "a.2")] == [0, 0, 0]
    assert not os.path.exists(f"/proc/{first}")
    assert len(list(one.folder.glob("finished.*"))) == 3


@pytest.mark.parametrize("on_give_up", ["park", "exit"])
def test_a_template_that_keeps_failing_counts_as_its_pool_does(program: Start, on_give_up: str) -> None:
    """After max_restarts its pool is parked and tries again when scaled; or the master leaves with 6."""
    config = pool(2, f'max_restarts = 2\nwithin = "1h"\non_give_up = "{on_give_up}"\n')
    one = program("1 / 0\n", config)
    one.tracebacks_expected = True
    parked = one.wait_for("pool.parked", pool="a")
    assert parked["reason"] == "its template failed more than 2 times in 3600 s"
    assert sum(e["event"] == "inner.failed" for e in one.events) == 3
    if on_give_up == "exit":
        one.wait(6)
        return
    assert one.status()["pools"]["a"]["state"] == "parked"
    mark = one.mark()
    fails(one)
    one.wait_for("pool.parked", since=mark)  # tried again, as it is after any reload
    code(one, APP)
    assert one.cli("scale", "a", "3").returncode == 0
    one.ready()
    assert sorted(serving(one)) == ["a.0", "a.1", "a.2"]
    one.stop(0)
