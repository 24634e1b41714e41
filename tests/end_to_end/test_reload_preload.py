"""Reloads of a preload pool: a template imports the new code; the old one is kept until it is trusted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from program import Event, Program
from reloading import (
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

SAYS = """
    VERSION = "one"
    def run(worker):
        worker.status(VERSION)
        worker.ready()
        worker.wait()
"""
TWO = SAYS.replace('"one"', '"the second"')
THREE = SAYS.replace('"one"', '"the third version"')
PRELOAD = "preload = true\nready = 'notify'\nbackoff = {initial = '10ms', max = '50ms'}\n"


def templates(one: Program, generation: int, since: int = 0) -> list[Event]:
    """Each start of the template of that generation."""
    name = f"@a:{generation}.0"
    return [e for e in one.events[since:] if e["event"] == "inner.started" and e["worker"] == name]


def versions(one: Program) -> set[str]:
    """What code those who are there have."""
    return {w["status"] for w in one.status()["pools"]["a"]["workers"]}


def wait_for_version(one: Program, *wanted: str) -> None:
    one.wait_until(lambda: versions(one) == set(wanted))


def test_good_code_is_imported_once_and_the_old_template_leaves(program: Start) -> None:
    """All new, none missing; one template is left."""
    one = program(SAYS, pool(workers=3, more=PRELOAD)).ready()
    code(one, TWO)
    works(one)
    wait_for_version(one, "the second")
    one.wait_for("inner.exited", worker="@a:1.0")
    assert (len(templates(one, 1)), len(templates(one, 2))) == (1, 1)
    assert least(one) == 3
    one.stop(0)


BAD = [
    ("import surely_not_there", "surely_not_there"),
    ("def run(worker:", "SyntaxError"),
    ("import os; os._exit(9)", "exit status 9"),
    ("import sys; sys.exit(0)", "SystemExit"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ("def run(worker): raise ValueError('too early')", "ValueError: too early"),
]


def test_bad_code_leaves_the_old_code_serving_also_in_new_workers(program: Start) -> None:
    """Whoever dies afterwards is replaced by a worker with the old code, whatever is on disk."""
    one = program(SAYS, pool(more=PRELOAD)).ready()
    one.tracebacks_expected = True
    before = pids(one)
    for text, words in BAD:
        code(one, text)
        assert words in fails(one)
        assert pids(one) == before
    assert least(one) == 2
    mark = one.mark()
    os.kill(one.worker("a.1"), signal.SIGKILL)
    one.wait_for("worker.ready", since=mark, worker="a.1", generation=1)
    wait_for_version(one, "one")
    code(one, TWO)
    works(one)
    wait_for_version(one, "the second")
    one.stop(0)


def test_the_last_new_worker_fails_and_the_old_code_is_back(program: Start) -> None:
    """A roll-back forks from the old template."""
    bad = TWO.replace("worker.ready()", "1 / (worker.slot - 2)\n        worker.ready()")
    one = program(SAYS, pool(workers=3, more=PRELOAD)).ready()
    one.tracebacks_expected = True
    code(one, bad)
    assert "a.2 (generation 2): " in fails(one)
    one.wait_until(lambda: serving(one) == {f"a.{n}": 1 for n in range(3)})
    wait_for_version(one, "one")
    assert least(one) == 3
    one.stop(0)


HANGS = "import pathlib, threading\npathlib.Path('begun').touch()\nthreading.Event().wait()\n"


def test_an_import_that_hangs_is_ended_and_meanwhile_old_workers_are_replaced(program: Start) -> None:
    """By the old template; it does not wait for the new one."""
    one = program(SAYS, pool(more=PRELOAD + "start_timeout = '3s'")).ready()
    code(one, HANGS)
    mark = hup(one)
    one.wait_until((one.folder / "begun").exists)
    os.kill(one.worker("a.0"), signal.SIGKILL)
    one.wait_for("worker.ready", since=mark, worker="a.0", generation=1)
    assert not [e for e in one.events[mark:] if e["event"] == "reload.failed"]
    assert outcome(one, mark)["event"] == "reload.failed"
    assert started(one, 2) == []
    assert strength(one)[-1] == 2
    one.stop(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGQUIT])
def test_a_stop_while_the_new_template_imports(program: Start, number: int) -> None:
    """It is ended with the rest, whatever its code does."""
    one = program(SAYS, pool(more=PRELOAD)).ready()
    code(one, HANGS)
    hup(one)
    one.wait_until((one.folder / "begun").exists)
    one.signal(number)
    one.wait({signal.SIGTERM: 0, signal.SIGUSR2: 4}.get(signal.Signals(number), 3))
    assert len(one.report()["workers"]) == 2
    assert one.report()["seconds"] < 15


def test_a_template_that_is_killed_is_replaced_and_its_workers_live_on(program: Start) -> None:
    """They are the master's children; the next ones are forked from the new template."""
    one = program(SAYS, pool(more=PRELOAD)).ready()
    before = pids(one)
    one.tracebacks_expected = True
    code(one, "raise RuntimeError")
    os.kill(templates(one, 1)[-1]["pid"], signal.SIGKILL)
    one.wait_until(lambda: len(templates(one, 1)) >= 3)
    assert pids(one) == before
    code(one, TWO)
    one.wait_until(lambda: one.find("inner.ready", since=one.events.index(templates(one, 1)[2])))
    mark = one.mark()
    os.kill(one.worker("a.1"), signal.SIGKILL)
    one.wait_for("worker.ready", since=mark, worker="a.1")
    wait_for_version(one, "one", "the second")
    code(one, THREE)
    works(one)
    wait_for_version(one, "the third version")
    one.stop(0)


