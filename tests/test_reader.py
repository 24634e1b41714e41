"""The reader: a real process that reads the configuration again, and what the master makes of its answer."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from command import TIMEOUT
from reading import POOL, settings, written

from supervisor.inner import reading
from supervisor.inner.reading import Reading
from supervisor.settings import Settings

ROOT = str(Path(__file__).resolve().parent.parent)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of config.toml, where a master might have been started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(old: Settings, fd: int, **environ: str) -> int:
    """The pid of a reader, started somewhere else, with the memory file as descriptor 3."""
    command = reading.argv(old, sys.path)
    to_three = [(os.POSIX_SPAWN_DUP2, fd, reading.DESCRIPTOR)]
    os.chdir("/")
    return os.posix_spawn(command[0], command, {**os.environ, **environ}, file_actions=to_three)


def read(old: Settings, environ: Mapping[str, str] = os.environ, **own: str) -> Reading:
    """What one reader finds; it leaves with 0 whatever that is."""
    fd = reading.question(environ)
    _, status = os.waitpid(started(old, fd, **own), 0)
    assert status == 0
    return reading.result(fd)


def of_file(text: str, **environ: str) -> Reading:
    """A master runs with the least configuration; the file now holds ``text``."""
    old = settings(POOL)
    written(text)
    return read(old, environ)


def test_a_good_file_comes_back_as_the_settings_that_a_start_would_have_read() -> None:
    old = settings(POOL + "workers = 3\noptions = { since = 2026-01-01, list = ['${X:-y}'] }\n")
    found = read(old, {})
    assert found.settings == old
    assert found.settings is not None
    assert found.settings.file == "config.toml"


def test_every_mistake_comes_back_as_a_line_with_the_name_that_the_user_gave() -> None:
    found = of_file(POOL + "wokers = 3\n[pools.b]\n")
    assert found.settings is None
    assert found.lines == (
        "config.toml: pools.web.wokers: unknown key, did you mean 'workers'?",
        "config.toml: pools.b: needs either 'target' or 'command'",
    )


@pytest.mark.parametrize("text", ["[[[", "", "\0"])
def test_a_file_that_is_no_configuration_is_one_line(text: str) -> None:
    (line,) = of_file(text).lines
    assert line.startswith("config.toml: ")


def test_a_file_that_is_gone_is_an_error_not_a_death() -> None:
    old = settings(POOL)
    os.unlink("config.toml")
    (line,) = read(old).lines
    assert line.startswith("config.toml: there is no such file")


def test_a_file_that_would_block_is_refused() -> None:
    old = settings(POOL)
    os.unlink("config.toml")
    os.mkfifo("config.toml")
    assert "is a FIFO" in read(old).lines[0]


def test_variables_are_those_that_the_master_was_started_with_not_the_readers_own() -> None:
    old = settings(POOL)
    written(POOL + "[pools.web.env]\nA = '${SUPERVISOR_POOL:-unset}'\nB = '${MINE}'\n")
    found = read(old, {"MINE": "1\udcff"}, SUPERVISOR_POOL="@reader").settings
    assert found is not None
    assert found.pools["web"].env == {"A": "unset", "B": "1\udcff"}


def test_warnings_come_along() -> None:
    found = of_file(POOL + "workers = 0\n")
    assert found.settings is not None
    assert any(line.startswith("config.toml: pools.web.workers: is 0") for line in found.lines)


HOOKS = POOL + '[hooks]\nimport = ["hooks_of_mine"]\non_stop = "hooks_of_mine:bye"\n'


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def bye(context): ...", None),
        ("def by(context): ...", "hooks.on_stop: module 'hooks_of_mine' has no attribute 'bye'"),
        ("raise RuntimeError('no database')", "hooks.import: cannot import 'hooks_of_mine': RuntimeError"),
        ("import os; os.kill(os.getpid(), 9)", "hooks.import: cannot import 'hooks_of_mine': it ended"),
        ("import os; os._exit(0)", "hooks.import: cannot import 'hooks_of_mine': it ended"),
    ],
)
def test_hooks_of_the_master_are_tried_before_it_imports_them(source: str, said: str | None) -> None:
    Path("hooks_of_mine.py").write_text(source)
    found = of_file(HOOKS)
    if said is None:
        assert found.settings is not None
    else:
        assert found.settings is None
        assert found.lines[0].startswith(f"config.toml: {said}")


def test_targets_are_left_to_the_workers() -> None:
    """Their failure is the roll-back's matter, which tells more than an import can."""
    Path("app.py").write_text("raise RuntimeError\n")
    assert of_file(POOL).settings is not None


