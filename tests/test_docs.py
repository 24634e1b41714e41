"""The documentation is true: its examples run, and its commands are typed as they stand."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pages import ROOT, Block, blocks, commands, programs, text

from supervisor.cli.commands import commands as cli
from supervisor.config import read
from supervisor.control.protocol import respond

pytestmark = pytest.mark.long

TIMEOUT = 60  # a safety net
COMMAND = [sys.executable, "-m", "supervisor"]

RUN = (
    "python3 -m venv .venv && .venv/bin/pip install -q -e . && "
    ".venv/bin/supervisord-lite start -c config.example.toml"
)
TEST = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest -n 4 -q"


def surroundings(folder: Path) -> dict[str, str]:
    """Sockets and state in ``folder``, also for root."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("SUPERVISORD_LITE", "NOTIFY"))},
        "RUNTIME_DIRECTORY": str(folder),
        "STATE_DIRECTORY": str(folder),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=surroundings(folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def log(folder: Path) -> list[dict[str, Any]]:
    """The events of a daemon's log."""
    lines = (folder / "config.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).write_text(content)


@pytest.mark.parametrize("files", programs().values(), ids=programs())
def test_every_program_comes_up_and_stops_with_all_work_finished(
    files: dict[str, str], tmp_path: Path
) -> None:
    """`start --daemon` returns 0 once all workers are ready, `stop` if no work was cut."""
    write(tmp_path, files)
    for command in (["check"], ["start", "--daemon"], ["stop"]):
        done = run(tmp_path, *COMMAND, *command)
        assert done.returncode == 0, done.stderr
    report = next(event for event in log(tmp_path) if event["event"] == "stop.report")
    assert report["status"] == 0
    assert all(worker["acknowledged_after"] is not None for worker in report["workers"])
    assert "Traceback" not in (tmp_path / "config.log").read_text()


def test_there_are_programs_to_run() -> None:
    """The README has one, the worker's page one for each way to write a target."""
    assert len(programs()) >= 6
    assert "README.md: Five minutes" in programs()


def test_a_long_job_goes_on_where_it_was(tmp_path: Path) -> None:
    """The cursor that the first life leaves is where the second one begins."""
    write(tmp_path, programs()["worker.md: Long jobs that go on where they were"])
    assert first_words_of_a_life(tmp_path) == "going on at 0\n"
    cursor = int((tmp_path / "cursor").read_text())
    assert cursor > 0
    assert first_words_of_a_life(tmp_path) == f"going on at {cursor}\n"
    assert int((tmp_path / "cursor").read_text()) > cursor


def first_words_of_a_life(folder: Path) -> str:
    """Start it, let it take a few steps, and stop it; what its worker said at first."""
    cursor = folder / "cursor"
    before = cursor.read_text() if cursor.exists() else None
    with subprocess.Popen(
        [*COMMAND, "start"], cwd=folder, env=surroundings(folder), stdout=subprocess.PIPE, text=True
    ) as master:
        assert master.stdout is not None
        said = master.stdout.readline()
        wait_until(folder, lambda: cursor.exists() and cursor.read_text() != before)
        master.terminate()
        assert master.wait(TIMEOUT) == 0
    return said


def wait_until(folder: Path, holds: Callable[[], bool]) -> None:
    """Look again and again, between two questions for the status."""
    until = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < until
        run(folder, *COMMAND, "status")


def tasks() -> dict[str, dict[str, str]]:
    """By heading: the files of each task in docs/tasks.md."""
    found: dict[str, dict[str, str]] = {}
    for block in blocks():
        if block.page.name == "tasks.md" and block.file:
            found.setdefault(block.heading, {})[block.file] = block.text
    return found


@contextlib.contextmanager
def mastered(folder: Path) -> Iterator[None]:
    """A master of what is in the folder; it has to end with all work finished."""
    assert run(folder, *COMMAND, "start", "--daemon").returncode == 0
    try:
        yield
    finally:
        stopped = run(folder, *COMMAND, "stop")
    assert stopped.returncode == 0, stopped.stderr


@pytest.mark.parametrize("heading", ["Five lines", "A backup every night", "A program"])
def test_every_task_runs_well(heading: str, tmp_path: Path) -> None:
    """Run by hand, as nobody waits for half past three."""
    write(tmp_path, tasks()[heading])
    (name,) = read(str(tmp_path / "config.toml"), {}).tasks
    assert run(tmp_path, *COMMAND, "check").returncode == 0
    with mastered(tmp_path):
        done = run(tmp_path, *COMMAND, "tasks", "run", name)
        assert done.returncode == 0, done.stderr
        assert '"outcome": "ok"' in run(tmp_path, *COMMAND, "tasks", "history", name, "--json").stdout


def test_five_lines_look_as_they_are_shown(tmp_path: Path) -> None:
    """The commands under the first task are typed as they stand."""
    files = tasks()["Five lines"]
    write(tmp_path, files)
    (shown,) = (b.text for b in blocks() if b.heading == "Five lines" and b.language == "console")
    said = ""
    try:
        for line in shown.splitlines():
            if line.startswith("$ supervisord-lite "):
                said += run(tmp_path, *COMMAND, *shlex.split(line)[2:]).stdout
    finally:
        run(tmp_path, *COMMAND, "stop")
    assert shapes(whoever(said)) == shapes(whoever(shown))


def whoever(said: str) -> str:
    """Without who runs the tests, where, and at what time: a full minute is shown without its seconds."""
    said = re.sub(r"\b(?:root|uid \d+)\b", "who", re.sub(r"log in \S+", "", said))
    return re.sub(r"(?:[A-Z][a-z]{2} )?\b\d\d:\d\d(?::\d\d)?\b", "then", said)


def test_a_long_task_goes_on_where_it_was(tmp_path: Path) -> None:
    """A stop interrupts it; the next run begins at the cursor that it left."""
    write(tmp_path, tasks()["A long job that goes on where it was"])
    with mastered(tmp_path):
        assert run(tmp_path, *COMMAND, "tasks", "run", "--no-wait", "index").returncode == 0
        wait_until(tmp_path, lambda: '"lines":["going on at 0"]' in (tmp_path / "config.log").read_text())
    cursor = int((tmp_path / "cursor").read_text())
    with mastered(tmp_path):
        assert run(tmp_path, *COMMAND, "tasks", "run", "--no-wait", "index").returncode == 0
        said = f'"lines":["going on at {cursor}"]'
        wait_until(tmp_path, lambda: said in (tmp_path / "config.log").read_text())
        history = run(tmp_path, *COMMAND, "tasks", "history", "index", "--json").stdout
    assert [one["outcome"] for one in json.loads(history)["runs"]] == ["running", "interrupted"]
    assert int((tmp_path / "cursor").read_text()) >= cursor > 0


def test_the_loop_in_a_shell_starts_again_what_wants_it_and_leaves_with_its_status(tmp_path: Path) -> None:
    """`restart` comes back with another pid; after `stop` the loop ends with 0."""
    (script,) = (b.text for b in blocks() if b.file == "run.sh")
    write(tmp_path, {"run.sh": script, **programs()["README.md: Five minutes"]})
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin/supervisord-lite"
    shim.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    shim.chmod(0o755)
    loop = subprocess.Popen(
        ["sh", "run.sh"], cwd=tmp_path, env=surroundings(tmp_path), stderr=subprocess.PIPE, text=True
    )
    assert loop.stderr is not None
    wait_for_event(loop.stderr, "master.ready")
    assert run(tmp_path, *COMMAND, "restart").returncode == 0
    wait_for_event(loop.stderr, "master.ready")
    assert run(tmp_path, *COMMAND, "stop").returncode == 0
    loop.stderr.read()
    assert loop.wait(TIMEOUT) == 0
    loop.stderr.close()


def wait_for_event(lines: Any, event: str) -> None:
    assert any(f'"event":"{event}"' in line for line in lines), f"no {event} came"


@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "toml"], ids=lambda b: b.heading)
def test_every_configuration_is_one(block: Block, tmp_path: Path) -> None:
    """Read and checked like any other, with the unbuilt refused."""
    (tmp_path / "config.toml").write_text(block.text)
    read_ = read(str(tmp_path / "config.toml"), {})
    assert read_.pools or read_.tasks


