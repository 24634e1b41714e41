"""Hooks of the master that do what few hooks should: fork, leave children, flood the log, ask for a stop."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

from program import Program

Start = Callable[..., Program]

POOL = """
    [pools.a]
    target = "app:run"
"""


def test_a_hook_that_forks_makes_no_second_master(program: Start) -> None:
    """Its child comes back from the hook and ends; nothing of it stays, and the stop does not wait for it."""
    app = """
        import os
        def forks(context):
            os.fork()
        def run(worker):
            worker.wait()
    """
    moments = ("on_start", "on_ready", "on_stop", "on_exit")
    config = POOL + "[hooks]\n" + "\n".join(f'{moment} = "app:forks"' for moment in moments)
    one = program(app, config).ready()
    report = one.stop(0)
    assert report["seconds"] < 3
    assert [e["event"] for e in one.events].count("master.started") == 1


def test_a_hook_that_leaves_a_child_behind(program: Start) -> None:
    """A process that a hook began and forgot is ended with the master."""
    app = """
        import subprocess
        def begins(context):
            subprocess.Popen(["sleep", "1000"])
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_ready = "app:begins"\non_exit = "app:begins"').ready()
    one.stop(0)


def test_a_hook_that_runs_programs_gets_their_exit_statuses(program: Start) -> None:
    """The master reaps no process that a hook waits for."""
    app = """
        import subprocess
        def runs(context):
            ends = [subprocess.run(["sh", "-c", f"exit {n}"]).returncode for n in range(20)]
            print("good" if ends == list(range(20)) else ends, flush=True)
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_ready = "app:runs"').ready()
    one.wait_for_line("good")
    one.stop(0)


def test_a_hook_that_prints_10_mb(program: Start) -> None:
    """All of it gets out while somebody reads, and the log goes on."""
    app = """
        def prints(context):
            for _ in range(10_000):
                print("x" * 1000)
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_ready = "app:prints"', master='hook_timeout = "30s"').ready()
    one.read_until(lambda: sum(line.count("x") for line in one.noise) >= 10_000_000)
    one.stop(0)


def test_a_hook_that_prints_10_mb_to_nobody(program: Start) -> None:
    """It is stuck in a full pipe: left behind after hook_timeout, and the master stops all the same."""
    app = """
        def prints(context):
            print("x" * 10_000_000)
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_stop = "app:prints"', master='hook_timeout = "300ms"').ready()
    one.signal(signal.SIGTERM)
    fd = os.pidfd_open(one.process.pid)
    assert select.select([fd], [], [], 15)[0], "it waits for a reader"
    os.close(fd)
    one.wait(0)


def test_a_hook_that_changes_the_process(program: Start) -> None:
    """Directory, umask, signal mask of its thread: the way down works all the same, files are removed."""
    app = """
        import os, signal
        def changes(context):
            os.chdir("/")
            os.umask(0o777)
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_ready = "app:changes"').ready()
    one.stop(0)


def test_a_hook_that_asks_for_a_stop_from_within(program: Start) -> None:
    """A request of the program to itself is queued like any other."""
    app = """
        import os, signal
        def asks(context):
            os.kill(context.pid, signal.SIGTERM)
        def run(worker):
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_ready = "app:asks"\non_stop = "app:asks"\non_exit = "app:asks"')
    one.wait(0)
    assert one.report()["reason"] == "SIGTERM"
