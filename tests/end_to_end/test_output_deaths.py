"""What workers print: all of it gets to its file, whoever dies on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from printed import COUNTS, QUICK, TO_FILE, lines, numbers
from program import Program

Start = Callable[..., Program]


def drainer(one: Program) -> int:
    """The pid of the one that is there now, once it is ready."""
    one.wait_for("inner.ready", worker="@output.0")
    pids = [e["pid"] for e in one.events if e["event"] == "inner.ready" and e.get("worker") == "@output.0"]
    return int(pids[-1])


def new_drainer(one: Program, since: int) -> int:
    one.wait_for("inner.ready", since=since, worker="@output.0")
    return drainer(one)


def test_what_is_in_the_pipe_outlives_the_drainer(program: Start) -> None:
    """Written while it was stopped, read by the next one after kill -9; the worker noticed nothing.

    The master is stopped as well: else it would have had the drainer go on.
    """
    app = """
        import os
        def run(worker):
            print("before")
            while not os.path.exists("go"):
                worker.wait(0.01)
            for n in range(500):
                print("line", n)
            open("written", "w").close()
            worker.wait()
    """
    one = program(app, TO_FILE).ready()
    one.wait_until(lambda: lines(one) == ["before"])
    first = drainer(one)
    one.signal(signal.SIGSTOP)
    os.kill(first, signal.SIGSTOP)
    (one.folder / "go").touch()
    one.wait_until((one.folder / "written").exists)
    assert lines(one) == ["before"]
    mark = one.mark()
    os.kill(first, signal.SIGKILL)
    one.signal(signal.SIGCONT)
    assert new_drainer(one, mark) != first
    one.wait_until(lambda: len(lines(one)) == 501)
    assert numbers(lines(one)[1:]) == list(range(500))
    assert one.find("inner.failed", worker="@output.0")
    assert not one.find("worker.failed")
    one.stop(0)


def test_a_drainer_killed_in_full_run_costs_a_worker_nothing(program: Start) -> None:
    """Neither EPIPE nor a pause without end; what was written while there was none is there."""
    one = program(COUNTS, TO_FILE).ready()
    for _ in range(5):
        before = len(lines(one))
        one.wait_until(lambda before=before: len(lines(one)) > before + 5)
        mark = one.mark()
        os.kill(drainer(one), signal.SIGKILL)
        new_drainer(one, mark)
    one.stop(0)
    assert not one.find("worker.failed")
    found = numbers(lines(one))
    assert found == sorted(set(found))
    assert len(set(range(found[-1])) - set(found)) <= 5


def test_a_drainer_that_dies_with_the_stop_comes_back_for_the_last_words(program: Start) -> None:
    """The workers are gone long before its backoff is over; the master waits for it."""
    app = """
        def run(worker):
            worker.ready()
            worker.wait()
            for n in range(500):
                print("line", n)
    """
    one = program(app, TO_FILE + 'ready = "notify"\n').ready()
    one.wait_for("inner.ready", worker="@output.0")
    os.kill(drainer(one), signal.SIGKILL)
    one.wait_for("inner.failed", worker="@output.0")
    one.stop(0)
    assert numbers(lines(one)) == list(range(500)), one.log()


@pytest.mark.parametrize("preload", ["false", "true"])
def test_a_killed_worker_leaves_its_last_lines_in_the_log(program: Start, preload: str) -> None:
    """The last 20 of stdout and stderr, also the one without an end."""
    app = """
        import os, signal, sys
        def run(worker):
            for n in range(30):
                print("line", n)
            print("no end", end="", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    one = program(app, TO_FILE + f'stderr = "out.log"\npreload = {preload}\n')
    failed = one.wait_for("worker.failed", worker="a.0")
    assert failed["output"] == [*(f"line {n}" for n in range(11, 30)), "no end"]
    one.stop(0)


def test_in_text_the_last_lines_stand_below_the_failure(program: Start) -> None:
    app = """
        import sys
        def run(worker):
            print("what I did")
            print("what went wrong", file=sys.stderr)
            sys.exit(7)
    """
    config = TO_FILE + 'stderr = "err.log"\nbackoff = { initial = "1h", max = "1h" }\n'
    one = program(app, config.replace(QUICK, ""), log_format="text")
    one.wait_for_line("| what went wrong")
    place = next(n for n, line in enumerate(one.noise) if "a.0 failed: exit status 7" in line)
    assert sorted(one.noise[place + 1 : place + 3]) == ["    | what I did", "    | what went wrong"]
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)


def test_the_master_killed_last_words_still_get_to_the_file(program: Start) -> None:
    """The workers hear of its death and finish; the drainer stays until the last of them is gone."""
    app = """
        def run(worker):
            print("begun")
            worker.wait()
            for n in range(1000):
                print("line", n)
            print("finished")
    """
    one = program(app, TO_FILE).ready()
    one.wait_until(lambda: lines(one) == ["begun"])
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)
    ends = one.orphans_end()
    assert ends == {"a.0": 0, "@output.0": 0}
    assert lines(one)[-1] == "finished"
    assert numbers(lines(one)[1:-1]) == list(range(1000))


def test_a_helper_that_keeps_the_pipe_open_delays_nothing(program: Start) -> None:
    """The worker's last lines are told at its death; what the helper says later is in the file, too."""
    app = """
        import os, sys, time
        def run(worker):
            if not os.path.exists("been"):
                open("been", "w").close()
                told, tell = os.pipe()
                if not os.fork():
                    os.setsid()
                    os.write(tell, b".")
                    while not os.path.exists("go"):
                        time.sleep(0.01)
                    print("the helper", flush=True)
                    time.sleep(100)
                os.read(told, 1)  # out of reach of what ends the group
                print("the worker")
                sys.exit(7)
            worker.wait()
    """
    one = program(app, TO_FILE)
    failed = one.wait_for("worker.failed")
    assert failed["output"] == ["the worker"]
    (one.folder / "go").touch()
    one.wait_until(lambda: lines(one) == ["the worker", "the helper"])
    one.ready()
    report = one.stop(0)
    assert report["seconds"] < 15
    assert one.find("orphans.ended", count=1)