@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "python"], ids=lambda b: b.heading)
def test_every_piece_of_python_is_one(block: Block) -> None:
    ast.parse(block.text)


def test_the_two_commands_stand_where_they_are_relied_on() -> None:
    """A fresh machine needs no more than these; the second is also what the checks run."""
    shown = [line[2:] for b in blocks() if b.language == "console" for line in b.text.splitlines()]
    assert RUN in shown
    assert TEST in shown
    assert TEST in text(".ci/run")


def test_the_five_minutes(tmp_path: Path) -> None:
    """Everything after the installation is typed as it stands; what comes back looks as it is shown."""
    first, second, *_ = (b.text for b in blocks() if b.heading == "Five minutes" and b.language == "console")
    assert first == f"$ {RUN}\n"
    shutil.copy(ROOT / "config.example.toml", tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    start = RUN.rpartition("&& ")[2]
    with subprocess.Popen(
        typed(start), cwd=tmp_path, env=surroundings(tmp_path), stderr=subprocess.PIPE, text=True
    ) as master:
        wait_for_event(master.stderr, "master.ready")
        feed, *rest = (line[2:] for line in second.splitlines() if line.startswith("$ "))
        said = run(tmp_path, *typed(feed.replace("FOLDER", str(ROOT / "examples")))).stdout
        wait_until_all_is_done(tmp_path)
        for line in rest:
            done = run(tmp_path, *typed(line))
            assert done.returncode == 0, done.stderr
            said += done.stdout
        assert master.stderr is not None
        master.stderr.read()
        assert master.wait(TIMEOUT) == 0
    assert shapes(said) <= shapes(second)


def typed(line: str) -> list[str]:
    """A line of the README, with this interpreter in place of the fresh one."""
    program, *arguments = shlex.split(line)
    places = {".venv/bin/supervisord-lite": COMMAND, ".venv/bin/python": [sys.executable]}
    return [*places[program], *arguments]


def wait_until_all_is_done(folder: Path) -> None:
    until = time.monotonic() + TIMEOUT
    counts = {"waiting": 1, "claimed": 0}
    while counts["waiting"] or counts["claimed"]:
        assert time.monotonic() < until
        counts = json.loads(run(folder, sys.executable, "-m", "examples.checksum", "report", "--json").stdout)


def shapes(said: str) -> set[str]:
    """Lines without numbers, spacing, what a worker says of itself, and how far it is."""
    lines = (re.sub(r"\s+\d+ jobs?.*|\".*\"", "", line) for line in said.splitlines() if line[:1] != "$")
    return {" ".join(re.sub(r"[\d.]+", "#", line).split()) for line in lines}


def test_the_ping_is_answered_as_shown() -> None:
    (shown,) = (b.text for b in blocks() if b.language == "json")
    asked, answered = shown.splitlines(keepends=True)
    reply = respond(asked.encode(), lambda _method, _params: "pong")
    assert not isinstance(reply, bytes)
    assert reply.line() == answered.encode()


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_in_the_text_is_one(line: str) -> None:
    """Its name and its options are taken by the real parser; nothing is run."""
    name, *arguments = shlex.split(line)
    assert name in cli.commands
    command = cli.commands[name]
    if isinstance(command, click.Group) and arguments:
        name, *arguments = arguments
        command = command.commands[name]
    if any(argument.startswith("-") for argument in arguments) and name != "scale":
        command.make_context(name, [a for a in arguments if a != "..."])
