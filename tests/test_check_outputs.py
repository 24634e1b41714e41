"""`check` looks where the log and the output of workers are to go, and makes nothing there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from reading import NOBODY, as_nobody, written

from supervisor.check import check, notes
from supervisor.config import read

POOL = "[pools.a]\ncommand = ['/bin/true']\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's config.toml is, which is also the current folder."""
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(above.stat().st_mode | 0o011)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "broken").symlink_to("nowhere/log")
    return tmp_path


def checked(text: str) -> list[str]:
    written(text)
    return [line.removeprefix("config.toml: ") for line in check(read("config.toml", os.environ))]


@pytest.mark.parametrize("name", ["log", "there/log", "/dev/null", "/dev/stdout", "config.toml"])
def test_where_a_file_is_or_can_be_made_is_no_mistake(folder: Path, name: str) -> None:
    """And it is not made."""
    before = sorted(folder.iterdir())
    written("")
    text = f"{POOL}stdout = {{file = '{name}'}}\nstderr = {{file = '{name}'}}\n[master]\nlog_file = '{name}'"
    assert checked(text) == []
    assert sorted(folder.iterdir()) == sorted([*before, folder / "config.toml"])
    assert list((folder / "there").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("gone/log", "there is no folder FOLDER/gone: make it, or name another file"),
        ("broken", "there is no folder FOLDER/nowhere: make it, or name another file"),
        ("there", "FOLDER/there is a folder: name a file in it"),
        ("config.toml/log", "cannot look at FOLDER/config.toml/log: Not a directory"),
    ],
)
def test_what_keeps_a_file_from_being_written_to(folder: Path, name: str, wrong: str) -> None:
    """Each with its key, all at once."""
    wrong = wrong.replace("FOLDER", str(folder))
    text = f"{POOL}stdout = {{file = '{name}'}}\nstderr = '{name}'\n[master]\nlog_file = '{name}'"
    assert checked(text) == [
        f"{key}: {wrong}" for key in ("master.log_file", "pools.a.stdout", "pools.a.stderr")
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")
def test_who_checks_must_be_able_to_write(folder: Path) -> None:
    """A file of another user's, and a folder; with root's rights both are fine."""
    (folder / "theirs").write_text("")
    text = f"{POOL}stdout = 'theirs'\nstderr = 'there/log'"
    assert checked(text) == []
    written(text, mode=0o644)
    settings = read("config.toml", os.environ)
    with as_nobody():
        told = check(settings)
    assert told == [
        f"config.toml: pools.a.stdout: uid {NOBODY} may not write to {folder}/theirs",
        f"config.toml: pools.a.stderr: uid {NOBODY} may not make a file in {folder}/there",
    ]


def test_a_socket_of_the_service_manager_is_a_note_and_no_mistake() -> None:
    """It is not there for a check, and need not be."""
    text = f"{POOL}sockets = ['web']\n[sockets.web]\nbind = 'fd:http'\n[sockets.b]\nbind = '127.0.0.1:80'"
    assert checked(text) == []
    assert notes(read("config.toml", os.environ)) == [
        (
            "config.toml: sockets.web.bind: is not checked: "
            "only the start can tell whether a socket unit passes one by the name 'http'"
        )
    ]


def test_a_folder_for_a_unix_socket_is_looked_at(folder: Path) -> None:
    """Only there can it be bound."""
    text = f"{POOL}[sockets.good]\nbind = 'unix:there/a.sock'\n[sockets.bad]\nbind = 'unix:nowhere/a.sock'\n"
    wrong = f"there is no folder {folder}/nowhere: make it, or name another file"
    assert checked(text) == [f"sockets.bad.bind: {wrong}"]
