"""What it costs to wait: no wakeups, and little memory."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Callable
from pathlib import Path

import pytest
from program import PATIENCE, Program

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 4.0  # of doing nothing: a timer of any use would have fired
BUDGET = 20 << 20  # bytes that the master may hold

Start = Callable[..., Program]


def switches(pid: int) -> dict[str, int]:
    """Context switches of every thread of a process, by thread: /proc/PID/task/TID/status."""
    counts = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status") as status:
            found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", status.read(), re.MULTILINE)
        assert found
        counts[thread] = int(found[1])
    return counts


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settled(pids: list[int]) -> list[dict[str, int]]:
    """The counts, once they hold still: the last messages of the boot are through."""
    before: list[dict[str, int]] = []
    while before != (now := [switches(pid) for pid in pids]):
        before = now
        select.select([], [], [], 0.5)
    return now


def test_whoever_waits_sleeps(program: Start) -> None:
    """Neither the master nor 100 workers in `worker.wait()`, sync and async, wake up even once."""
    app = """
        def run(worker):
            worker.wait()
        async def later(worker):
            await worker.stopped()
    """
    config = """
        [pools.a]
        target = "app:run"
        workers = 90
        [pools.b]
        target = "app:later"
        workers = 10
    """
    one = program(app, config).ready()
    workers = [e["pid"] for e in one.events if e["event"] == "worker.started"]
    assert len(set(workers)) == 100
    before = settled([one.pid, *workers])
    assert not select.select([one.process.stdout], [], [], SECONDS)[0], (
        "something was said"
    )  # and time passes
    after = [switches(pid) for pid in (one.pid, *workers)]
    assert after == before
    one.stop(0)


def test_a_thousand_tasks_cost_nothing_while_none_is_due(program: Start) -> None:
    """By cron and by interval, with their keeper and their drainer: nobody wakes up even once."""
    tasks = [f"[tasks.e{n}]\ntarget = 'app:run'\nevery = '1d'\n" for n in range(500)]
    tasks += [f"[tasks.c{n}]\ntarget = 'app:run'\nschedule = '{n % 60} 4 1 1 *'\n" for n in range(500)]
    one = program("def run(worker):\n    worker.wait()\n", "".join(tasks)).ready()
    begun = ("worker.started", "inner.started")
    for inner in ("@store.0", "@output.0"):
        one.wait_for("inner.ready", worker=inner)
    own = [e["pid"] for e in one.events if e["event"] in begun]
    assert len(own) == 2
    before = settled([one.pid, *own])
    one.read_until(lambda: False, timeout=0.1)  # what the boot has said
    assert not select.select([one.process.stdout], [], [], SECONDS)[0], "something was said"
    assert [switches(pid) for pid in (one.pid, *own)] == before
    one.stop(0)


def test_the_master_is_small_and_stays_so(program: Start, tmp_path: Path) -> None:
    """With the example: below 20 MB, one thread, and nothing grows over 100 replacements."""
    config = f"""
        [pools.checksum]
        target = "examples.checksum:run"
        workers = 2
        options = {{ database = "{tmp_path}/jobs.sqlite" }}
        backoff = {{ initial = "1ms", max = "2ms" }}
        [tasks.nightly]
        target = "examples.checksum:run"
        schedule = "0 3 * * *"
        timezone = "Europe/Berlin"
    """
    one = program("", config, master=f'pythonpath = ["{ROOT}"]').ready()
    replace(one, 20)
    held, size = one.fds_and_threads(), resident(one.pid)
    assert size < BUDGET
    replace(one, 100)
    assert one.fds_and_threads() == held
    assert held[1] == 1
    assert resident(one.pid) - size < 512 << 10
    one.stop(0)


def replace(one: Program, times: int) -> None:
    """Kill the worker in the first slot so often, each time once its successor is up."""
    for _ in range(times):
        mark = one.mark()
        os.kill(one.worker("checksum.0"), 9)
        one.wait_for("worker.ready", since=mark, worker="checksum.0", timeout=PATIENCE)
