"""A restart is not begun where its end is known."""

from __future__ import annotations

from collections.abc import Callable

from program import Program

Start = Callable[..., Program]


def test_a_restart_into_a_broken_file_is_refused_while_the_master_still_runs(program: Start) -> None:
    """The next master would not start, and nobody would be left."""
    running = program("def run(worker): worker.wait()", "[pools.a]\ntarget = 'app:run'").ready()
    right = running.config.read_text()
    running.config.write_text(right + "\nwokers = 2\n")
    refused = running.cli("restart")
    assert refused.returncode == 2
    assert "pools.a.wokers: unknown key, did you mean 'workers'?" in refused.stderr
    assert "not restarted, the next master would not start" in refused.stderr
    assert running.status()["state"] == "running"
    running.config.write_text(right)
    running.stop()
