"""What outlives a worker or the master: helpers, grandchildren, orphans, workers without a master."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from program import Program, wait_gone

Start = Callable[..., Program]
QUICK = 'backoff = {initial = "10ms", max = "80ms"}'
ONE = f'[pools.a]\ntarget = "app:run"\n{QUICK}\n'

# fork() in these programs: the child prints its pid once it ignores TERM, then sleeps.
HELPERS = """
    import os, signal, time

    def helper(*, own_session):
        pid = os.fork()
        if pid == 0:
            if own_session:
                os.setsid()
                if os.fork():
                    os._exit(0)  # its parent is gone: an orphan in a session of its own
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print(f"helper {os.getpid()} end", flush=True)
            while True:
                time.sleep(60)
        if own_session:
            os.waitpid(pid, 0)
"""


def helper(one: Program, but: int = 0) -> int:
    """The pid of a helper that has said so."""
    one.wait_until(lambda: any(pid != but for pid in helpers(one)))
    return next(pid for pid in helpers(one) if pid != but)


def helpers(one: Program) -> list[int]:
    return [
        int(line.split()[1]) for line in one.noise if line.startswith("helper ") and line.endswith(" end")
    ]


def test_helpers_in_the_group_of_a_dead_worker_are_ended(program: Start) -> None:
    """A helper that ignores TERM is killed a second after its worker's death; the new worker lives on."""
    app = (
        HELPERS
        + """
    def run(worker):
        if not os.path.exists("been"):
            open("been", "w").close()
            helper(own_session=False)
        worker.wait()
    """
    )
    one = program(app, ONE).ready()
    pid = helper(one)
    mark = one.mark()
    os.kill(one.worker("a.0"), signal.SIGKILL)
    one.wait_for("worker.ready", since=mark)
    wait_gone(pid, 10)
    assert one.wait_for("orphans.ended", since=mark)["count"] == 1
    one.wait_until(lambda: reaped(pid))
    assert one.stop(0)["workers"][0]["code"] == 0


def reaped(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("own_session", [False, True])
def test_helpers_are_gone_after_a_stop(program: Start, own_session: bool) -> None:
    """Also one that called setsid, double-forked and ignores TERM; it is no cut work: exit 0."""
    app = (
        HELPERS
        + f"""
    def run(worker):
        helper(own_session={own_session})
        worker.wait()
    """
    )
    one = program(app, ONE).ready()
    pid = helper(one)
    one.stop(0)
    assert reaped(pid)
    assert one.find("orphans.ended")


def test_a_daemonized_half_of_a_worker_is_ended_at_the_stop(program: Start) -> None:
    """A worker that forks and leaves has exited; what called setsid lives until the master's stop."""
    app = (
        HELPERS
        + """
    def run(worker):
        helper(own_session=True)
    """
    )
    one = program(app, ONE + 'restart = "on-failure"\n')
    pid = helper(one)
    assert one.wait_for("worker.exited")["code"] == 0
    assert not reaped(pid)
    one.stop(0)
    assert reaped(pid)


def test_orphans_are_reaped_and_not_taken_for_workers(program: Start) -> None:
    """A grandchild whose parent is gone ends while the master runs: reaped, no worker is touched."""
    app = """
        import os
        def run(worker):
            for _ in range(20):
                if (child := os.fork()) == 0:
                    os.setsid()
                    os.fork()
                    os._exit(7)  # one half reaped here, the other an orphan
                os.waitpid(child, 0)
            worker.ready()
            worker.wait()
    """
    one = program(app, ONE + 'ready = "notify"\n').ready()
    one.wait_until(lambda: sum(e["event"] == "orphan.reaped" for e in one.events) == 20)
    assert not [e for e in one.events if e["event"] in ("worker.failed", "worker.exited")]
    assert os.listdir(f"/proc/{one.pid}/task") == [str(one.pid)]
    one.stop(0)


def test_many_workers_that_die_at_once_are_all_replaced(program: Start) -> None:
    """60 workers, killed in one go: each slot has a new one, and nothing of the old is left."""
    app = "def run(worker):\n    worker.wait()\n"
    one = program(app, ONE + "workers = 60\n").ready()
    before = one.fds_and_threads()
    old = {w["pid"] for w in one.status()["pools"]["a"]["workers"]}
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    one.wait_until(lambda: sum(e["event"] == "worker.ready" for e in one.events) == 120)
    workers = one.status()["pools"]["a"]["workers"]
    assert [w["slot"] for w in workers] == list(range(60))
    assert not old & {w["pid"] for w in workers}
    one.wait_until(lambda: one.fds_and_threads() == before)
    one.stop(0)


@pytest.mark.long
def test_descriptors_and_threads_stay_constant_over_replacements(program: Start) -> None:
    """300 replacements later the master holds what it held at first."""
    app = "def run(worker):\n    worker.wait()\n"
    one = program(app, ONE + "workers = 10\n").ready()
    before = one.fds_and_threads()
    for round in range(1, 31):
        for slot in range(10):
            os.kill(one.worker(f"a.{slot}"), signal.SIGKILL)
        one.wait_until(lambda: sum(e["event"] == "worker.ready" for e in one.events) == 10 * (round + 1))  # noqa: B023  # called at once
    one.wait_until(lambda: one.fds_and_threads() == before)
    assert one.status()["pools"]["a"]["restarts"] == 300
    one.stop(0)


DRAINS = """
    import time
    def run(worker):
        print("at work", flush=True)
        worker.wait()
        print(worker.id, "drained", flush=True)
    def deaf(worker):
        print("deaf", flush=True)
        while True:
            time.sleep(0.05)
"""


def test_workers_drain_when_their_master_is_killed(program: Start) -> None:
    """kill -9 of the master: its workers get TERM at once and finish what they do."""
    one = program(DRAINS, ONE + "workers = 3\n").ready()
    one.wait_until(lambda: one.noise.count("at work") == 3)
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)
    assert one.orphans_end(timeout=10) == {"a.0": 0, "a.1": 0, "a.2": 0}
    assert {f"a.{slot} drained" for slot in range(3)} <= set(one.noise)


