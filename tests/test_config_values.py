"""Single values and defaults: durations, sizes, addresses, CPUs, places; the template and the example."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import pytest
import tomli
from reading import POOL, settings

from supervisor import settings as words
from supervisor.config import cpus, paths, read, template, understand, units
from supervisor.config.mistakes import keys
from supervisor.settings import Account, Settings, SocketSettings, TaskSettings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's config.toml is, which is also the current folder."""
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250ms", 0.25), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("1h 30m", 5400), ("1.5h", 5400),
        ("1d", 86400), ("1m500ms", 60.5), (2, 2), (0.5, 0.5), (0, 0),
    ],
)  # fmt: skip
def test_durations(written: Any, seconds: float) -> None:
    assert units.duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["30s1h", "1 s 1 s", "s", "1_0s", "\u0661s", "1e3s", "9" * 400 + "s", None, "1S"]
)
def test_what_is_no_duration(written: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        units.duration(written)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("512MiB", 512 << 20),
        ("1GB", 10**9),
        ("1.5KiB", 1536),
        ("7B", 7),
        ("2 TiB", 2 << 40),
        ("1kB", 1000),
        (9, 9),
    ],
)
def test_sizes(written: Any, size: int) -> None:
    assert units.size(written) == size


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "[::1]:8000", "localhost:0", "unix:/run/x", "fd:http"])
def test_addresses(bind: str) -> None:
    assert units.bind(bind) == bind


@pytest.mark.parametrize(
    ("environ", "uid", "runtime", "state"),
    [
        ({}, 0, "/run/supervisord-lite", "/var/lib/supervisord-lite"),
        (
            {"XDG_RUNTIME_DIR": "/x", "XDG_STATE_HOME": "/y"},
            0,
            "/run/supervisord-lite",
            "/var/lib/supervisord-lite",
        ),
        ({"RUNTIME_DIRECTORY": "/a:/b", "STATE_DIRECTORY": "/c:/d"}, 0, "/a", "/c"),
        ({"RUNTIME_DIRECTORY": "/a", "XDG_RUNTIME_DIR": "/x", "STATE_DIRECTORY": "/c"}, 7, "/a", "/c"),
        (
            {"RUNTIME_DIRECTORY": "", "STATE_DIRECTORY": ""},
            0,
            "/run/supervisord-lite",
            "/var/lib/supervisord-lite",
        ),
        (
            {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "/s"},
            7,
            "/run/user/7/supervisord-lite",
            "/s/supervisord-lite",
        ),
        (
            {"XDG_RUNTIME_DIR": "relative", "HOME": "/home/x"},
            7,
            "/tmp/supervisord-lite-7",
            "/home/x/.local/state/supervisord-lite",
        ),
    ],
)
def test_where_things_are_by_default(environ: dict[str, str], uid: int, runtime: str, state: str) -> None:
    assert paths.runtime_dir(environ, uid) == runtime
    assert paths.state_dir(environ, uid) == state


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/a/config.toml", "config"),
        ("my app.toml", "my-app"),
        ("\n.toml", "supervisord-lite"),
        ("a" * 99, "a" * 64),
    ],
)
def test_a_file_gives_the_name(file: str, name: str) -> None:
    assert paths.name_of(file) == name


