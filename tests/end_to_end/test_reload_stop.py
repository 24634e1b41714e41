"""TERM, INT, USR2 and QUIT in each stage of a reload: they win at once, and both generations end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program
from reloading import WAITS, code, configure, hup, outcome, pool, works

Start = Callable[..., Program]

# Who is in the pool `slow`, or holds a place of the first generation, finishes when the file `go` is there.
APP = """
    import os, pathlib, threading
    def run(worker):
        if worker.options["hangs"]:
            pathlib.Path("begun").touch()
            threading.Event().wait()
        worker.ready()
        worker.wait()
        while worker.options["slow"] and not pathlib.Path("go").exists():
            os.sched_yield()
"""
SLOW_IMPORT = "import pathlib, threading\npathlib.Path('begun').touch()\nthreading.Event().wait()\n"
MORE = "ready = 'notify'\noptions = {slow = false, hangs = false}"
NEW_SOCKET = "sockets = ['new']\n[sockets.new]\nbind = 'unix:new.sock'\n"


def read(one: Program) -> None:
    """The reader hangs in the import of a module of hooks."""
    (one.folder / "slow.py").write_text(SLOW_IMPORT)
    one.config.write_text(one.config.read_text() + "[hooks]\nimport = ['slow']\n")
    hup(one)
    one.wait_until((one.folder / "begun").exists)


def start(one: Program) -> None:
    """A new worker is not ready, and never will be."""
    configure(one, ("hangs = false", "hangs = true"))
    one.config.write_text(one.config.read_text() + NEW_SOCKET)
    hup(one)
    one.wait_until((one.folder / "begun").exists)
    one.wait_for("worker.started", generation=2)
    assert (one.folder / "new.sock").is_socket()


def prove(one: Program) -> None:
    """A new worker is ready, and has to be so for long."""
    configure(one, ('"200ms"', '"600s"'))
    one.config.write_text(one.config.read_text() + NEW_SOCKET)
    hup(one)
    one.wait_for("worker.ready", generation=2)


def roll(one: Program) -> None:
    """The first old worker finishes its work, and the others are not told yet."""
    one.config.write_text(one.config.read_text() + NEW_SOCKET)
    hup(one)
    one.wait_for("worker.acknowledged", generation=1)


def watch(one: Program) -> None:
    """All are new; one that could not be tried beside the old one has to be ready for long."""
    one.config.write_text(one.config.read_text() + NEW_SOCKET)
    hup(one)
    one.wait_for("reload.rolled")
    one.wait_for("worker.exited", worker="a.1", generation=1)


def clear(one: Program) -> None:
    """All are new; the worker of a pool that was removed finishes its work."""
    one.config.write_text(one.config.read_text().partition("# slow\n")[0] + NEW_SOCKET)
    hup(one)
    one.wait_for("worker.acknowledged", pool="slow")
    one.wait_for("worker.exited", worker="a.1")
    assert one.status()["generation"] == 2


STAGES: list[Callable[[Program], None]] = [read, start, prove, roll, watch, clear]
SIGNALS = {signal.SIGTERM: 0, signal.SIGINT: 0, signal.SIGUSR2: 4, signal.SIGQUIT: 3}


def begin(program: Start, stage: Callable[[Program], None], **more: str) -> Program:
    """In that stage of a reload."""
    slow = MORE.replace("slow = false", "slow = true")
    first = pool(workers=2, more=slow if stage is roll else MORE)
    second = "# slow\n" + pool("slow", 1, slow) if stage is clear else ""
    if stage is watch:
        second = pool("alone", 1, f"surge = 0\n{MORE}").replace('"200ms"', '"600s"')
    one = program(APP, first + second, **more).ready()
    stage(one)
    assert one.status()["state"] == "reloading"
    return one


def living(one: Program) -> set[int]:
    """Who is not gone yet."""
    born = {e["pid"] for e in one.events if e["event"] == "worker.started"}
    return born - {e["pid"] for e in one.events if e["event"] in {"worker.exited", "worker.failed"}}


def check(one: Program, reason: str, there: set[int]) -> None:
    """The report knows both generations, the reload has failed, and nothing of it is left."""
    failed = [e["error"] for e in one.events if e["event"] == "reload.failed"]
    assert failed == [f"the master is stopping: {reason}"]
    assert one.find("reload.done") is None
    assert {w["pid"] for w in one.report()["workers"]} == there, one.log()
    assert not (one.folder / "new.sock").exists()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: signal.Signals(n).name)
@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.__name__)
def test_a_stop_wins_in_each_stage(program: Start, stage: Callable[[Program], None], number: int) -> None:
    """Nothing is waited for but work that is being done; the exit status is that of any stop."""
    one = begin(program, stage, master='stop_timeout = "60s"')
    there = living(one)
    one.signal(number)
    one.wait_for("master.stopping")
    (one.folder / "go").touch()
    hung = stage is start and number != signal.SIGQUIT
    if hung:  # application code that does not look: a second signal is how a person ends that
        one.wait_for("worker.acknowledged", generation=1)
        one.signal(signal.SIGQUIT)
    one.wait(3 if hung else SIGNALS[signal.Signals(number)])
    check(one, signal.Signals(number).name, there)
    if not hung:
        assert not any(w["killed"] for w in one.report()["workers"]) or number == signal.SIGQUIT
    assert one.report()["seconds"] < 30


@pytest.mark.parametrize("stage", [start, roll, clear], ids=lambda s: s.__name__)
def test_the_one_deadline_holds_for_both_generations(
    program: Start, stage: Callable[[Program], None]
) -> None:
    """Who does not finish is killed at stop_timeout after the signal, however old or new."""
    one = begin(program, stage, master='stop_timeout = "2s"')
    there = living(one)
    one.stop(3)
    check(one, "SIGTERM", there)
    assert any(w["killed"] for w in one.report()["workers"])
    assert one.report()["seconds"] < 15


def test_a_reader_that_hangs_keeps_nobody(program: Start, tmp_path: Path) -> None:
    """TERM wins, and it is gone with the rest."""
    hang = f"import os, time\nwhile os.path.exists({str(tmp_path / 'hang')!r}):\n    time.sleep(0.01)\n"
    (tmp_path / "sitecustomize.py").write_text(hang)  # what an interpreter imports first
    one = program(WAITS, pool(), env={"PYTHONPATH": str(tmp_path)}).ready()
    (tmp_path / "hang").touch()
    hup(one)
    one.wait_for("inner.started", worker="@reader.0")
    assert one.status()["state"] == "reloading"
    one.stop(0)
    check(one, "SIGTERM", {e["pid"] for e in one.events if e["event"] == "worker.started"})


def test_hup_and_term_at_once(program: Start) -> None:
    """Whichever is seen first."""
    one = program(WAITS, pool()).ready()
    one.signal(signal.SIGHUP, signal.SIGTERM)
    one.wait(0)
    assert len(one.report()["workers"]) == 2
    assert one.find("reload.done") is None


@pytest.mark.parametrize("lines", range(1, 16, 2))
def test_term_after_each_step(program: Start, lines: int) -> None:
    """As soon as so many lines of a reload are in the log."""
    one = program(WAITS, pool(workers=3, more="surge = 2").replace('"200ms"', '"10ms"')).ready()
    mark = hup(one)
    one.wait_until(lambda: len(one.events) >= mark + lines)
    one.stop(0)
    assert not any(w["killed"] for w in one.report()["workers"])
    ends = [e["event"] for e in one.events if e["event"] in {"reload.done", "reload.failed"}]
    assert len(ends) == 1


def test_usr2_and_then_term(program: Start) -> None:
    """A stop only gets firmer, also when it began in a reload."""
    one = begin(program, roll, master='stop_timeout = "60s"')
    one.signal(signal.SIGUSR2)
    one.wait_for("master.stopping")
    one.signal(signal.SIGTERM)
    one.wait_for("master.stopping", reason="SIGTERM")
    (one.folder / "go").touch()
    one.wait(0)
    assert outcome(one)["event"] == "reload.failed"


# In the reader and in workers it does nothing.
ONLY_IN_THE_MASTER = """
    import os, pathlib, threading
    if pathlib.Path("run/m.pid").read_text().strip() == str(os.getpid()):
        pathlib.Path("begun").touch()
        {there}
