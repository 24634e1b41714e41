"""Hooks of the master: order, contexts, and everything that one can do wrong."""

from __future__ import annotations

import json
import os
import select
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
EACH = '["app:last", "app:fails", "app:leaves", "app:interrupts", "app:closes", "app:last"]'


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
    config = POOL + f'[hooks]\non_start = ["app:{name}", "app:last"]\non_stop = "app:last"\non_exit = "app:last"'
    one = program(RAISES, config)
    one.tracebacks_expected = True
    one.wait(1)
    assert one.find("worker.started") is None
    assert "the last one ran" not in one.noise
    assert one.find("hook.failed", hook=f"app:{name}")
    assert "on_start" in one.wait_for("start.aborted")["message"]
    assert one.report()["status"] == 1


def test_a_module_of_hooks_that_cannot_be_imported_aborts_the_start(program: Start, tmp_path: Path) -> None:
    """Exit 1 before any fork, with the reason in the log."""
    (tmp_path / "broken.py").write_text("raise RuntimeError('no config')")
    one = program(WAITS, POOL + '[hooks]\nimport = ["broken"]')
    one.tracebacks_expected = True
    one.wait(1)
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
    assert one.find("hook.timeout", hook="app:hangs", seconds=0.3)
    assert "the last one ran" in one.noise


def test_the_loop_turns_while_a_hook_hangs(program: Start) -> None:
    """Status and signals are answered meanwhile."""
    one = program(HANGS, POOL + '[hooks]\non_ready = "app:hangs"', master='hook_timeout = "60s"').ready()
    assert one.status()["pools"]["a"]["ready"] == 1
    one.signal(signal.SIGHUP)
    one.wait_for("signal.ignored", signal="SIGHUP")
    assert one.cli("status").returncode == 0
    one.signal(signal.SIGQUIT)
    one.wait(3)


def test_hanging_hooks_take_at_most_half_of_the_stop(program: Start) -> None:
    """on_stop and drain_delay together: the rest is for the workers, who still leave by themselves."""
    master = 'stop_timeout = "2s"\nhook_timeout = "700ms"\ndrain_delay = "10s"'
    config = POOL + '[hooks]\non_stop = ["app:last", "app:hangs", "app:hangs"]'
    report = program(HANGS.replace("app:hangs", "app:hang"), config, master=master).ready().stop(0)
    assert 0.9 < report["phases"]["on_stop"] + report["phases"]["drain_delay"] < 1.7
    assert not report["workers"][0]["killed"]


# -- worse --------------------------------------------------------------------------


def test_a_hook_that_forks_makes_no_second_master(program: Start) -> None:
    """Its child comes back from the hook and ends; nothing of it stays, and the stop does not wait for it."""
    app = """
        import os
        def forks(context):
            os.fork()
        def run(worker):
            worker.wait()
    """
    config = POOL + '[hooks]\non_start = "app:forks"\non_ready = "app:forks"\non_stop = "app:forks"\non_exit = "app:forks"'
    one = program(app, config).ready()
    report = one.stop(0)
    assert report["seconds"] < 3
    assert [e["event"] for e in one.events].count("master.started") == 1


def test_a_hook_that_leaves_a_child_behind(program: Start) -> None:
    """A process that a hook began and forgot is ended with the master."""
    app = """
        import subprocess
        def begins(context):
            subprocess.Popen(["sleep", "1000"])
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_ready = "app:begins"\non_exit = "app:begins"').ready()
    one.stop(0)


def test_a_hook_that_runs_programs_gets_their_exit_statuses(program: Start) -> None:
    """The master reaps no process that a hook waits for."""
    app = """
        import subprocess
        def runs(context):
            ends = [subprocess.run(["sh", "-c", f"exit {n}"]).returncode for n in range(20)]
            print("good" if ends == list(range(20)) else ends, flush=True)
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_ready = "app:runs"').ready()
    one.wait_for_line("good")
    one.stop(0)


def test_a_hook_that_prints_10_mb(program: Start) -> None:
    """All of it gets out while somebody reads, and the log goes on."""
    app = """
        def prints(context):
            for _ in range(10_000):
                print("x" * 1000)
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_ready = "app:prints"', master='hook_timeout = "30s"').ready()
    one.read_until(lambda: sum(line.count("x") for line in one.noise) >= 10_000_000)
    one.stop(0)


def test_a_hook_that_prints_10_mb_to_nobody(program: Start) -> None:
    """It is stuck in a full pipe: left behind after hook_timeout, and the master stops all the same."""
    app = """
        def prints(context):
            print("x" * 10_000_000)
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_stop = "app:prints"', master='hook_timeout = "300ms"').ready()
    one.signal(signal.SIGTERM)
    fd = os.pidfd_open(one.process.pid)
    assert select.select([fd], [], [], 15)[0], "it waits for a reader"
    os.close(fd)
    one.wait(0)


def test_a_hook_that_changes_the_process(program: Start) -> None:
    """Directory, umask, signal mask of its thread: the way down works all the same, files are removed."""
    app = """
        import os, signal
        def changes(context):
            os.chdir("/")
            os.umask(0o777)
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_ready = "app:changes"').ready()
    one.stop(0)


def test_a_hook_that_asks_for_a_stop_from_within(program: Start) -> None:
    """A request of the program to itself is queued like any other."""
    app = """
        import os, signal
        def asks(context):
            os.kill(context.pid, signal.SIGTERM)
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_ready = "app:asks"\non_stop = "app:asks"\non_exit = "app:asks"')
    one.wait(0)
    assert one.report()["reason"] == "SIGTERM"
