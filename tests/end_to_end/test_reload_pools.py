"""A file with other pools, or other sizes: only the difference comes and goes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program, wait_gone
from reloading import WAITS, configure, fails, hup, least, outcome, pids, pool, serving, started, works

Start = Callable[..., Program]


# -- sizes ---------------------------------------------------------------------------


def test_more_workers_come_up_at_once(program: Start) -> None:
    """From the trial on; the change is named."""
    one = program(WAITS, pool()).ready()
    configure(one, ("workers = 2", "workers = 5"))
    assert works(one)["changed"] == ["pools.a.workers: 2 -> 5"]
    assert serving(one) == {f"a.{n}": 2 for n in range(5)}
    assert least(one) == 2
    one.stop(0)


def test_fewer_workers_are_left_at_the_end_and_the_highest_slots_go(program: Start) -> None:
    one = program(WAITS, pool(workers=5)).ready()
    configure(one, ("workers = 5", "workers = 2"))
    assert works(one)["changed"] == ["pools.a.workers: 5 -> 2"]
    assert serving(one) == {"a.0": 2, "a.1": 2}
    assert least(one) == 2
    assert len(pids(one)) == 2
    one.stop(0)


@pytest.mark.parametrize(("size", "other"), [(2, 5), (5, 2)])
def test_a_size_that_was_tried_in_vain_is_taken_back(program: Start, size: int, other: int) -> None:
    """Up or down: as many as before, and the same ones."""
    app = """
        def run(worker):
            worker.options["wanted"]
            worker.wait()
    """
    one = program(app, pool(workers=size, more="options = {wanted = 1}")).ready()
    one.tracebacks_expected = True
    before = pids(one)
    configure(one, (f"workers = {size}", f"workers = {other}"), ("wanted", "unwanted"))
    assert "KeyError: 'wanted'" in fails(one)
    one.wait_until(lambda: pids(one) == before)
    assert least(one) == size
    one.stop(0)


def test_a_pool_that_was_scaled_by_hand_keeps_its_size(program: Start) -> None:
    """Unless its size in the file changes: then that holds."""
    one = program(WAITS, pool()).ready()
    assert one.cli("scale", "a", "4").returncode == 0
    works(one)
    assert serving(one) == {f"a.{n}": 2 for n in range(4)}
    assert least(one) == 4
    configure(one, ("workers = 2", "workers = 3"))
    works(one)
    assert serving(one) == {f"a.{n}": 3 for n in range(3)}
    one.stop(0)


def test_scaled_while_it_reloads(program: Start) -> None:
    """The later word holds, and the new places have new workers."""
    one = program(WAITS, pool(more="").replace('"200ms"', '"1s"')).ready()
    mark = hup(one)
    one.wait_for("worker.ready", generation=2)
    one.signal(signal.SIGTTIN)
    assert outcome(one, mark)["event"] == "reload.done"
    one.wait_until(lambda: serving(one) == {f"a.{n}": 2 for n in range(3)})
    assert least(one) >= 2
    one.stop(0)


def test_a_pool_that_is_scaled_to_nothing_has_nothing_to_prove(program: Start) -> None:
    one = program(WAITS, pool() + pool("b", 1)).ready()
    assert one.cli("scale", "a", "0").returncode == 0
    works(one)
    assert (serving(one), serving(one, "b")) == ({}, {"b.0": 2})
    one.stop(0)


# -- pools that come and go -------------------------------------------------------------


def test_added_removed_and_renamed_pools(program: Start) -> None:
    """The new one is up before the old one leaves; what stays is rolled as ever."""
    one = program(WAITS, pool() + pool("old", 2)).ready()
    configure(one, ("[pools.old]", "[pools.new]"))
    mark = one.mark()
    done = works(one)
    assert done["changed"] == ["pools.old: removed", "pools.new: added"]
    assert set(one.status()["pools"]) == {"a", "new"}
    assert serving(one, "new") == {"new.0": 2, "new.1": 2}
    assert least(one) == 2
    names = [(e["event"], e.get("pool")) for e in one.events[mark:]]
    last_up = max(i for i, name in enumerate(names) if name == ("worker.ready", "new"))
    assert last_up < names.index(("worker.stopping", "old"))
    assert all(e["code"] == 0 for e in one.events if e["event"] == "worker.exited" and e["pool"] == "old")
    one.stop(0)


NEEDS = """
    import os, pathlib
    def run(worker):
        if worker.pool == "new" and worker.options["bad"]:
            os._exit(5)
        worker.ready()
        worker.wait()
        while worker.pool == "new" and not pathlib.Path("go").exists():
            os.sched_yield()