def test_the_new_template_is_killed_during_the_reload(program: Start) -> None:
    """That generation is not trusted; the old code goes on."""
    one = program(SAYS, pool(more=PRELOAD).replace('"200ms"', '"600s"')).ready()
    code(one, TWO)
    mark = hup(one)
    one.wait_for("worker.ready", generation=2)
    os.kill(templates(one, 2)[-1]["pid"], signal.SIGKILL)
    event = outcome(one, mark)
    assert event["event"] == "reload.failed"
    assert "@a:2" in event["error"]
    one.wait_until(lambda: serving(one) == {"a.0": 1, "a.1": 1})
    wait_for_version(one, "one")
    assert least(one) == 2
    one.stop(0)


def test_the_old_template_is_killed_during_the_reload(program: Start) -> None:
    """The reload goes on."""
    one = program(SAYS, pool(more=PRELOAD).replace('"200ms"', '"1s"')).ready()
    code(one, TWO)
    mark = hup(one)
    one.wait_for("worker.ready", generation=2)
    os.kill(templates(one, 1)[-1]["pid"], signal.SIGKILL)
    assert outcome(one, mark)["event"] == "reload.done"
    wait_for_version(one, "the second")
    assert least(one) == 2
    one.stop(0)


def test_preload_can_be_turned_on_and_off(program: Start) -> None:
    """By a reload, like any other key."""
    one = program(SAYS, pool(more=PRELOAD)).ready()
    configure(one, ("preload = true", "preload = false"))
    code(one, TWO)
    works(one)
    wait_for_version(one, "the second")
    one.wait_for("inner.exited", worker="@a:1.0")
    configure(one, ("preload = false", "preload = true"))
    code(one, THREE)
    works(one)
    wait_for_version(one, "the third version")
    assert len(templates(one, 3)) == 1
    assert least(one) == 2
    one.stop(0)


def test_surge_0_with_preload_tells_nobody_before_the_template_stands(program: Start) -> None:
    """While it imports, and when it fails, everybody serves."""
    one = program(SAYS, pool(more=PRELOAD + "surge = 0\nstart_timeout = '1s'")).ready()
    before = pids(one)
    code(one, HANGS)
    mark = hup(one)
    assert outcome(one, mark)["event"] == "reload.failed"
    assert pids(one) == before
    assert least(one) == 2
    code(one, TWO)
    works(one)
    wait_for_version(one, "the second")
    one.stop(0)
