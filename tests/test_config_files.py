"""Which files are read as a configuration, and what is only warned of."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from reading import POOL, settings, unreadable, written

from supervisor.config import read, warnings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's config.toml is, which is also the current folder."""
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_that_are_none(folder: Path) -> None:
    """A FIFO without a writer, a directory, a device, a socket: refused without waiting."""
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
    assert unreadable("fifo") == "fifo: is a FIFO, not a regular file"
    assert unreadable(".") == ".: is a directory, not a regular file"
    assert unreadable("/dev/null") == "/dev/null: is a device, not a regular file"
    assert unreadable("socket") == "socket: is not a regular file"
    assert unreadable("a\0b") == r"a\x00b: is no path that a file can have"
    assert unreadable("x" * 300).endswith(": cannot be read: File name too long")
    os.symlink("loop", "loop")
    assert unreadable("loop") == "loop: cannot be read: Too many levels of symbolic links"


def test_a_missing_file_is_one_command_away(folder: Path) -> None:
    assert unreadable("no.toml") == (
        "no.toml: there is no such file; 'supervisord-lite init no.toml' writes one to start from"
    )


def test_no_file_name_breaks_out_of_its_line(folder: Path) -> None:
    Path("a\n\x1b[2J.toml").write_text("")
    assert unreadable("a\n\x1b[2J.toml").startswith(r"a\n\x1b[2J.toml: there is nothing to run")


def test_a_file_that_may_not_be_read(folder: Path) -> None:
    written(POOL, 0o000)
    uid, other = os.geteuid(), os.geteuid() or 65534
    os.seteuid(other)
    try:
        assert f"may not be read by uid {other}" in unreadable("config.toml")
    finally:
        os.seteuid(uid)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the rules for root")


@as_root
def test_root_refuses_a_file_that_anybody_may_write(folder: Path) -> None:
    written(POOL, 0o666)
    assert unreadable("config.toml").startswith("config.toml: may be written by anybody and you are root")


@as_root
def test_root_refuses_a_file_in_a_folder_where_anybody_may_replace_it(folder: Path) -> None:
    written(POOL)
    folder.chmod(0o777)
    assert unreadable("config.toml").startswith("config.toml: anybody may replace it in")
    folder.chmod(0o1777)
    assert read("config.toml", {}).pools, "but not where the sticky bit keeps it"


@as_root
def test_root_is_warned_of_others_who_decide_what_runs(folder: Path) -> None:
    path = written(POOL, 0o660)
    os.chown(path, 0, 12345)
    assert warnings(read(path, {}))[0].startswith(
        "config.toml: others than root may write it and you are root"
    )
    os.chown(path, 12345, 0)
    assert warnings(read(path, {}))[0].startswith("config.toml: it belongs to uid 12345 and you are root")


def test_warnings(folder: Path) -> None:
    text = "workers = 0\nwatchdog = '10ms'\n[master]\npythonpath = ['gone']\ndrain_delay = '20s'"
    assert [line.split(": ")[1] for line in warnings(settings(POOL + text))] == [
        "master.pythonpath",
        "master.drain_delay",
        "pools.web.workers",
        "pools.web.watchdog",
    ]
    assert warnings(settings(POOL)) == []