def test_auto_is_what_affinity_and_quota_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of version 2 and 1, of our cgroup and those above it; a part of a CPU counts as one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))

    def usable(cgroup: str, **files: str) -> int:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in {"proc/self/cgroup": cgroup, **files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return cpus.usable(str(root))

    top = "sys/fs/cgroup"
    assert usable("") == 8
    assert usable("0::/a/b\n", **{f"{top}/a/b/cpu.max": "max 100000\n"}) == 8
    assert usable("0::/a/b\n", **{f"{top}/a/b/cpu.max": "150000 100000\n"}) == 2
    assert (
        usable("0::/a/b\n", **{f"{top}/a/b/cpu.max": "300000 100000", f"{top}/a/cpu.max": "100000 100000"})
        == 1
    )
    v1 = {"cpu.cfs_quota_us": "250000\n", "cpu.cfs_period_us": "100000\n"}
    assert usable("3:cpu,cpuacct:/docker/x\n", **{f"{top}/cpu,cpuacct/{k}": v for k, v in v1.items()}) == 3
    assert usable("3:cpuset:/\n2:cpu:/x\n", **{f"{top}/cpu/x/{k}": v for k, v in v1.items()}) == 3
    assert usable("3:cpu:/\n", **{f"{top}/cpu/cpu.cfs_quota_us": "-1"}) == 8
    assert usable("garbage\n\n0::/\n", **{f"{top}/cpu.max": "garbage"}) == 8
    assert usable("0::/\n", **{f"{top}/cpu.max": "1 100000"}) == 1


def test_auto_workers(folder: Path) -> None:
    assert settings(POOL + "workers = 'auto'").pools["web"].workers == cpus.usable()


def test_the_template_is_a_configuration(folder: Path) -> None:
    assert settings(template()).pools["worker"].target == "app:run"


def test_what_the_template_has_in_comments_is_good_too(folder: Path) -> None:
    """Whoever takes the marks away has a configuration, and no other defaults than before."""
    pools = settings(uncommented(template()).replace("www-data", str(os.geteuid()))).pools
    assert pools["worker"].surge == settings(template()).pools["worker"].surge
    assert pools["web"].sockets == ("http",)


def test_the_task_in_the_template_is_good_once_the_marks_are_away(folder: Path) -> None:
    read_ = settings(uncommented(template()).replace("www-data", str(os.geteuid())))
    assert read_.tasks["nightly"].schedule == "30 3 * * *"


def test_the_examples_pool_of_programs_is_good_once_the_marks_are_away() -> None:
    text = (ROOT / "config.example.toml").read_text()
    begin, end = text.index("# [pools.web]"), text.index("[tasks.purge]")
    read_ = understand(tomli.loads(text[:begin] + uncommented(text[begin:end])), "config.toml", {})
    assert read_.pools["web"].after == ("checksum",)
    assert read_.sockets["http"] == SocketSettings("http", "127.0.0.1:8000")


def uncommented(text: str) -> str:
    return re.sub(r"^# ?(?=[a-z_]+ = |\[|#)", "", text, flags=re.MULTILINE)


def test_the_example_is_a_configuration_that_touches_nothing_outside_its_folder() -> None:
    read_ = read(str(ROOT / "config.example.toml"), {})
    assert read_.pools["checksum"].target == "examples.checksum:run"
    for place in (read_.master.socket, read_.master.pidfile, read_.master.state_dir):
        assert str(place).startswith(str(ROOT))


def test_the_example_names_every_key_with_its_default() -> None:
    """It is the reference: no key is missing, and commented-out keys are TOML too."""
    text = (ROOT / "config.example.toml").read_text()
    for cls in vars(words).values():
        if dataclasses.is_dataclass(cls) and isinstance(cls, type) and cls not in (Settings, Account):
            for key in keys(cls):
                assert re.search(rf"\b{key} = |\.{key}\]", text), f"{cls.__name__}.{key}"


def test_what_the_example_writes_is_the_default(folder: Path) -> None:
    example, bare = read(str(ROOT / "config.example.toml"), {}), settings(POOL)
    assert example.pools["checksum"] == dataclasses.replace(
        bare.pools["web"],
        name="checksum",
        target=example.pools["checksum"].target,
        workers=2,
        options={"database": ".run/checksum.sqlite"},
    )
    purge = example.tasks["purge"]
    bare_task = TaskSettings("purge", target=purge.target, every=purge.every, options=purge.options)
    assert purge == bare_task
    own = ("name", "socket", "pidfile", "state_dir", "working_dir", "pythonpath")
    assert (
        dataclasses.replace(bare.master, **{key: getattr(example.master, key) for key in own})
        == example.master
    )