def test_a_worker_that_does_not_drain_ends_itself_without_a_master(program: Start) -> None:
    """A worker that ignores the stop is killed by its own attendant after stop_timeout."""
    config = ONE + 'stop_timeout = "500ms"\n[pools.b]\ntarget = "app:deaf"\nstop_timeout = "500ms"\n'
    one = program(DRAINS, config).ready()
    one.wait_for_line("deaf")
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)
    assert one.orphans_end(timeout=10) == {"a.0": 0, "b.0": -signal.SIGKILL}


def test_helpers_of_a_worker_end_with_it_when_the_master_is_gone(program: Start) -> None:
    """No master is left to sweep: the worker itself ends what is in its group, also who ignores TERM."""
    app = (
        HELPERS
        + """
    def run(worker):
        helper(own_session=False)
        worker.wait()
    """
    )
    one = program(app, ONE).ready()
    pid = helper(one)
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)
    assert one.orphans_end(timeout=10) == {"a.0": 0}
    wait_gone(pid, 10)
    if not reaped(pid):
        os.waitpid(pid, 0)


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_next_start_works_over_what_a_killed_master_left(program: Start, stubborn: bool) -> None:
    """Stale pidfile and socket are taken over, also while an old worker still drains."""
    app = f"""
        import os, signal
        def run(worker):
            worker.wait()
            if {stubborn} and worker.options.get("first") and os.path.exists("second") is False:
                while not os.path.exists("second"):
                    signal.sigtimedwait([], 0.05)
    """
    first = program(app, ONE + "options = {first = true}\n").ready()
    first.signal(signal.SIGKILL)
    first.wait(-signal.SIGKILL)
    assert first.pidfile.exists()
    assert first.socket.exists()
    second = program(app, ONE).ready()
    assert second.pidfile.read_text() == f"{second.pid}\n"
    assert second.status()["pid"] == second.pid
    (second.folder / "second").touch()
    assert first.orphans_end(timeout=10) == {"a.0": 0}
    assert len(second.status()["pools"]["a"]["workers"]) == 1
    second.stop(0)
