"""What an independent look at the program found, and what must not come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from program import Program

Start = Callable[..., Program]

IDLE = """
    import subprocess, time
    kept = []
    def idle(worker):
        worker.wait()
    def hangs(context):
        time.sleep(100)
    def forgets(context):
        kept.append(subprocess.Popen(["true"]))
    def begins(context):
        kept.append(subprocess.Popen(["sleep", "1000"]))
    def needs(context):
        print("still there" if kept[0].poll() is None else "gone already", flush=True)
    async def never(context):
        pass
    def crash(worker):
        raise SystemExit(9)
"""
ONE = '[pools.a]\ntarget = "app:idle"\n'


def test_a_second_request_that_forces_leaves_a_hanging_on_exit_hook_behind(program: Start) -> None:
    """QUIT while everybody is gone already: no waiting for hook_timeout."""
    one = program(IDLE, ONE + '[hooks]\non_exit = "app:hangs"', master='hook_timeout = "15s"').ready()
    one.signal(signal.SIGTERM)
    one.wait_for("stop.phase", phase="helpers")
    one.signal(signal.SIGQUIT)
    one.wait(3, timeout=10)
    assert one.report()["seconds"] < 10


def test_a_process_that_a_hook_began_lives_until_on_exit_is_over(program: Start) -> None:
    """It is no helper of a worker: `on_exit` may still need it; then it is ended."""
    hooks = '[hooks]\non_start = "app:begins"\non_exit = "app:needs"'
    one = program(IDLE, ONE + hooks).ready()
    one.stop(0)
    assert one.wait_for_line("still there")
    assert one.find("orphans.ended") is None


def test_a_process_that_a_hook_forgot_holds_nothing_up(program: Start) -> None:
    """A zombie of the master's own is not taken for something that outlived a worker."""
    one = program(IDLE, ONE + '[hooks]\non_ready = "app:forgets"').ready()
    report = one.stop(0)
    assert one.find("orphans.ended") is None
    assert report["phases"]["helpers"] < 1


def test_an_async_hook_is_told_and_not_passed_over(program: Start) -> None:
    """Called, it would do nothing at all."""
    one = program(IDLE, ONE + '[hooks]\non_start = "app:never"')
    one.wait(1)
    assert "async" in one.wait_for("hook.failed", hook="app:never")["traceback"]


def test_a_parked_slot_says_that_it_is_not_tried_again(program: Start) -> None:
    """Not «backoff, again in 0.0 s» for ever."""
    config = '[pools.a]\ntarget = "app:crash"\nmax_restarts = 1\nbackoff = { initial = "1ms" }'
    one = program(IDLE, config)
    one.wait_for("pool.parked")
    [worker] = one.status()["pools"]["a"]["workers"]
    assert worker["state"] == "backoff"
    assert "parked" in worker["status"]
    one.stop(0)


def test_what_is_in_the_way_of_the_notify_socket_is_not_removed(tmp_path: Path, program: Start) -> None:
    """Only a socket of ours is stale; a file is somebody's."""
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "run/m.notify").write_text("mine")
    one = program(IDLE, ONE)
    one.wait(1)
    one.wait_for_line("m.notify is in the way")
    assert (tmp_path / "run/m.notify").read_text() == "mine"
    (tmp_path / "run/m.notify").unlink()


def test_a_command_with_closed_output_does_its_work(program: Start) -> None:
    """As a job of cron or a daemon may have it."""
    one = program(IDLE, ONE).ready()
    command = f'exec "{sys.executable}" -m supervisor stop -c "{one.config}" >&-'
    assert subprocess.run(["/bin/sh", "-c", command], check=False, timeout=60).returncode == 0
    one.wait(0)


def test_too_few_descriptors_are_one_line_and_no_traceback(tmp_path: Path) -> None:
    """The message names the limit."""
    (tmp_path / "config.toml").write_text('[master]\nsocket = "m.sock"\n' + ONE)
    command = f'ulimit -n 6; exec "{sys.executable}" -m supervisor start -c "{tmp_path}/config.toml"'
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ulimit" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == ["config.toml"]
