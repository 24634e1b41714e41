"""The configuration reader: one mistake, one line, and what is right means what it says."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from config_mistakes import ABOUT_WHAT_IS_NOT_BUILT, IN_A_POOL, IN_THE_FILE, SECTIONS, UNBUILT
from reading import POOL, problems, settings, written

from supervisor.config import read, unbuilt


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's config.toml is, which is also the current folder."""
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("mistake", "line"), IN_A_POOL)
def test_one_mistake_in_a_pool_is_one_exact_line(folder: Path, mistake: str, line: str) -> None:
    assert problems(POOL + mistake) == [f"config.toml: pools.web.{line}"]


@pytest.mark.parametrize(("text", "line"), IN_THE_FILE)
def test_one_mistake_in_the_file_is_one_exact_line(folder: Path, text: str | bytes, line: str) -> None:
    assert problems(text) == [f"config.toml: {line}"]


@pytest.mark.parametrize(("mistake", "line"), ABOUT_WHAT_IS_NOT_BUILT)
def test_what_is_not_built_is_validated_all_the_same(folder: Path, mistake: str, line: str) -> None:
    assert f"config.toml: pools.web.{line}" in problems(POOL + mistake)


@pytest.mark.parametrize(("section", "line"), SECTIONS)
def test_later_sections_are_validated_all_the_same(folder: Path, section: str, line: str) -> None:
    assert f"config.toml: {line}" in problems(POOL + section)


def test_a_unix_path_is_measured_with_the_folder_that_it_is_relative_to(folder: Path) -> None:
    fits = "x" * (107 - len(f"{folder}/".encode()))
    assert settings(f"{POOL}[master]\nsocket = '{fits}'").master.socket == f"{folder}/{fits}"
    assert "master.socket" in problems(f"{POOL}[master]\nsocket = '{fits}x'")[0]
    assert "sockets.a.bind: the path" in problems(f"{POOL}[sockets.a]\nbind = 'unix:{fits}x'")[1]


def test_a_name_and_a_folder_can_make_the_default_socket_too_long(folder: Path) -> None:
    (problem,) = problems(f"{POOL}[master]\nname = '{'n' * 64}'", RUNTIME_DIRECTORY="/run/" + "r" * 50)
    assert "master.socket: the path of a unix socket has at most 107 bytes" in problem


def test_all_mistakes_come_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = '[pools.web]\nwokers = 1\nworkers = -1\n[master]\nname = "?"\nlog_level = 3\n[pools.b]\n[hook]'
    found = [line.split(": ")[1] for line in problems(text)]
    assert found == [
        "pools.web",
        "pools.web.wokers",
        "pools.web.workers",
        "pools.b",
        "master.name",
        "master.log_level",
        "hook",
    ]


def test_pools_that_wait_for_each_other_are_told_once_each_circle(folder: Path) -> None:
    after = {"a": "b", "b": "c", "c": "b", "d": "d", "e": "a"}
    text = "".join(f"[pools.{pool}]\ntarget = 'a:b'\nafter = ['{other}']\n" for pool, other in after.items())
    circles = [line for line in problems(text) if "waits for itself" in line]
    assert circles == [
        "config.toml: pools.b.after: waits for itself: b -> c -> b",
        "config.toml: pools.d.after: waits for itself: d -> d",
    ]


