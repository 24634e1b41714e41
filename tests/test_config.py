"""The configuration reader: one mistake, one line, and what is right means what it says."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from config_mistakes import IN_A_POOL, IN_A_TASK, IN_THE_FILE, LATER_SECTIONS, OF_A_COMMAND, SOCKETS, UNBUILT
from reading import POOL, problems, settings, written

from supervisor.config import read, unbuilt, zones
from supervisor.settings import Bytes, Output, Reference, Seconds, TaskSettings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's config.toml is, which is also the current folder."""
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("mistake", "line"), IN_A_POOL)
def test_one_mistake_in_a_pool_is_one_exact_line(folder: Path, mistake: str, line: str) -> None:
    assert problems(POOL + mistake) == [f"config.toml: pools.web.{line}"]


@pytest.mark.parametrize(("mistake", "line"), OF_A_COMMAND)
def test_one_mistake_in_a_pool_of_commands_is_one_exact_line(folder: Path, mistake: str, line: str) -> None:
    assert problems(f"[pools.web]\n{mistake}") == [f"config.toml: pools.web.{line}"]


@pytest.mark.parametrize(("text", "line"), IN_THE_FILE)
def test_one_mistake_in_the_file_is_one_exact_line(folder: Path, text: str | bytes, line: str) -> None:
    assert problems(text) == [f"config.toml: {line}"]


@pytest.mark.parametrize(("mistake", "line"), SOCKETS)
def test_one_mistake_in_a_socket_is_one_exact_line(folder: Path, mistake: str, line: str) -> None:
    assert problems(POOL + mistake) == [f"config.toml: {line}"]


@pytest.mark.parametrize(("mistake", "line"), IN_A_TASK)
def test_one_mistake_in_a_task_is_one_exact_line(folder: Path, mistake: str, line: str) -> None:
    assert problems(f"[tasks.a]\n{mistake}") == [f"config.toml: tasks.a{line}"]


@pytest.mark.parametrize(("section", "line"), LATER_SECTIONS)
def test_later_sections_are_validated_all_the_same(folder: Path, section: str, line: str) -> None:
    assert f"config.toml: {line}" in problems(POOL + section)


def test_a_unix_path_is_measured_with_the_folder_that_it_is_relative_to(folder: Path) -> None:
    fits = "x" * (107 - len(f"{folder}/".encode()))
    assert settings(f"{POOL}[master]\nsocket = '{fits}'").master.socket == f"{folder}/{fits}"
    assert "master.socket" in problems(f"{POOL}[master]\nsocket = '{fits}x'")[0]
    assert "sockets.a.bind: the path" in problems(f"{POOL}[sockets.a]\nbind = 'unix:{fits}x'")[0]


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


def test_a_section_that_is_not_built_is_refused_by_name_and_an_empty_one_is_not(folder: Path) -> None:
    found = problems(f"{POOL}[http]\nbind = '127.0.0.1:80'")
    assert found == [f"config.toml: http: {UNBUILT} {unbuilt.SECTIONS['http']}"]
    settings(f"{POOL}[tasks]")


def test_every_key_of_a_pool_may_be_written(folder: Path) -> None:
    """All that makes sense together, for a target and for a command."""
    (folder / "worker.env").write_text("A=1\n")
    text = f"""
        [pools.web]
        command = ["python", "serve.py"]
        stop_signal = "INT"
        sockets = ["http"]
        env_file = "worker.env"
        max_memory = "1GB"
        max_age = "1d"
        surge = 0
        stable_after = 0
        after = ["jobs"]
        working_dir = "."
        user = "{os.geteuid()}"
        group = "{os.getegid()}"
        no_new_privs = true
        umask = "0027"
        nice = 5
        limits = {{nofile = 30, as = "2GiB"}}
        stdout = "null"
        stderr = {{file = "err.log", max_size = "1MB", keep = 2}}
        [pools.jobs]
        target = "app:run"
        preload = true
        max_jobs = 5
        surge = "25%"
        [sockets.http]
        bind = "unix:http.sock"
        mode = "0660"
        backlog = 9
    """
    read_ = settings(text)
    web, jobs = read_.pools["web"], read_.pools["jobs"]
    assert (web.command, web.stop_signal, web.sockets) == (("python", "serve.py"), "INT", ("http",))
    assert (web.env, web.max_memory, web.max_age) == ({"A": "1"}, 10**9, 86400)
    assert (web.surge, web.stable_after, web.after) == (0, 0, ("jobs",))
    assert (web.working_dir, web.no_new_privs, web.umask, web.nice) == (str(folder), True, 0o27, 5)
    assert web.limits == {"nofile": 30, "as": 2 << 30}
    assert (web.stdout, web.stderr) == ("null", Output(f"{folder}/err.log", Bytes(10**6), 2))
    assert (jobs.preload, jobs.max_jobs, jobs.surge) == (True, 5, "25%")
    assert read_.accounts["web"].uid == os.geteuid()
    socket = read_.sockets["http"]
    assert (socket.bind, socket.mode, socket.backlog) == (f"unix:{folder}/http.sock", 0o660, 9)


def test_every_key_of_a_task_may_be_written(folder: Path) -> None:
    """All that makes sense together; tasks need no pool beside them."""
    read_ = settings("""
        [tasks.nightly]
        target = "app:nightly"
        schedule = "30 3 * * *"
        timezone = "Europe/Berlin"
        timeout = "10m"
        jitter = "30s"
        options = { a = 1 }
        env = { B = "2" }
        overlap = "queue"
        missed = "once"
        pause_after_failures = 3
        retry_after = "1h"
        [tasks.often]
        command = ["true"]
        every = "250ms"
    """)
    assert read_.tasks["nightly"] == TaskSettings(
        "nightly",
        target=Reference("app:nightly"),
        schedule="30 3 * * *",
        timezone="Europe/Berlin",
        timeout=Seconds(600),
        jitter=Seconds(30),
        options={"a": 1},
        env={"B": "2"},
        overlap="queue",
        missed="once",
        pause_after_failures=3,
        retry_after=Seconds(3600),
        zone=zones.read("Europe/Berlin", {}),
    )
    assert read_.tasks["often"] == TaskSettings("often", command=("true",), every=Seconds(0.25))
    assert read_.master.state_file == f"{read_.master.state_dir}/config.sqlite"
    assert not read_.pools


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