"""
NEW = '[pools.new]\ntarget = "app:run"\nready = "notify"\nworkers = {size}\noptions = {{bad = {bad}}}\n'


def test_a_new_pool_that_fails_refuses_the_whole(program: Start) -> None:
    """The others are as they were, and the new one is gone."""
    one = program(NEEDS, pool()).ready()
    before = pids(one)
    one.config.write_text(one.config.read_text() + NEW.format(size=2, bad="true"))
    assert fails(one).startswith("new.")
    one.wait_until(lambda: set(one.status()["pools"]) == {"a"} and pids(one) == before)
    assert least(one) == 2
    configure(one, ("bad = true", "bad = false"))
    (one.folder / "go").touch()
    works(one)
    assert set(serving(one, "new").values()) == {3}
    one.stop(0)


def test_a_failed_new_pool_that_is_slow_to_leave_does_not_spoil_the_next_reload(program: Start) -> None:
    """Its workers still drain while the mended one is tried under the same name."""
    app = NEEDS.replace('worker.options["bad"]', 'worker.options["bad"] and worker.slot == 1')
    one = program(app, pool()).ready()
    one.config.write_text(one.config.read_text() + NEW.format(size=2, bad="true"))
    assert "new.1 (generation 2): exit status 5" in fails(one)
    one.wait_for("worker.acknowledged", worker="new.0")
    configure(one, ("bad = true", "bad = false"))
    mark = hup(one)
    one.wait_for("worker.ready", worker="new.1", generation=3)
    (one.folder / "go").touch()
    assert outcome(one, mark)["event"] == "reload.done", one.log()
    assert serving(one, "new") == {"new.0": 3, "new.1": 3}
    one.stop(0)


def test_a_pool_is_removed_and_comes_back_while_the_old_one_drains(program: Start) -> None:
    """The slow one is waited for by its own reload; then the name is free for new workers."""
    app = """
        import os, pathlib
        def run(worker):
            worker.wait()
            while worker.pool == "slow" and not pathlib.Path("go").exists():
                os.sched_yield()
    """
    one = program(app, pool(workers=1) + "# here\n" + pool("slow", 1)).ready()
    good = one.config.read_text()
    one.config.write_text(good.partition("# here\n")[0])
    mark = hup(one)
    one.wait_for("worker.acknowledged", pool="slow")
    assert one.status()["state"] == "reloading"
    one.config.write_text(good)
    hup(one)
    one.wait_for("reload.queued")
    (one.folder / "go").touch()
    assert outcome(one, mark)["event"] == "reload.done"
    one.wait_for("reload.done", generation=3)
    assert serving(one, "slow") == {"slow.0": 3}
    one.stop(0)


# -- after ------------------------------------------------------------------------------


def test_new_pools_come_up_in_their_order(program: Start) -> None:
    """`after` holds for them as at the start."""
    one = program(WAITS, pool()).ready()
    last = pool("last", 1, 'after = ["first"]')
    one.config.write_text(one.config.read_text() + last + pool("first", 2))
    works(one)
    names = [(e["event"], e.get("pool")) for e in one.events]
    assert names.index(("pool.ready", "first")) < names.index(("worker.started", "last"))
    one.stop(0)


def test_an_old_pool_that_is_to_come_after_a_new_one_keeps_its_strength(program: Start) -> None:
    """While the new one comes up, who dies of the old one is replaced."""
    app = """
        import pathlib
        def run(worker):
            while worker.pool == "new" and not pathlib.Path("go").exists():
                worker.wait(0.02)
            worker.ready()
            worker.wait()
    """
    one = program(app, pool(more='ready = "notify"\n# after')).ready()
    configure(one, ("# after", 'after = ["new"]'))
    one.config.write_text(one.config.read_text() + pool("new", 1, 'ready = "notify"'))
    mark = hup(one)
    one.wait_for("worker.started", pool="new")
    os.kill(one.worker("a.1"), signal.SIGKILL)
    one.wait_for("worker.ready", since=mark, pool="a")
    one.wait_until(lambda: len(serving(one)) == 2)
    (one.folder / "go").touch()
    assert outcome(one, mark)["event"] == "reload.done"
    one.stop(0)


def test_a_cycle_is_refused(program: Start) -> None:
    one = program(WAITS, pool()).ready()
    one.config.write_text(
        one.config.read_text() + pool("b", 1, 'after = ["c"]') + pool("c", 1, 'after = ["b"]')
    )
    assert "after" in fails(one)
    assert started(one, 2) == []
    one.stop(0)


def test_a_removed_pool_takes_its_helpers_along(program: Start, tmp_path: Path) -> None:
    """What its workers began in their process group is ended with them."""
    app = """
        import pathlib, subprocess
        def run(worker):
            if worker.pool == "b":
                helper = subprocess.Popen(["sleep", "1000"])
                pathlib.Path("helper").write_text(str(helper.pid))
            worker.ready()
            worker.wait()
    """
    more = 'ready = "notify"'
    one = program(app, pool(more=more) + "# here\n" + pool("b", 1, more)).ready()
    helper = int((tmp_path / "helper").read_text())
    one.config.write_text(one.config.read_text().partition("# here\n")[0])
    works(one)
    wait_gone(helper)
    one.stop(0)