@pytest.mark.parametrize("key", unbuilt.POOL)
def test_a_key_that_is_not_built_is_refused_by_name_and_its_default_is_not(folder: Path, key: str) -> None:
    values = {
        "command": "['x']", "env_file": "'x'", "sockets": "['s']", "preload": "true", "stop_signal": "'INT'",
        "max_memory": "'1GB'", "max_age": "'1d'", "max_jobs": "5", "surge": "'25%'", "stable_after": "'3s'",
        "after": "['b']", "working_dir": "'.'", "user": "'x'", "group": "'x'", "no_new_privs": "true",
        "umask": "'0027'", "nice": "5", "limits": "{nofile = 3, as = '2GiB'}", "stdout": "'null'",
        "stderr": "{file = 'x', max_size = '1MB'}",
    }  # fmt: skip
    others = "[pools.b]\ntarget = 'a:b'\n[sockets.s]\nbind = 'unix:x'\n"
    start = "[pools.web]\n" if key == "command" else POOL
    found = problems(f"{start}{key} = {values[key]}\n{others}")
    assert f"config.toml: pools.web.{key}: {UNBUILT} {unbuilt.POOL[key][1]}" in found
    assert {line.split(": ")[1] for line in found} == {f"pools.web.{key}", "sockets"}


def test_writing_out_the_default_of_what_is_not_built_is_no_use_of_it(folder: Path) -> None:
    settings(
        POOL + "sockets = []\npreload = false\nsurge = 1\nstable_after = '2s'\nafter = []\nstdout = 'inherit'"
    )


def test_variables_reach_every_string(folder: Path) -> None:
    read = settings(
        "[pools.web]\ntarget = '${APP}:run'\nworkers = '${N}'\nwatchdog = '${W}'\nstart_timeout = '${T}s'\n"
        "options = {a = ['${APP}', '$${APP}', '${NONE:-x y}', '${EMPTY:-e}', '${EMPTY}', '$HOME', '${A:-}']}",
        APP="shop", N="3", W="1.5", T="9", EMPTY="",
    ).pools["web"]  # fmt: skip
    assert (read.target, read.workers, read.watchdog, read.start_timeout) == ("shop:run", 3, 1.5, 9)
    assert read.options == {"a": ["shop", "${APP}", "x y", "e", "", "$HOME", ""]}
    assert {type(element) for element in read.options["a"]} == {str}, "no mark is left on what users get"


def test_defaults(folder: Path) -> None:
    """Nothing is created, and everything is absolute."""
    read = settings(POOL)
    assert (read.file, read.path, read.master.name) == ("config.toml", f"{folder}/config.toml", "config")
    assert (read.master.working_dir, read.master.pythonpath) == (str(folder), (str(folder),))
    assert read.pools["web"].workers == 1
    assert os.listdir(folder) == ["config.toml"]
    assert pickle.loads(pickle.dumps(read)) == read, "settings can be handed to another process"


def test_a_pool_stops_within_the_deadline_of_the_master(folder: Path) -> None:
    text = (
        "[master]\nstop_timeout = 10\n[pools.a]\ntarget = 'a:b'\n[pools.b]\ntarget = 'a:b'\nstop_timeout = {}"
    )
    stops = [[p.stop_timeout for p in settings(text.format(n)).pools.values()] for n in (3, 20)]
    assert stops == [[10, 3], [10, 10]]


def test_a_hook_or_a_list_of_hooks(folder: Path) -> None:
    read = settings(
        f"{POOL}hooks.on_worker_stop = 'a:b'\n[hooks]\nimport = 'a.b'\non_stop = ['a:b', 'c:d.e']"
    )
    assert read.pools["web"].hooks.on_worker_stop == ("a:b",)
    assert (read.hooks.modules, read.hooks.on_stop) == (("a.b",), ("a:b", "c:d.e"))


def test_relative_paths_start_at_the_folder_of_the_path_as_given(folder: Path) -> None:
    """A symlinked configuration takes the folder of the link; `..` behind a symlink is left to the kernel."""
    written(POOL + "[master]\npidfile = 'run/a.pid'\nlog_file = '../x'")
    (folder / "here").mkdir()
    (folder / "here" / "link.toml").symlink_to(folder / "config.toml")
    read_ = read("here/link.toml", {})
    assert read_.master.name == "link"
    assert read_.master.pidfile == f"{folder}/here/run/a.pid"
    assert read_.master.log_file == f"{folder}/here/../x"