"""


def test_a_stop_while_new_hooks_are_imported_by_the_master(program: Start) -> None:
    """An import that hangs only here takes at most half of stop_timeout, as at the start."""
    one = program(WAITS, pool(), master='stop_timeout = "4s"').ready()
    code(one, ONLY_IN_THE_MASTER.format(there="threading.Event().wait()"), "late.py")
    one.config.write_text(one.config.read_text() + "[hooks]\nimport = ['late']\n")
    hup(one)
    one.wait_until((one.folder / "begun").exists)
    one.wait_for("worker.exited", worker="a.1", generation=1)
    one.stop(0)
    assert len(one.report()["workers"]) == 2
    assert not any(w["killed"] for w in one.report()["workers"])


def test_hooks_that_do_not_import_in_the_master_are_told(program: Start) -> None:
    """Everything else of the reload holds, and the master lives."""
    one = program(WAITS, pool()).ready()
    one.tracebacks_expected = True
    code(one, ONLY_IN_THE_MASTER.format(there="raise RuntimeError('not here')"), "late.py")
    one.config.write_text(one.config.read_text() + "[hooks]\nimport = ['late']\n")
    works(one)
    one.wait_for("hook.failed")
    mark = one.mark()
    os.kill(one.worker("a.0"), signal.SIGKILL)
    one.wait_for("worker.ready", since=mark, worker="a.0")
    one.stop(0)