def test_a_reader_that_is_told_to_stop_takes_the_import_that_hangs_with_it(folder: Path) -> None:
    os.mkfifo(folder / "pid")
    hanging = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    (folder / "hooks_of_mine.py").write_text(hanging)
    old = settings(HOOKS)
    fd = reading.question({})
    reader = started(old, fd)
    child = os.pidfd_open(int((folder / "pid").read_text()))
    os.kill(reader, signal.SIGTERM)
    _, status = os.waitpid(reader, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM
    with contextlib.closing(os.fdopen(child)), pytest.raises(ProcessLookupError):
        signal.pidfd_send_signal(child, 0)
    (line,) = reading.result(fd).lines
    assert "left without an answer" in line


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rubbish",
        pickle.dumps(("settings", "no settings", [])),
        pickle.dumps(("errors", [])),
        pickle.dumps({"PATH": "/bin"}),
        b"cno.such.module\nthing\n.",
    ],
    ids=range(6),
)
def test_whatever_a_dead_reader_left_is_an_error_in_words(data: bytes) -> None:
    fd = os.memfd_create("test")
    os.write(fd, data)
    found = reading.result(fd)
    assert found.settings is None
    assert found.lines[0].startswith("the configuration could not be read: ")
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_half_an_answer_is_an_error_in_words() -> None:
    whole = pickle.dumps(("settings", settings(POOL), []))
    for end in range(0, len(whole), 50):
        fd = os.memfd_create("test")
        os.write(fd, whole[:end])
        assert reading.result(fd).settings is None


MASTERS_END = """
import json, sys
from supervisor.inner import reading
reading.result(int(sys.argv[1]))
print(json.dumps(sorted(sys.modules)))
"""


def test_the_master_stays_light_whatever_is_in_the_answer() -> None:
    """Neither the half that it imports nor the settings bring in what the reader is there for."""
    found = of_file(POOL + "options = { a = '${X}', b = 2026-01-01T00:00:00Z }\n", X="1").settings
    fd = os.memfd_create("test")
    with open(fd, "wb", closefd=False) as file:
        pickle.dump(("settings", found, []), file)
    done = subprocess.run(
        [sys.executable, "-c", MASTERS_END, str(fd)],
        pass_fds=[fd],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        timeout=TIMEOUT,
        check=True,
    )
    os.close(fd)
    loaded = set(json.loads(done.stdout))
    assert "supervisor.settings" in loaded
    assert not loaded & {"tomli", "cattrs", "click", "subprocess", "supervisor.config", "supervisor.check"}


def test_what_cannot_change_is_named_and_keeps_its_value() -> None:
    old = settings('[master]\nname = "a"\nsocket = "/s"\npidfile = "/p"\nstate_dir = "/d"\n' + POOL)
    new = settings('[master]\nname = "a"\nsocket = "/s2"\nstate_dir = "/d"\nstop_timeout = 9\n' + POOL)
    assert reading.unchangeable(old, new) == [
        "master.socket: needs a restart (USR2), the running value is kept",
        "master.pidfile: needs a restart (USR2), the running value is kept",
    ]
    found = reading.kept(old, new)
    assert (found.master.socket, found.master.pidfile, found.master.stop_timeout) == ("/s", "/p", 9)
    assert reading.unchangeable(old, found) == []


@pytest.mark.parametrize(
    ("running", "written", "log"),
    [("/d/a.log", None, "/d/a.log"), ("/d/a.log", "/b", "/b"), ("/c", None, None)],
)
def test_the_log_that_a_daemon_chose_for_itself_stays(
    running: str, written: str | None, log: str | None
) -> None:
    base = settings('[master]\nname = "a"\nstate_dir = "/d"\n' + POOL)
    old = replace(base, master=replace(base.master, log_file=running))
    new = replace(base, master=replace(base.master, log_file=written))
    assert reading.kept(old, new).master.log_file == log
