"""SIGSTOP to the processes of the master's own: others wait for them, so they go on at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil
import pytest
from printed import COUNTS, QUICK, lines, numbers
from program import Program

Start = Callable[..., Program]

ALL = f"""
    [pools.a]
    target = "app:run"
    preload = true
    max_memory = "2GB"
    stdout = "out.log"
    {QUICK}
"""
PLAIN = f'[pools.a]\ntarget = "app:run"\nstdout = "out.log"\n{QUICK}'


def inner(one: Program, name: str, since: int = 0) -> int:
    """The pid of the last one of that name, once it is up."""
    one.wait_for("inner.ready", since=since, worker=name)
    return int([e for e in one.events if e["event"] == "inner.ready" and e.get("worker") == name][-1]["pid"])


def stopped(pid: int) -> bool:
    """In state T."""
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


@pytest.mark.parametrize("name", ["@output.0", "@meter.0", "@a:1.0"])
def test_whoever_of_them_is_stopped_goes_on_at_once(program: Start, name: str) -> None:
    """Twice; it is told, and nobody is replaced."""
    one = program(COUNTS, ALL).ready()
    pid = inner(one, name)
    for _ in range(2):
        mark = one.mark()
        os.kill(pid, signal.SIGSTOP)
        told = one.wait_for("inner.continued", since=mark, worker=name)
        assert (told["level"], told["pid"]) == ("warning", pid)
        one.wait_until(lambda: not stopped(pid))
    one.stop(0)
    assert not one.find("inner.killed")
    assert not one.find("inner.failed")


def test_who_is_stopped_again_and_again_is_replaced_and_no_line_is_lost(program: Start) -> None:
    one = program(COUNTS, PLAIN).ready()
    pid = inner(one, "@output.0")
    mark = one.mark()
    for count in range(1, 4):
        one.wait_until(lambda: not stopped(pid))
        os.kill(pid, signal.SIGSTOP)
        one.wait_until(lambda count=count: told(one, "inner.continued") >= min(count, 2))
    killed = one.wait_for("inner.killed", since=mark)
    assert killed["reason"] == "it was stopped again and again"
    assert inner(one, "@output.0", since=mark) != pid
    before = len(lines(one))
    one.wait_until(lambda: len(lines(one)) > before + 10)
    one.stop(0)
    found = numbers(lines(one))
    assert found == list(range(len(found)))
    assert not one.find("worker.failed")


def told(one: Program, event: str) -> int:
    return sum(e["event"] == event for e in one.events)


@pytest.mark.parametrize("name", ["@output.0", "@meter.0", "@a:1.0"])
def test_a_stop_does_not_wait_for_it(program: Start, name: str) -> None:
    """Neither when it is stopped just before, nor in the middle of it."""
    one = program(COUNTS, ALL).ready()
    pid = inner(one, name)
    os.kill(pid, signal.SIGSTOP)
    one.signal(signal.SIGTERM)
    one.wait_for("stop.phase")
    if psutil.pid_exists(pid):
        os.kill(pid, signal.SIGSTOP)
    one.wait(0)
    assert one.report()["seconds"] < 5


def test_a_reader_that_is_stopped_goes_on_and_so_does_the_reload(program: Start) -> None:
    one = program(COUNTS, PLAIN).ready()
    one.signal(signal.SIGHUP)
    os.kill(one.wait_for("inner.started", worker="@reader.0")["pid"], signal.SIGSTOP)
    one.wait_for("inner.continued", worker="@reader.0")
    one.wait_for("reload.done")
    one.stop(0)


def test_a_worker_that_somebody_has_stopped_stays_so(program: Start) -> None:
    """People look into them like that."""
    one = program(COUNTS, ALL).ready()
    worker, drainer = one.worker("a.0"), inner(one, "@output.0")
    os.kill(worker, signal.SIGSTOP)
    one.wait_until(lambda: stopped(worker))  # on a busy machine that takes a while
    os.kill(drainer, signal.SIGSTOP)
    one.wait_for("inner.continued")
    assert stopped(worker)
    assert told(one, "inner.continued") == 1
    os.kill(worker, signal.SIGCONT)
    one.stop(0)
