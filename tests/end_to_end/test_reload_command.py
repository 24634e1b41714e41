"""`reload`, as a person types it: it follows to the end, and its exit status is the outcome."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from program import PATIENCE, Program
from reloading import WAITS, code, configure, pool, serving

Start = Callable[..., Program]


@contextmanager
def following(one: Program) -> Iterator[subprocess.Popen[str]]:
    """`reload` in the background."""
    command = [sys.executable, "-m", "supervisor", "reload", "-c", str(one.config)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_is_0_and_names_what_changed(program: Start) -> None:
    """After the end: everybody is new when it returns."""
    one = program(WAITS, pool()).ready()
    configure(one, ("workers = 2", "workers = 3"))
    done = one.cli("reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("reloaded after ")
    assert done.stdout.endswith(": generation 2; changed: pools.a.workers: 2 -> 3\n")
    assert serving(one) == {f"a.{n}": 2 for n in range(3)}
    last = one.status()["last_reload"]
    assert (last["ok"], last["error"]) == (True, None)
    assert last["at"] is not None
    assert one.status()["state"] == "running"
    one.stop(0)


def test_it_is_1_with_the_reason_and_the_advice(program: Start) -> None:
    """One line each for code and file; `status` says it too, until one works."""
    one = program(WAITS, pool()).ready()
    one.tracebacks_expected = True
    code(one, "import surely_not_there")
    done = one.cli("reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "surely_not_there" in done.stderr
    assert "goes on" in done.stderr
    assert "last reload failed" in one.cli("status").stdout
    assert "surely_not_there" in one.status()["last_reload"]["error"]
    code(one, WAITS)
    good = one.config.read_text()
    one.config.write_text(good + "wokers = 3\nnice = 'x'\n")
    done = one.cli("reload")
    assert done.returncode == 1
    assert "did you mean 'workers'?" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("supervisord-lite: not reloaded")
    one.config.write_text(good)
    assert one.cli("reload").returncode == 0
    assert "last reload failed" not in one.cli("status").stdout
    one.stop(0)


def test_without_waiting_it_only_asks(program: Start) -> None:
    """0 at once, whatever comes of it."""
    one = program(WAITS, pool().replace('"200ms"', '"600s"')).ready()
    done = one.cli("reload", "--no-wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    one.wait_for("worker.ready", generation=2)
    status = one.status()
    assert status["state"] == status["pools"]["a"]["state"] == "reloading"
    assert status["generation"] == 1
    assert status["pools"]["a"]["generation"] == 2
    assert status["pools"]["a"]["ready"] >= 2
    shown = [(w["id"], w["generation"]) for w in status["pools"]["a"]["workers"]]
    assert shown == [("a.0", 1), ("a.0", 2), ("a.1", 1)]
    one.stop(0)


def test_who_asks_during_a_reload_hears_of_the_next_one(program: Start) -> None:
    """And not of the one that goes on, which had read the file before; two who ask are one more reload."""
    app = """
        import pathlib
        def run(worker):
            while worker.generation == 2 and not (worker.stopping or pathlib.Path("go").exists()):
                worker.wait(0.02)
            worker.ready()
            worker.wait()
    """
    one = program(app, pool(more='ready = "notify"')).ready()
    one.signal(signal.SIGHUP)
    one.wait_for("worker.started", generation=2)
    with following(one) as process:
        one.wait_for("reload.queued")
        assert one.client().call("reload") == {"reload": 2}
        (one.folder / "go").touch()
        told, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "generation 3" in told
    one.wait_for("reload.done", generation=3)
    assert one.status()["state"] == "running"
    assert one.find("reload.started", generation=4) is None
    one.stop(0)


def test_a_stop_meanwhile_is_1(program: Start) -> None:
    """It says so, and what to do."""
    one = program(WAITS, pool().replace('"200ms"', '"600s"')).ready()
    with following(one) as process:
        one.wait_for("worker.ready", generation=2)
        one.signal(signal.SIGTERM)
        one.wait(0)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "the master stops (SIGTERM)" in said
    assert said.count("\n") == 1


def test_ctrl_c_ends_the_following_only(program: Start) -> None:
    """The reload goes on."""
    one = program(WAITS, pool().replace('"200ms"', '"1s"')).ready()
    with following(one) as process:
        one.wait_for("worker.ready", generation=2)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    one.wait_for("reload.done")
    one.stop(0)


def test_where_no_master_runs_it_is_3(program: Start) -> None:
    one = program(WAITS, pool()).ready()
    one.stop(0)
    done = one.cli("reload")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
