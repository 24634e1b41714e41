"""The kernel says no: no fork, no descriptor, no pidfd, no prctl, no room for the log."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program

from supervisor.control.client import NoMasterError

Start = Callable[..., Program]

WAITS = """
    def run(worker):
        worker.wait()
"""
ONE = '[pools.a]\ntarget = "app:run"\nbackoff = {initial = "10ms", max = "80ms"}\n'

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the kernel refuse")


def refuse(folder: Path, *injections: str) -> list[str]:
    """A wrapper: the master alone, not its workers, is refused these calls."""
    traced = ",".join(injection.partition(":")[0] for injection in injections)
    inject = [word for injection in injections for word in ("-e", f"inject={injection}")]
    return ["strace", "-qq", "-o", str(folder / "strace"), "-e", f"trace={traced}", *inject]


@needs_strace
def test_forks_that_fail_at_boot_are_tried_again(program: Start, tmp_path: Path) -> None:
    """EAGAIN for the first forks: each is told, none counts against the program, the pool comes up."""
    before = refuse(tmp_path, "clone:error=EAGAIN:when=1..4")
    one = program(WAITS, ONE + "workers = 2\nmax_restarts = 1\n", before=before).ready()
    failed = [e for e in one.events if e["event"] == "worker.failed"]
    assert len(failed) == 4
    assert {e["reason"] for e in failed} == {"cannot fork: Resource temporarily unavailable"}
    assert {(e["pid"], e["code"], e["signal"]) for e in failed} == {(None, None, None)}
    assert [w["code"] for w in one.stop(0)["workers"]] == [0, 0]


@needs_strace
def test_a_replacement_that_cannot_be_forked_comes_later(program: Start, tmp_path: Path) -> None:
    """ENOMEM while running: the other worker goes on, the master answers, the slot is filled in the end."""
    before = refuse(tmp_path, "clone:error=ENOMEM:when=3..6")
    one = program(WAITS, ONE + "workers = 2\n", before=before).ready()
    other = one.worker("a.1")
    mark = one.mark()
    os.kill(one.worker("a.0"), signal.SIGKILL)
    one.wait_for("worker.failed", since=mark, reason="cannot fork: Cannot allocate memory")
    assert one.status()["pools"]["a"]["state"] == "degraded"
    one.wait_for("worker.ready", since=mark, worker="a.0")
    assert other == one.status()["pools"]["a"]["workers"][1]["pid"]
    one.stop(0)


@needs_strace
def test_a_stop_while_nothing_can_be_forked(program: Start, tmp_path: Path) -> None:
    """TERM between failing forks: an ordered stop, exit 0."""
    one = program(WAITS, ONE, before=refuse(tmp_path, "clone:error=EAGAIN:when=1+"))
    for _ in range(3):
        one.wait_for("worker.failed", since=one.mark())
    assert one.stop(0)["workers"] == []


@needs_strace
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EMFILE"])
def test_without_pidfds_exits_are_seen_all_the_same(program: Start, tmp_path: Path, error: str) -> None:
    """pidfd_open refused: SIGCHLD tells of exits; replacement and stop work."""
    one = program(WAITS, ONE + "workers = 3\n", before=refuse(tmp_path, f"pidfd_open:error={error}")).ready()
    mark = one.mark()
    for slot in range(3):
        os.kill(one.worker(f"a.{slot}"), signal.SIGKILL)
    for slot in range(3):
        one.wait_for("worker.ready", since=mark, worker=f"a.{slot}")
    assert [w["code"] for w in one.stop(0)["workers"]] == [0, 0, 0]
    assert "INJECTED" in (tmp_path / "strace").read_text()


@needs_strace
def test_without_prctl_there_is_a_warning(program: Start, tmp_path: Path) -> None:
    """No child subreaper: it says what is lost, and works."""
    one = program(WAITS, ONE, before=refuse(tmp_path, "prctl:error=EPERM")).ready()
    assert "orphans" in one.wait_for("master.warning")["reason"]
    one.stop(0)


@needs_strace
def test_workers_that_cannot_have_a_death_signal_see_their_master_die(program: Start, tmp_path: Path) -> None:
    """prctl refused in the workers, too: kill -9 of the master, and they drain all the same."""
    before = refuse(tmp_path, "prctl:error=EPERM")
    before.insert(1, "-f")
    one = program(WAITS, ONE, before=before).ready()
    one.signal(signal.SIGKILL)
    one.wait()
    assert one.orphans_end() == {"a.0": 0}


def test_a_full_log_ends_nothing(program: Start) -> None:
    """log_file on a full device: workers are replaced and the stop is in order."""
    one = program(WAITS, ONE, master='log_file = "/dev/full"')
    one.wait_until(lambda: workers(one))
    [first] = workers(one)
    os.kill(first, signal.SIGKILL)
    one.wait_until(lambda: workers(one) not in ([first], []))
    os.kill(one.process.pid, signal.SIGTERM)
    one.wait(0)


def workers(one: Program) -> list[int]:
    """The pids of ready workers, by the control socket: the log may be unreadable."""
    try:
        found = one.status()["pools"]["a"]["workers"]
    except NoMasterError:
        return []
    return [w["pid"] for w in found if w["state"] == "ready"]


def test_a_blocked_stderr_does_not_hold_up_the_stop(program: Start) -> None:
    """Nobody reads the full pipe: the loop turns, workers are replaced, TERM ends it in bounds."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"x" * 65536)
        except BlockingIOError:
            break
    os.set_blocking(writer, True)
    try:
        one = program(WAITS, ONE, output=writer)
        one.wait_until(lambda: workers(one))
        [first] = workers(one)
        os.kill(first, signal.SIGKILL)
        one.wait_until(lambda: workers(one) not in ([first], []))
        os.kill(one.process.pid, signal.SIGTERM)
        one.wait(0, timeout=10)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_stderr_whose_reader_is_gone(program: Start) -> None:
    """EPIPE on each line: no death, no recursion; exit 0 at the end."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        one = program(WAITS, ONE, output=writer)
        one.wait_until(lambda: workers(one))
        assert one.status()["state"] == "running"
        os.kill(one.process.pid, signal.SIGTERM)
        one.wait(0)
    finally:
        os.close(writer)
