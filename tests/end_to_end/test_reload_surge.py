"""`surge`: how many there may be beside the others; and 0, for programs that cannot run twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from program import Program
from reloading import WAITS, configure, fails, least, pool, serving, started, works

Start = Callable[..., Program]


def most(one: Program) -> int:
    """How many workers there were at most, ready or not, leaving or not."""
    there: set[int] = set()
    highest = 0
    for event in one.events:
        if event["event"] == "worker.started":
            there.add(event["pid"])
        elif event["event"] in {"worker.exited", "worker.failed"}:
            there.discard(event["pid"])
        highest = max(highest, len(there))
    return highest


@pytest.mark.parametrize(("surge", "extra"), [("1", 1), ("3", 3), ('"25%"', 2), ('"1%"', 1), ("100", 8)])
def test_never_more_than_surge_beside_the_others(program: Start, surge: str, extra: int) -> None:
    """Old ones that are leaving count: memory is what surge is about."""
    one = program(WAITS, pool(workers=8, more=f"surge = {surge}")).ready()
    works(one)
    assert most(one) == 8 + extra
    assert least(one) == 8
    assert len(started(one, 2)) == 8
    one.stop(0)


ALONE = """
    import fcntl, os
    def run(worker):
        lock = open(f"lock{worker.slot}", "w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if worker.options["bad"]:
            os._exit(5)
        worker.ready()
        worker.wait()
"""
ZERO = "surge = 0\nready = 'notify'\noptions = {bad = false}\n"


def test_with_surge_0_no_two_have_the_same_place(program: Start) -> None:
    """The old one is gone before the new one starts; one place after the other."""
    one = program(ALONE, pool(workers=3, more=ZERO)).ready()
    works(one)
    assert most(one) == 3
    assert least(one) == 2
    assert serving(one) == {f"a.{n}": 2 for n in range(3)}
    assert one.find("worker.failed") is None
    one.stop(0)


def test_with_surge_0_a_failure_brings_the_old_one_back(program: Start) -> None:
    """The first new one fails: its place goes to the old settings, the others were not touched."""
    one = program(ALONE, pool(workers=3, more=ZERO)).ready()
    configure(one, ("bad = false", "bad = true"))
    assert "a.0 (generation 2): exit status 5" in fails(one)
    one.wait_until(lambda: serving(one) == {f"a.{n}": 1 for n in range(3)})
    assert len(started(one, 2)) == 1
    assert least(one) == 2
    assert most(one) == 3
    one.stop(0)


def test_one_that_cannot_be_tried_waits_for_those_that_can(program: Start) -> None:
    """It is not touched before the other pools have proven themselves."""
    app = """
        import os
        def run(worker):
            worker.wait(worker.options["dies"])
            if not worker.stopping:
                os._exit(5)
    """
    config = pool("a", 2, "surge = 0\noptions = {dies = 600}") + pool("b", 1, "options = {dies = 500}")
    one = program(app, config).ready()
    configure(one, ("dies = 500", "dies = 0.3"), ('"200ms"', '"60s"'))
    assert "b.0 (generation 2): exit status 5" in fails(one)
    assert [e["pool"] for e in started(one, 2)] == ["b"]
    assert least(one) == 2
    one.stop(0)
