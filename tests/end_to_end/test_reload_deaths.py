"""Who dies while a reload goes on: the reader, old workers, new ones, all at once; and who will not die."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable

import pytest
from program import Program
from reloading import (
    WAITS,
    code,
    configure,
    fails,
    hup,
    least,
    outcome,
    pids,
    pool,
    serving,
    started,
    strength,
    works,
)

Start = Callable[..., Program]

LONG = '"1s"'


def test_a_reader_that_is_killed_has_changed_nothing(program: Start) -> None:
    """SIGKILL, and whatever else ends it: the old generation goes on, and the next reload works."""
    one = program(WAITS, pool()).ready()
    before = pids(one)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
        mark = hup(one)
        os.kill(one.wait_for("inner.started", since=mark, worker="@reader.0")["pid"], number)
        event = outcome(one, mark)
        assert event["event"] == "reload.failed"
        assert "the configuration could not be read" in event["error"]
    assert pids(one) == before
    works(one)
    assert least(one) == 2
    one.stop(0)


def test_a_reader_is_killed_while_it_tries_hooks(program: Start) -> None:
    """What it had started for that is ended at the master's stop at the latest."""
    one = program(WAITS, pool()).ready()
    text = "import pathlib, threading\npathlib.Path('begun').touch()\nthreading.Event().wait()\n"
    (one.folder / "slow.py").write_text(text)
    good = one.config.read_text()
    one.config.write_text(good + "[hooks]\nimport = ['slow']\n")
    mark = hup(one)
    one.wait_until((one.folder / "begun").exists)
    os.kill(one.wait_for("inner.started", since=mark)["pid"], signal.SIGKILL)
    assert outcome(one, mark)["event"] == "reload.failed"
    one.config.write_text(good)
    works(one)
    one.stop(0)


def test_old_workers_that_die_while_new_ones_are_tried_are_replaced(program: Start) -> None:
    """At once, and the reload goes on."""
    one = program(WAITS, pool(workers=3, more='backoff = {initial = "1ms"}').replace('"200ms"', LONG)).ready()
    mark = hup(one)
    one.wait_for("worker.ready", generation=2)
    for name in ("a.1", "a.2"):
        os.kill(one.worker(name), signal.SIGKILL)
    one.wait_until(lambda: len(serving(one)) == 3 or outcome(one, mark))
    assert outcome(one, mark)["event"] == "reload.done"
    assert serving(one) == {f"a.{n}": 2 for n in range(3)}
    assert strength(one)[-1] == 3
    one.stop(0)


def test_the_old_worker_whose_heir_waits_dies(program: Start) -> None:
    """The heir has its place at once: nobody else is started for it."""
    one = program(WAITS, pool(workers=1).replace('"200ms"', LONG)).ready()
    old = one.worker("a.0")
    mark = hup(one)
    one.wait_for("worker.ready", generation=2)
    os.kill(old, signal.SIGKILL)
    assert outcome(one, mark)["event"] == "reload.done"
    assert least(one) == 1
    assert len(started(one, 1)) == 1
    assert len(started(one, 2)) == 1
    one.stop(0)


@pytest.mark.parametrize("stage", ["trying", "rolling"])
def test_a_new_worker_that_is_killed_takes_everything_back(program: Start, stage: str) -> None:
    """Whoever killed it: it was not asked to leave, so the generation is not trusted."""
    app = """
        import os, pathlib
        def run(worker):
            while worker.generation == 2 and worker.slot == 2 and not worker.stopping:
                worker.wait(0.02)
            worker.ready()
            worker.wait()
    """
    config = pool(workers=3, more='ready = "notify"')
    one = program(app, config.replace('"200ms"', LONG) if stage == "trying" else config).ready()
    mark = hup(one)
    one.wait_for("worker.ready", generation=2, worker="a.0")
    if stage == "rolling":
        one.wait_for("worker.started", generation=2, worker="a.2")
    os.kill(next(e["pid"] for e in started(one, 2)), signal.SIGKILL)
    event = outcome(one, mark)
    assert event["event"] == "reload.failed"
    assert event["error"].startswith("a.0 (generation 2): SIGKILL")
    one.wait_until(lambda: serving(one) == {f"a.{n}": 1 for n in range(3)})
    assert least(one) == (3 if stage == "trying" else 2)  # the one that we killed
    one.stop(0)


@pytest.mark.parametrize("who", ["old", "everybody"])
def test_all_workers_ask_to_be_replaced_at_the_same_moment(program: Start, who: str) -> None:
    """Exit 4 while a reload tries: each is replaced, never twice, and the reload goes on."""
    one = program(WAITS, pool(workers=4).replace('"200ms"', LONG)).ready()
    old = set(pids(one).values())
    mark = hup(one)
    one.wait_for("worker.ready", generation=2)
    new = {e["pid"] for e in started(one, 2)}
    there = old if who == "old" else old | new
    for pid in there:
        os.kill(pid, signal.SIGUSR2)
    assert outcome(one, mark)["event"] == "reload.done"
    assert serving(one) == {f"a.{n}": 2 for n in range(4)}
    assert len(pids(one)) == 4
    assert one.find("worker.failed") is None
    assert all(e["planned"] for e in one.events if e["event"] == "worker.exited")
    one.stop(0)


