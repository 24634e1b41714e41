"""The command without a master: usage, advice, exit statuses, check, init, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import TIMEOUT, environment, one_line, run

COMMANDS = (
    "start",
    "check",
    "init",
    "status",
    "stop",
    "restart",
    "reload",
    "quiet",
    "unquiet",
    "scale",
    "events",
)
ASKING = ("status", "stop", "restart", "reload", "quiet", "unquiet", "events")


def test_the_version_is_told(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("supervisord-lite ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_in_80_columns(tmp_path: Path, command: str) -> None:
    done = run(command, "-h", cwd=tmp_path)
    assert done.returncode == 0
    assert f"Example: supervisord-lite {command}" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_no_command_shows_the_help_and_is_bad_usage(tmp_path: Path) -> None:
    done = run(cwd=tmp_path)
    assert done.returncode == 2
    assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["stats"], "'status'"),
        (["status", "--jsn"], "'--json'"),
        (["scale", "web"], "WORKERS"),
        (["scale", "web", "many"], "many"),
        (["scale", "web", "10001"], "10000"),
        (["stop", "now"], "now"),
        (["completion", "csh"], "bash"),
        (["-x"], "-x"),
    ],
)
def test_bad_usage_is_one_line_that_helps_and_status_2(
    tmp_path: Path, arguments: list[str], hint: str
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert hint in one_line(done.stderr)
    assert "--help" in done.stderr


@pytest.mark.parametrize("command", ASKING)
def test_without_a_master_a_command_says_how_to_start_one_and_exits_3(tmp_path: Path, command: str) -> None:
    done = run(command, "--socket", str(tmp_path / "none.sock"), cwd=tmp_path)
    assert done.returncode == 3
    assert "supervisord-lite start" in one_line(done.stderr)


def test_the_socket_comes_from_the_configuration(tmp_path: Path) -> None:
    socket = tmp_path / "shop.sock"
    (tmp_path / "c.toml").write_text(f'[master]\nsocket = "{socket}"\n[pools.a]\ntarget = "app:run"\n')
    done = run("status", cwd=tmp_path, SUPERVISORD_LITE_CONFIG="c.toml")
    assert done.returncode == 3
    assert str(socket) in done.stderr


def test_a_configuration_that_is_missing_is_status_2_and_says_how_to_do_without(tmp_path: Path) -> None:
    done = run("stop", "-c", "nowhere.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("nowhere.toml: ")
    assert "--socket" in done.stderr


def test_every_mistake_is_reported_by_every_command_that_reads_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[pools.web]\ntarget = "app:run"\nwokers = 3\n[pools.b]\n')
    for command in ("check", "start", "status"):
        done = run(command, cwd=tmp_path)
        assert done.returncode == 2
        assert "config.toml: pools.web.wokers: " in done.stderr
        assert "config.toml: pools.b" in done.stderr


def test_check_is_content_with_a_good_configuration_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def run(worker): ...\n")
    (tmp_path / "config.toml").write_text(
        f'[master]\nsocket = "{tmp_path}/s"\n[pools.a]\ntarget = "app:run"\n'
    )
    done = run("check", cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")
    assert (done.returncode, done.stdout) == (0, "config.toml: good: 1 pool, 1 worker\n")
    assert sorted(os.listdir(tmp_path)) == ["app.py", "config.toml"]


def test_check_finds_a_target_that_does_not_import(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[pools.a]\ntarget = "app:run"\n')
    done = run("check", cwd=tmp_path)
    assert done.returncode == 2
    assert "config.toml: pools.a.target: " in done.stderr


def test_init_writes_a_configuration_that_check_accepts_but_for_its_target(tmp_path: Path) -> None:
    assert run("init", cwd=tmp_path).returncode == 0
    (tmp_path / "app.py").write_text("def run(worker): ...\n")
    assert run("check", cwd=tmp_path).returncode == 0


def test_init_never_writes_over_a_file_or_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("precious")
    (tmp_path / "link.toml").symlink_to(tmp_path / "elsewhere.toml")
    for name in ("mine.toml", "link.toml"):
        done = run("init", name, cwd=tmp_path)
        assert done.returncode == 1
        assert "not touched" in one_line(done.stderr)
    assert (tmp_path / "mine.toml").read_text() == "precious"
    assert not (tmp_path / "elsewhere.toml").exists()


def test_bash_completes_commands(tmp_path: Path) -> None:
    script = run("completion", "bash", cwd=tmp_path)
    assert script.returncode == 0
    (tmp_path / "supervisord-lite").write_text(f'#!/bin/sh\nexec {sys.executable} -m supervisor "$@"\n')
    (tmp_path / "supervisord-lite").chmod(0o755)
    ask = "COMP_WORDS=(supervisord-lite sta); COMP_CWORD=1; _supervisord_lite_completion supervisord-lite;"
    done = subprocess.run(
        ["bash", "-c", f'{script.stdout}\n{ask} echo "${{COMPREPLY[@]}}"'],
        env=environment(PATH=f"{tmp_path}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert done.stdout.split() == ["start", "status"]


def test_a_reader_that_goes_away_is_not_talked_about(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m supervisor completion bash | true",
        shell=True,
        executable="/bin/bash",
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stderr == ""
