"""Workers that have served long enough: a successor is ready before the old one is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from program import Event, Program
from reloading import code, pids, serving, strength

Start = Callable[..., Program]
QUICK = 'backoff = {initial = "10ms", max = "80ms"}\n'

# Does a job as soon as there is a file with its slot's number, and then once more for each new one.
WORKS = """
    import os
    def run(worker):
        while not worker.wait(0.01):
            if os.path.exists(f"job.{worker.slot}.{worker.generation}"):
                os.unlink(f"job.{worker.slot}.{worker.generation}")
                with worker.job():
                    pass
"""


def pool(workers: int, more: str) -> str:
    return f'[pools.a]\ntarget = "app:run"\nworkers = {workers}\n{QUICK}{more}\n'


def give_job(one: Program, slot: int = 0, generation: int = 1) -> None:
    (one.folder / f"job.{slot}.{generation}").touch()


def place(one: Program, name: str, since: int = 0, **fields: object) -> int:
    """Where in the log that event is."""
    event = one.wait_for(name, since=since, **fields)
    return next(n for n, found in enumerate(one.events) if found is event)


def most_alive(one: Program) -> int:
    """The most workers of the pool that there were at once."""
    alive, most = 0, 0
    for event in one.events:
        if event.get("pool") == "a":
            alive += event["event"] == "worker.started"
            alive -= event["event"] in ("worker.exited", "worker.failed")
            most = max(most, alive)
    return most


def worn(one: Program) -> list[Event]:
    return [e for e in one.events if e["event"] == "worker.worn"]


# -- jobs ----------------------------------------------------------------------------


def test_after_max_jobs_a_successor_is_ready_before_the_old_one_is_told(program: Start) -> None:
    """Both are in one slot for that time; the others of the pool are not touched."""
    one = program(WORKS, pool(2, "max_jobs = 2")).ready()
    mark, old, other = one.mark(), one.worker("a.0"), one.worker("a.1")
    give_job(one)
    one.wait_shown("a.0", lambda w: w["jobs"] == 1)
    assert not worn(one)
    give_job(one)
    order = [
        place(one, "worker.worn", pid=old, reason="did 2 jobs, max_jobs is 2"),
        place(one, "worker.ready", since=mark, worker="a.0"),
        place(one, "worker.stopping", pid=old, reason="did 2 jobs, max_jobs is 2", replace=True),
        place(one, "worker.exited", pid=old, planned=True, code=4),
    ]
    assert order == sorted(order)
    assert min(strength(one, since=mark)) == 2
    assert one.worker("a.1") == other
    one.stop(0)


def test_all_worn_at_once_are_replaced_a_few_at_a_time(program: Start) -> None:
    """Eight workers reach their limit together: never more than ``surge`` beside them, never one less."""
    one = program(WORKS, pool(8, "max_jobs = 1\nsurge = 2")).ready()
    mark = one.mark()
    for slot in range(8):
        give_job(one, slot)
    one.wait_until(lambda: sum(e["event"] == "worker.exited" for e in one.events) == 8)
    assert len(worn(one)) == 8
    assert min(strength(one, since=mark)) == 8
    assert most_alive(one) <= 10
    assert sorted(serving(one)) == [f"a.{slot}" for slot in range(8)]
    one.stop(0)


def test_where_no_two_may_run_the_old_one_leaves_first_one_at_a_time(program: Start) -> None:
    """With ``surge = 0``: in place, and the second only when the first is back."""
    one = program(WORKS, pool(2, "max_jobs = 1\nsurge = 0")).ready()
    mark = one.mark()
    for slot in range(2):
        give_job(one, slot)
    one.wait_until(lambda: sum(e["event"] == "worker.ready" for e in one.events[mark:]) == 2)
    assert most_alive(one) == 2
    assert min(strength(one, since=mark)) == 1
    assert not one.find("worker.failed")
    one.stop(0)


def test_a_successor_that_does_not_come_up_leaves_the_old_one_serving(program: Start) -> None:
    """Tried again after a backoff, as long as it takes; mended code takes over."""
    one = program(WORKS, pool(1, "max_jobs = 1")).ready()
    mark, old = one.mark(), one.worker("a.0")
    one.tracebacks_expected = True
    code(one, "1 / 0\n" + "#" * 20)
    give_job(one)
    one.wait_until(lambda: sum(e["event"] == "worker.failed" for e in one.events) >= 4)
    failed = [e for e in one.events if e["event"] == "worker.failed"]
    assert all("ZeroDivisionError" in e["reason"] and e["pid"] != old for e in failed)
    assert all(e["delay"] > 0 for e in failed)
    assert serving(one) == {"a.0": 1}
    assert min(strength(one, since=mark)) == 1
    code(one, WORKS + "\n\n\n")
    one.wait_for("worker.exited", pid=old)
    assert min(strength(one, since=mark)) == 1
    one.stop(0)


def test_successors_that_keep_failing_park_the_pool_and_the_old_one_serves_on(program: Start) -> None:
    """After max_restarts; mended code and a scale try again."""
    one = program(WORKS, pool(1, 'max_jobs = 1\nmax_restarts = 2\nwithin = "1h"')).ready()
    one.tracebacks_expected = True
    mark, old = one.mark(), one.worker("a.0")
    code(one, "1 / 0\n" + "#" * 20)
    give_job(one)
    one.wait_for("pool.parked", reason="more than 2 failures in 3600 s")
    assert pids(one) == {"a.0": old}
    assert serving(one) == {"a.0": 1}
    code(one, WORKS + "\n\n\n")
    assert one.cli("scale", "a", "1").returncode == 0
    one.wait_for("worker.exited", pid=old, planned=True)
    assert min(strength(one, since=mark)) == 1
    one.stop(0)


def test_workers_of_a_template_are_recycled_without_another_import(program: Start) -> None:
    """Each successor is forked from the one that has imported already."""
    app = WORKS.replace("import os\n", "import os\n    open('imports', 'a').write('x')\n", 1)
    one = program(app, pool(2, "max_jobs = 1\npreload = true")).ready()
    mark = one.mark()
    for slot in (0, 1, 0):
        old = one.worker(f"a.{slot}")
        give_job(one, slot)
        one.wait_for("worker.exited", pid=old)
    assert min(strength(one, since=mark)) == 2
    assert (one.folder / "imports").read_text() == "x"
    one.stop(0)


def test_scaled_down_while_a_successor_boots(program: Start) -> None:
    """Both who are in a slot leave; the stop that follows finds nobody too many."""
    app = WORKS.replace("def run(worker):", "def run(worker):\n        begin(worker)").replace(
        "import os",
        """import os
    def begin(worker):
        while not os.path.exists("may be ready") and not worker.wait(0.01):
            pass
        worker.ready()""",
        1,
    )
    one = program(app, pool(2, 'max_jobs = 1\nready = "notify"'))
    (one.folder / "may be ready").touch()
    one.ready()
    (one.folder / "may be ready").unlink()
    mark, old = one.mark(), one.worker("a.1")
    give_job(one, 1)
    heir = one.wait_for("worker.started", since=mark)["pid"]
    assert heir != old
    assert one.cli("scale", "a", "1").returncode == 0
    for pid in (old, heir):
        one.wait_for("worker.exited", pid=pid)
    assert list(pids(one)) == ["a.0"]
    assert len(one.stop(0)["workers"]) == 1


# -- age ------------------------------------------------------------------------------


def test_after_max_age_each_is_replaced_not_all_at_the_same_moment(program: Start) -> None:
    """Up to a tenth earlier, by chance; nobody is missing meanwhile."""
    app = "def run(worker):\n    worker.wait()\n"
    one = program(app, pool(4, 'max_age = "1s"\nsurge = 4')).ready()
    mark = one.mark()
    one.wait_until(lambda: sum(e["event"] == "worker.exited" for e in one.events) >= 8)
    born = {e["pid"]: e for e in one.events if e["event"] == "worker.ready"}
    assert all(e["reason"] == "has served for max_age, 1 s" for e in worn(one))
    assert len({e["time"] for e in worn(one)[:4]}) > 1
    assert all(e["pid"] in born for e in worn(one))
    assert min(strength(one, since=mark)) == 4
    assert most_alive(one) <= 8
    one.stop(0)


# -- memory ---------------------------------------------------------------------------

GROWS = """
    import os
    def run(worker):
        worker.wait({pause})
        try:
            os.close(os.open(f"grown.{{worker.slot}}", os.O_CREAT | os.O_EXCL))
            heap = b"x" * (100 << 20)
        except FileExistsError:
            pass
        worker.wait()
