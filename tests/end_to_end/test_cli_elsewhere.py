"""The file names another socket than the master that was started with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program

Start = Callable[..., Program]

WAITS = """
    def run(worker):
        worker.wait()
"""
ONE = '[pools.a]\ntarget = "app:run"\n'


@pytest.mark.parametrize("command", ["status", "stop", "reload"])
def test_a_master_whose_socket_was_changed_in_its_file_is_told_of(program: Start, command: str) -> None:
    """Exit 3, one line with its pid and its socket; it was asked nothing, and --socket reaches it."""
    one = program(WAITS, ONE).ready()
    written = one.config.read_text()
    one.config.write_text(written.replace("run/m.sock", "run/other.sock"))
    done = one.cli(command)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert f"no master is running at {one.folder}/run/other.sock; " in done.stderr
    assert f"(pid {one.pid}) listens at {one.socket}" in done.stderr
    assert done.stderr.endswith(f"reach it with '--socket {one.socket}'\n")
    assert one.cli(command, "--socket", str(one.socket)).returncode == 0
    if command != "stop":
        one.stop(0)
    one.wait(0)


def test_it_is_told_of_beside_the_mistakes_of_a_file(program: Start) -> None:
    one = program(WAITS, ONE).ready()
    one.config.write_text(one.config.read_text().replace("run/m.sock", "run/other.sock") + "wokers = 2\n")
    done = one.cli("status")
    assert done.returncode == 2
    assert f"(pid {one.pid}) listens at {one.socket}" in done.stderr
    one.stop(0)


def test_a_master_with_another_file_is_not_told_of(program: Start, tmp_path: Path) -> None:
    """Be it of the same name, with the same pools, in the same folder."""
    one = program(WAITS, ONE, master='name = "shop"').ready()
    other = tmp_path / "other.toml"
    other.write_text(one.config.read_text().replace("run/m.sock", "run/other.sock"))
    one.config, kept = other, one.config
    done = one.cli("status")
    one.config = kept
    assert done.returncode == 3
    assert str(one.pid) not in done.stderr
    assert str(one.socket) not in done.stderr
    one.stop(0)
