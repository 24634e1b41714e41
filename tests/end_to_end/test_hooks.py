"""Hooks of the master: order, contexts, and everything that one can do wrong."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from program import Program

Start = Callable[..., Program]

POOL = """
    [pools.a]
    target = "app:run"
"""
WAITS = """
    def run(worker):
        worker.wait()
"""

# -- order and contexts -------------------------------------------------------------

TOLD = """
    import json
    from supervisor import on_start, on_ready, on_stop, on_exit

    def told(name, context):
        fields = {k: getattr(context, k) for k in ("name", "file", "pid", "stop_reason", "restarting")}
        with open("told", "a") as file:
            file.write(json.dumps({"hook": name, **fields}) + "\\n")

    @on_start
    @on_ready
    @on_stop
    @on_exit
    def third(context):
        told("third", context)

    @on_start
    @on_stop
    def fourth(context):
        told("fourth", context)
"""
NAMED = """
    from shop import told
    def first(context):
        told("first", context)
    def second(context):
        told("second", context)
    def run(worker):
        with open("told", "a") as file:
            file.write('{"hook": "target"}\\n')
        worker.ready()
        worker.wait()
"""
ALL_MOMENTS = """
    [pools.a]
    target = "app:run"
    ready = "notify"
    [hooks]
    import = ["shop"]
    on_start = ["app:first", "app:second"]
    on_ready = "app:first"
    on_stop = ["app:first", "app:second"]
    on_exit = ["app:first", "app:second"]
"""


@pytest.fixture
def told(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """What hooks and targets wrote, in one order over all processes."""
    return lambda: [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]


def test_order_and_contexts(program: Start, told: Callable[[], list[dict[str, Any]]], tmp_path: Path) -> None:
    """Up as written, the configuration's before the decorated; down the whole reversed; each knows why."""
    (tmp_path / "shop.py").write_text("\n".join(line[4:] for line in TOLD.splitlines()))
    one = program(NAMED, ALL_MOMENTS, master='name = "shop"').ready()
    one.read_until(lambda: told()[-1]["hook"] == "third", timeout=0.05)
    one.signal(signal.SIGUSR2)
    one.wait(4)
    up, down = ["first", "second", "third", "fourth"], ["fourth", "third", "second", "first"]
    exits = ["third", "second", "first"]
    assert [t["hook"] for t in told()] == [*up, "target", "first", "third", *down, *exits]
    hooks = [t for t in told() if t["hook"] != "target"]
    assert {(t["name"], t["file"], t["pid"]) for t in hooks} == {("shop", str(one.config), one.pid)}
    assert [(t["stop_reason"], t["restarting"]) for t in hooks] == [
        *[(None, False)] * 6,
        *[("SIGUSR2", True)] * 7,
    ]


# -- raising ------------------------------------------------------------------------

RAISES = """
    import sys
    def fails(context): raise ValueError("no database")
    def leaves(context): sys.exit(9)
    def interrupts(context): raise KeyboardInterrupt
    def closes(context): raise GeneratorExit
    def last(context): print("the last one ran", flush=True)
    def run(worker):
        worker.wait()
"""


@pytest.mark.parametrize("moment", ["on_ready", "on_stop", "on_exit"])
def test_one_that_raises_is_told_and_passed_over(program: Start, moment: str) -> None:
    """Whatever it raises: the next ones run, and the exit status is the same."""
    names = ["fails", "leaves", "interrupts", "closes"]
    hooks = [*names, "last"] if moment == "on_ready" else ["last", *names]  # going down, reversed
    one = program(RAISES, POOL + f"[hooks]\n{moment} = {json.dumps([f'app:{name}' for name in hooks])}")
    one.tracebacks_expected = True
    one.ready()
    if moment == "on_ready":
        one.wait_for_line("the last one ran")
    one.stop(0)
    one.wait_for_line("the last one ran")
    failed = [e for e in one.events if e["event"] == "hook.failed"]
    assert sorted(e["hook"] for e in failed) == sorted(f"app:{name}" for name in names)
    assert any("no database" in e["traceback"] for e in failed)