"""


@pytest.mark.long
@pytest.mark.parametrize("preload", ["false", "true"])
def test_workers_that_grow_above_max_memory_are_replaced(program: Start, preload: str) -> None:
    """All of them, though they are measured one after the other; the limit is told beside the size."""
    config = pool(6, f'max_memory = "80MiB"\nsurge = 2\npreload = {preload}')
    one = program(GROWS.format(pause=4), config).ready()
    mark, old = one.mark(), set(pids(one).values())
    one.wait_until(lambda: sum(e["event"] == "worker.exited" for e in one.events) == 6, timeout=40)
    assert {e["pid"] for e in worn(one)} == old
    assert all("MiB PSS, max_memory is 80 MiB" in e["reason"] for e in worn(one))
    assert min(strength(one, since=mark)) == 6
    assert most_alive(one) <= 8
    assert not one.find("pool.parked")
    one.stop(0)


@pytest.mark.long
def test_a_worker_born_too_large_parks_its_pool_and_serves_on(program: Start) -> None:
    """Its successor would be as large.  A scale tries again."""
    one = program("def run(worker):\n    worker.wait()\n", pool(1, 'max_memory = "1MiB"')).ready()
    old = one.worker("a.0")
    parked = one.wait_for("pool.parked")
    assert parked["reason"].startswith("a.0 uses ")
    assert parked["reason"].endswith("max_memory is 1 MiB right after it was ready: raise the limit")
    shown = one.status()["pools"]["a"]
    assert shown["state"] == "parked"
    assert [(w["pid"], w["state"]) for w in shown["workers"]] == [(old, "ready")]
    mark = one.mark()
    assert one.cli("scale", "a", "2", "--no-wait").returncode == 0
    one.wait_for("worker.ready", since=mark, worker="a.1")
    again = one.wait_for("pool.parked", since=mark)
    assert again["reason"].startswith("a.1 uses ")
    assert one.worker("a.0") == old
    one.stop(0)


# -- by hand ----------------------------------------------------------------------------


def test_one_more_and_one_less_by_signal(program: Start) -> None:
    """TTIN adds the next slot in every pool, TTOU takes the highest away; the last one stays."""
    two = pool(1, "") + pool(2, "").replace("pools.a", "pools.b")
    one = program("def run(worker):\n    worker.wait()\n", two).ready()
    one.signal(signal.SIGTTIN)
    one.wait_for("worker.ready", worker="a.1")
    one.wait_for("worker.ready", worker="b.2")
    one.signal(signal.SIGTTOU)
    one.wait_for("worker.exited", worker="a.1", code=0)
    one.wait_for("worker.exited", worker="b.2", code=0)
    one.signal(signal.SIGTTOU)
    one.wait_for("worker.exited", worker="b.1")
    one.wait_for("pool.scaled", pool="a", before=1, workers=1)
    assert os.path.exists(f"/proc/{one.worker('a.0')}")
    assert {w["worker"] for w in one.stop(0)["workers"]} == {"a.0", "b.0"}