def test_an_old_worker_that_ignores_its_stop_is_killed_and_the_roll_goes_on(program: Start) -> None:
    """At its stop_timeout; its successor serves since long."""
    app = """
        import signal
        def run(worker):
            if worker.generation == 1 and worker.slot == 0:
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                worker.ready()
                while True:
                    signal.sigtimedwait([], 3600)
            worker.ready()
            worker.wait()
    """
    one = program(app, pool(workers=3, more='ready = "notify"\nstop_timeout = "500ms"')).ready()
    works(one)
    assert [e["worker"] for e in one.events if e["event"] == "worker.killed"] == ["a.0"]
    assert serving(one) == {f"a.{n}": 2 for n in range(3)}
    assert least(one) == 3
    one.stop(0)


# -- pools that do not work, and a file that mends them ---------------------------------

BROKEN = """
    import os, pathlib
    def run(worker):
        if worker.pool == "a" and worker.options["broken"]:
            os._exit(7)
        worker.ready()
        worker.wait()
"""
NEVER_AGAIN = 'ready = "notify"\noptions = {broken = true}\nbackoff = {initial = "1h", max = "1h"}'


@pytest.mark.parametrize("backoff", ["1h", "1ms"])
def test_a_pool_that_does_not_come_up_is_mended_by_a_reload(program: Start, backoff: str) -> None:
    """At boot: nobody waits for the old backoff, and the master becomes ready."""
    more = NEVER_AGAIN.replace("1h", backoff)
    one = program(BROKEN, pool(workers=3, more=more) + pool("b", 2))
    one.wait_for("worker.failed")
    one.wait_for("pool.ready", pool="b")
    assert one.status()["state"] == "starting"
    configure(one, ("broken = true", "broken = false"))
    works(one)
    one.ready()
    assert serving(one) == {f"a.{n}": 2 for n in range(3)}
    assert least(one, "b") == 2
    one.stop(0)


def test_a_file_that_does_not_mend_it_leaves_it_as_it_was(program: Start) -> None:
    """It goes on being tried; the other pool is untouched."""
    more = NEVER_AGAIN.replace("1h", "200ms")
    one = program(BROKEN, pool(workers=2, more=more) + pool("b", 2))
    one.wait_for("worker.failed")
    one.wait_until(lambda: len(serving(one, "b")) == 2)
    before = pids(one, "b")
    assert "a." in fails(one)
    one.wait_for("worker.started", since=one.mark(), generation=1, pool="a")
    assert pids(one, "b") == before
    assert one.status()["state"] == "starting"
    one.stop(0)


PARKS = NEVER_AGAIN.replace("1h", "1ms") + '\nmax_restarts = 2\nwithin = "1h"'


def test_a_parked_pool_is_tried_again_by_a_reload(program: Start) -> None:
    """A good file has it up; a bad one leaves it parked."""
    one = program(BROKEN, pool(workers=3, more=PARKS) + pool("b", 1))
    one.wait_for("pool.parked")
    one.wait_for("pool.ready", pool="b")
    assert "a." in fails(one)
    one.wait_until(lambda: one.status()["pools"]["a"]["state"] == "parked")
    configure(one, ("broken = true", "broken = false"))
    works(one)
    one.ready()
    assert serving(one) == {f"a.{n}": 3 for n in range(3)}
    assert least(one, "b") == 1
    one.stop(0)


def test_a_pool_that_breaks_after_it_was_up_is_mended(program: Start) -> None:
    """Its workers die of new code on disk, one by one; mended code and a reload have it whole."""
    one = program(WAITS, pool(workers=3, more='backoff = {initial = "1h", max = "1h"}')).ready()
    one.tracebacks_expected = True
    code(one, "raise RuntimeError")
    for name in ("a.0", "a.2"):
        os.kill(one.worker(name), signal.SIGKILL)
        one.wait_for("worker.failed", worker=name, code=None)
    one.wait_until(lambda: len(serving(one)) == 1)
    code(one, WAITS)
    works(one)
    assert serving(one) == {f"a.{n}": 2 for n in range(3)}
    one.stop(0)


# -- a machine that has nothing left -----------------------------------------------------


def test_a_reader_that_cannot_be_started_is_tried_again(program: Start) -> None:
    """No descriptor is free: the reload waits for the machine, and then works."""
    one = program(WAITS, pool()).ready()
    highest = max(int(name) for name in os.listdir(f"/proc/{one.pid}/fd"))
    before = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    mark = hup(one)
    one.wait_for("inner.failed", since=mark, pool="@reader")
    assert len(one.events) < mark + 20
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, before)
    assert outcome(one, mark)["event"] == "reload.done"
    assert least(one) == 2
    one.stop(0)
