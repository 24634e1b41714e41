"""New code that fails: the old generation keeps full strength, and the reason is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from program import Program
from reloading import STABLE, WAITS, code, configure, fails, least, pids, pool, serving, started, works

Start = Callable[..., Program]

BROKEN = [
    ("import surely_not_there", "ModuleNotFoundError: No module named 'surely_not_there'"),
    ("def run(worker:", "SyntaxError"),
    ("raise RuntimeError('no luck')", "RuntimeError: no luck"),
    ("import sys; sys.exit(0)", "SystemExit: 0"),
    ("import sys; sys.exit('a word')", "a word"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("import os; os._exit(9)", "exit status 9"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ("walk = 1", "run"),
    ("run = 7", "run"),
    ("def run(worker): raise ValueError('too early')", "ValueError: too early"),
]


def test_code_that_does_not_come_up_leaves_everybody_where_he_is(program: Start) -> None:
    """However it fails: the error names it, the workers are the same, and mended code works."""
    slow = pool().replace(STABLE, 'stable_after = "1s"\n')  # a failure may be slow to come
    one = program(WAITS, slow).ready()
    one.tracebacks_expected = True
    before = pids(one)
    for text, words in BROKEN:
        code(one, text)
        error = fails(one)
        assert error.startswith("a.0 (generation "), error
        assert words in error
        assert pids(one) == before
    told = [e for e in one.events if e["event"] == "worker.failed"]
    assert [e["delay"] for e in told] == [None] * len(BROKEN), "nobody says that it starts again"
    code(one, WAITS)
    works(one)
    assert least(one) == 2
    assert set(serving(one).values()) == {len(BROKEN) + 2}
    one.stop(0)


def test_an_import_that_hangs_is_ended_at_start_timeout(program: Start) -> None:
    """It is killed, and counts as a failure of the new generation."""
    one = program(WAITS, pool(more='start_timeout = "500ms"')).ready()
    before = pids(one)
    code(one, "import threading\nthreading.Event().wait()")
    assert "a.0 (generation 2): " in fails(one)
    assert one.find("worker.killed", generation=2)
    assert pids(one) == before
    assert least(one) == 2
    one.stop(0)


def test_one_that_is_never_ready_is_ended_at_start_timeout(program: Start) -> None:
    app = """
        def run(worker):
            worker.ready()
            worker.wait()
    """
    one = program(app, pool(more='ready = "notify"\nstart_timeout = "700ms"')).ready()
    before = pids(one)
    code(one, app.replace("worker.ready()", "pass"))
    assert "not ready in" in fails(one)
    assert pids(one) == before
    assert least(one) == 2
    one.stop(0)


CRASHES = """
    import os
    def run(worker):
        worker.wait(float(worker.options.get("after", 3600)))
        if not worker.stopping:
            os._exit(5)
"""


def test_one_that_crashes_a_second_after_it_was_ready_is_found_in_time(program: Start) -> None:
    """Within stable_after no old worker was told to leave."""
    one = program(CRASHES, pool(more="options = {}")).ready()
    before = pids(one)
    configure(one, ("options = {}", "options = {after = 1}"), ('"200ms"', '"10s"'))
    assert "a.0 (generation 2): exit status 5" in fails(one)
    assert one.find("worker.ready", generation=2)
    assert pids(one) == before
    assert least(one) == 2
    one.stop(0)


BAD_SLOT = """
    import os
    def run(worker):
        if worker.slot == worker.options["bad"]:
            os._exit(5)
        worker.ready()
        worker.wait()
"""


@pytest.mark.parametrize(("ready", "fewest"), [("notify", 8), ("auto", 7)])
def test_the_second_new_worker_crashes_while_they_roll(program: Start, ready: str, fewest: int) -> None:
    """Those that took over are replaced by workers of the old settings, none before such a one is ready.

    One that says that it is ready and crashes at once has cost its predecessor, and no more than that.
    """
    one = program(BAD_SLOT, pool(workers=8, more=f'options = {{bad = 9}}\nready = "{ready}"')).ready()
    before = pids(one)
    configure(one, ("bad = 9", "bad = 1"))
    assert "a.1 (generation 2): exit status 5" in fails(one)
    one.wait_until(lambda: list(serving(one).values()) == [1] * 8)
    assert [e["worker"] for e in started(one, 2)][:2] == ["a.0", "a.1"]
    assert pids(one)["a.7"] == before["a.7"]
    assert pids(one)["a.1"] == before["a.1"] or ready == "auto"
    assert least(one) >= fewest
    assert one.status()["pools"]["a"]["state"] == "ready"
    one.stop(0)


COUNTS = """
    import os
    def run(worker):
        with open("births", "a") as file:
            file.write(".")
        if worker.options["odd"] and os.path.getsize("births") % 2:
            os._exit(5)
        worker.ready()
        worker.wait()
"""


def test_every_second_new_worker_fails(program: Start) -> None:
    """The first failure takes everything back; there was never one too few, and the old settings hold."""
    one = program(COUNTS, pool(workers=5, more="options = {odd = false}\nready = 'notify'")).ready()
    assert (one.folder / "births").stat().st_size == 5
    configure(one, ("odd = false", "odd = true"))
    assert "exit status 5" in fails(one)
    assert len(started(one, 2)) == 2
    one.wait_until(lambda: list(serving(one).values()) == [1] * 5)
    assert least(one) == 5
    configure(one, ("odd = true", "odd = false"))
    works(one)
    assert least(one) == 5
    one.stop(0)


def test_a_failure_at_the_very_end_takes_back_all(program: Start) -> None:
    """The last of five fails: the four that had taken over go back one by one, as carefully."""
    more = "options = {bad = 9}\nready = 'notify'\nsurge = 2"
    one = program(BAD_SLOT, pool(workers=5, more=more)).ready()
    configure(one, ("bad = 9", "bad = 4"))
    assert "a.4 (generation 2): exit status 5" in fails(one)
    one.wait_until(lambda: list(serving(one).values()) == [1] * 5 and len(pids(one)) == 5)
    assert len(started(one, 2)) == 5
    assert least(one) == 5
    one.stop(0)


def test_a_roll_back_does_not_wait_for_code_that_is_broken(program: Start) -> None:
    """Without preload it starts what is on disk; where that does not come up, those who serve go on serving.

    A further reload, with mended code, makes everything new.
    """
    one = program(BAD_SLOT, pool(workers=3, more="options = {bad = 9}\nready = 'notify'")).ready()
    code(one, BAD_SLOT.replace('worker.options["bad"]', "1"))
    assert "a.1 (generation 2): exit status 5" in fails(one)
    code(one, "raise RuntimeError")
    os.kill(one.worker("a.2"), signal.SIGKILL)
    one.tracebacks_expected = True
    mark = one.mark()
    one.wait_for("worker.failed", since=mark, worker="a.2", code=1)
    assert len(serving(one)) == 2
    code(one, BAD_SLOT)
    works(one)
    assert list(serving(one).values()) == [3] * 3
    one.stop(0)
