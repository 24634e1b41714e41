"""Many wishes: those during a reload are one more after it, with the file as it is then."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from program import Program
from reloading import WAITS, configure, hup, least, outcome, pool, serving, works

Start = Callable[..., Program]

LONG = '"1s"'  # so long is a reload at least: a storm ends while the first one goes on


def reloads(one: Program, since: int = 0) -> list[str]:
    return [e["event"] for e in one.events[since:] if e["event"].startswith("reload.")]


def finish(one: Program) -> None:
    """Until no reload goes on, and none is wished for."""
    one.wait_until(
        lambda: (
            reloads(one).count("reload.done") == one.status()["generation"] - 1
            and one.status()["state"] == "running"
            and reloads(one)[-1] == "reload.done"
        )
    )


def test_a_thousand_at_once_are_two(program: Start) -> None:
    """The one that begins, and one more for those that came since; then a clean one."""
    one = program(WAITS, pool().replace('"200ms"', LONG)).ready()
    one.signal(*[signal.SIGHUP] * 1000)
    one.wait_for("reload.done")
    finish(one)
    assert reloads(one).count("reload.started") <= 2
    mark = one.mark()
    works(one)
    assert reloads(one, mark) == ["reload.started", "reload.rolled", "reload.done"]
    assert least(one) == 2
    one.stop(0)


def test_twenty_five_with_gaps_are_two(program: Start) -> None:
    """From none to 25 ms between them."""
    one = program(WAITS, pool().replace('"200ms"', LONG)).ready()
    for gap in range(25):
        one.signal(signal.SIGHUP)
        one.read_until(lambda: False, timeout=gap / 1000)
    one.wait_for("reload.done")
    finish(one)
    assert reloads(one).count("reload.started") == 2
    assert reloads(one).count("reload.queued") == 1
    works(one)
    assert least(one) == 2
    one.stop(0)


def test_one_during_a_reload_follows_it_once_with_the_latest_file(program: Start) -> None:
    """Neither the file as it was at the wish, nor one more for each wish."""
    one = program(WAITS, pool().replace('"200ms"', LONG)).ready()
    hup(one)
    one.wait_for("worker.ready", generation=2)
    configure(one, ("workers = 2", "workers = 3"))
    hup(one)
    one.wait_for("reload.queued")
    configure(one, ("workers = 3", "workers = 4"))
    hup(one)
    one.wait_for("reload.done", generation=3)
    assert one.wait_for("reload.done", generation=2)["changed"] == []
    assert one.wait_for("reload.done", generation=3)["changed"] == ["pools.a.workers: 2 -> 4"]
    assert serving(one) == {f"a.{n}": 3 for n in range(4)}
    assert reloads(one).count("reload.started") == 2
    one.stop(0)


def test_one_during_a_reload_that_fails_follows_it_as_well(program: Start) -> None:
    """The mended file is on disk before the broken one has failed."""
    more = "start_timeout = '1s'\nready = 'notify'\noptions = {ready = true}"
    app = """
        def run(worker):
            if worker.options["ready"]:
                worker.ready()
            worker.wait()
    """
    one = program(app, pool(more=more)).ready()
    configure(one, ("ready = true", "ready = false"))
    mark = hup(one)
    one.wait_for("worker.started", generation=2)
    configure(one, ("ready = false", "ready = true"))
    hup(one)
    assert outcome(one, mark)["event"] == "reload.failed"
    one.wait_for("reload.done", generation=3)
    assert least(one) == 2
    one.stop(0)


def test_wishes_by_command_know_their_number(program: Start) -> None:
    """The reload that will have read the file after the wish: the next one, for all who wish meanwhile."""
    one = program(WAITS, pool().replace('"200ms"', LONG)).ready()
    asked = [one.client().call("reload")["reload"]]
    one.wait_for("worker.ready", generation=2)
    asked += [one.client().call("reload")["reload"] for _ in range(20)]
    assert asked == [1, *[2] * 20]
    one.wait_for("reload.done", reload=2)
    finish(one)
    assert reloads(one).count("reload.started") == 2
    one.stop(0)


def test_a_storm_during_the_boot_and_in_quiet(program: Start) -> None:
    """A reload is possible at any time before a stop; new workers of a quiet master are quiet."""
    one = program(WAITS, pool())
    one.wait_for("master.started")
    one.wait_for("worker.started")
    one.signal(*[signal.SIGHUP] * 100)
    one.wait_for("reload.done")
    one.ready()
    finish(one)
    one.signal(signal.SIGTSTP)
    one.wait_for("master.quiet")
    works(one)
    assert one.status()["state"] == "quiet"
    assert {w["state"] for w in one.status()["pools"]["a"]["workers"]} == {"quiet"}
    one.signal(signal.SIGCONT)
    one.wait_until(lambda: len(serving(one)) == 2)
    one.stop(0)


def test_one_after_term_is_ignored_and_told(program: Start) -> None:
    app = """
        import os, pathlib
        def run(worker):
            worker.wait()
            while not pathlib.Path("go").exists():
                os.sched_yield()
    """
    one = program(app, pool("a", 1)).ready()
    one.signal(signal.SIGTERM)
    one.wait_for("worker.acknowledged")
    one.signal(signal.SIGHUP)
    one.wait_for("signal.ignored", signal="SIGHUP")
    (one.folder / "go").touch()
    one.wait(0)
    assert reloads(one) == []


@pytest.mark.parametrize("moment", ["on_start", "on_ready"])
def test_one_while_a_hook_of_the_way_up_runs_comes_after_it(program: Start, moment: str) -> None:
    """Nothing is forked beside the hook's thread; what was wished is not forgotten."""
    app = """
        import pathlib
        def hook(context):
            pathlib.Path("begun").touch()
            while not pathlib.Path("go").exists():
                pass
        def run(worker):
            worker.wait()
    """
    one = program(app, pool() + f'[hooks]\n{moment} = "app:hook"\n')
    one.wait_until((one.folder / "begun").exists)
    one.signal(signal.SIGHUP)
    one.wait_until(lambda: one.status()["state"] in ("starting", "running"))
    (one.folder / "go").touch()
    one.wait_for("reload.done")
    one.wait_for("master.ready")
    assert serving(one) == {"a.0": 2, "a.1": 2}
    one.stop(0)