@pytest.mark.parametrize("name", ["fails", "leaves", "interrupts", "closes"])
def test_on_start_that_raises_aborts_the_start(program: Start, name: str) -> None:
    """Exit 1 before any fork; hooks of the way down are not run, as nothing was built up."""
    config = f"""
        {POOL}
        [hooks]
        on_start = ["app:{name}", "app:last"]
        on_stop = "app:last"
        on_exit = "app:last"
    """
    one = program(RAISES, config)
    one.tracebacks_expected = True
    one.wait(1)
    assert one.find("worker.started") is None
    assert "the last one ran" not in one.noise
    assert one.find("hook.failed", hook=f"app:{name}")
    assert "on_start" in one.wait_for("start.aborted")["message"]
    assert one.report()["status"] == 1


def test_a_module_of_hooks_that_cannot_be_imported_aborts_the_start(program: Start, tmp_path: Path) -> None:
    """The configuration names what cannot be had: exit 2 before any fork, with the reason in the log."""
    (tmp_path / "broken.py").write_text("raise RuntimeError('no config')")
    one = program(WAITS, POOL + '[hooks]\nimport = ["broken"]')
    one.tracebacks_expected = True
    one.wait(2)
    assert one.find("worker.started") is None
    assert "no config" in one.wait_for("start.aborted")["message"]


# -- hanging ------------------------------------------------------------------------

HANGS = """
    import threading
    def hangs(context):
        threading.Event().wait()
    def last(context):
        print("the last one ran", flush=True)
    def run(worker):
        worker.wait()
"""


def test_on_start_that_hangs_aborts_the_start(program: Start) -> None:
    """After hook_timeout: exit 1, no fork."""
    one = program(HANGS, POOL + '[hooks]\non_start = "app:hangs"', master='hook_timeout = "300ms"')
    one.wait(1)
    assert one.find("hook.timeout", hook="app:hangs")
    assert one.find("worker.started") is None


@pytest.mark.parametrize("moment", ["on_ready", "on_stop", "on_exit"])
def test_one_that_hangs_is_left_behind(program: Start, moment: str) -> None:
    """After hook_timeout the next one runs; the exit status is the same."""
    order = ["app:hangs", "app:last"][:: 1 if moment == "on_ready" else -1]
    config = POOL + f"[hooks]\n{moment} = {json.dumps(order)}"
    one = program(HANGS, config, master='hook_timeout = "300ms"').ready()
    if moment == "on_ready":
        one.wait_for_line("the last one ran")
    one.stop(0)
    assert one.wait_for("hook.timeout", hook="app:hangs")["seconds"] >= 0.3
    assert "the last one ran" in one.noise


def test_the_loop_turns_while_a_hook_hangs(program: Start) -> None:
    """Status and signals are answered meanwhile."""
    one = program(HANGS, POOL + '[hooks]\non_ready = "app:hangs"', master='hook_timeout = "60s"').ready()
    assert one.status()["pools"]["a"]["ready"] == 1
    one.signal(signal.SIGALRM)
    one.wait_for("signal.ignored", signal="SIGALRM")
    assert one.cli("status").returncode == 0
    one.signal(signal.SIGQUIT)
    one.wait(3)


def test_hanging_hooks_take_at_most_half_of_the_stop(program: Start) -> None:
    """on_stop and drain_delay together: the rest is for the workers, who still leave by themselves."""
    master = 'stop_timeout = "2s"\nhook_timeout = "700ms"\ndrain_delay = "10s"'
    config = POOL + '[hooks]\non_stop = ["app:last", "app:hangs", "app:hangs"]'
    report = program(HANGS, config, master=master).ready().stop(0)
    assert 0.9 < report["phases"]["on_stop"] + report["phases"]["drain_delay"] < 1.7
    assert not report["workers"][0]["killed"]
