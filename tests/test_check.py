"""`check` imports in a child what the settings name, and survives whatever that does."""

from __future__ import annotations

import fcntl
import os
import re
import sys
from pathlib import Path

import psutil
import pytest

from supervisor.check import check
from supervisor.config import read

CONFIG = """
[pools.a]
target = "{target}"
start_timeout = "{timeout}"
"""

MODULE = """
import functools, sys
from types import SimpleNamespace

def run(worker): ...
def bare(): ...
async def later(worker): ...
def default(worker, more=1): ...
def two(worker, more): ...
def keyword(worker, *, more): ...
def generator(worker): yield
async def async_generator(worker): yield
class App:
    def __init__(self, worker): ...
    @staticmethod
    def run(worker): ...
class NoDoor:
    @property
    def x(self): raise RuntimeError("x\\n\\x1b[2J")
door = NoDoor()
number = 3
part = functools.partial(two, more=1)
space = SimpleNamespace(run=run)
builtin = print
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "jobs.py").write_text(MODULE)
    return tmp_path


def checked(text: str) -> list[str]:
    Path("config.toml").write_text(text)
    os.chmod("config.toml", 0o600)
    return check(read("config.toml", os.environ))


def of_target(target: str, timeout: str = "30s") -> list[str]:
    return checked(CONFIG.format(target=target, timeout=timeout))


def of_module(source: str, timeout: str = "30s") -> list[str]:
    """Of a module with that source and a good target at its end, if its end is reached."""
    Path("app.py").write_text(f"{source}\ndef run(worker): ...\n")
    return of_target("app:run", timeout)


GOOD = ["run", "bare", "later", "default", "App", "App.run", "part", "space.run", "builtin"]


def test_whatever_can_be_called_with_a_worker_or_with_nothing_is_a_target() -> None:
    text = "".join(f'[pools.p{i}]\ntarget = "shop.jobs:{name}"\n' for i, name in enumerate(GOOD))
    assert checked(text) == []


CALLED = "a target is called with one argument, the worker, or with none"
BAD = [
    ("shop.jobs:rnu", "module 'shop.jobs' has no attribute 'rnu', did you mean 'run'?"),
    ("shop.jobs:App.rnu", "class 'shop.jobs.App' has no attribute 'rnu', did you mean 'run'?"),
    ("shop.jobs:door.y", "object 'shop.jobs.door' has no attribute 'y'"),
    ("shop.jobs:door.x", r"reading 'x' of 'shop.jobs.door' raised RuntimeError: x\n\x1b[2J"),
    ("shop.jobs:number", "'shop.jobs.number' is not callable: it is of type 'int'"),
    (
        "shop.jobs:two",
        f"'shop.jobs.two' takes (worker, more); {CALLED}",
    ),
    (
        "shop.jobs:keyword",
        f"'shop.jobs.keyword' takes (worker, *, more); {CALLED}",
    ),
    (
        "shop.jobs:generator",
        "'shop.jobs.generator' is a generator: called, it would do nothing; take 'yield' out of it",
    ),
    (
        "shop.jobs:async_generator",
        "'shop.jobs.async_generator' is a generator: called, it would do nothing; take 'yield' out of it",
    ),
]


def test_what_is_no_target_is_told_by_name() -> None:
    text = "".join(f'[pools.p{i}]\ntarget = "{target}"\n' for i, (target, _) in enumerate(BAD))
    expected = [f"config.toml: pools.p{i}.target: {line}" for i, (_, line) in enumerate(BAD)]
    assert checked(text) == expected


def test_a_module_that_is_not_there_is_told_with_where_it_was_looked_for(folder: Path) -> None:
    assert of_target("shpo.jobs:run") == [
        (
            "config.toml: pools.a.target: cannot import 'shpo.jobs': ModuleNotFoundError: "
            f"No module named 'shpo' (looked in {folder})"
        )
    ]


def test_a_module_that_raises_is_told_with_the_line(folder: Path) -> None:
    assert of_module("import os\n1 / 0") == [
        (
            "config.toml: pools.a.target: cannot import 'app': ZeroDivisionError: division by zero "
            f"(at {folder}/app.py:2)"
        )
    ]
    (line,) = of_module("x = (\n")
    assert re.search(rf"cannot import 'app': SyntaxError: .* \(at {folder}/app.py:1\)$", line)


@pytest.mark.parametrize(
    ("source", "end"),
    [
        ("raise SystemExit(3)", "it called sys.exit(3)"),
        ("import sys; sys.exit('no database')", "it called sys.exit('no database')"),
        ("import os; os._exit(0)", "it ended the process with status 0"),
        ("import os; os._exit(7)", "it ended the process with status 7"),
        ("import os; os.kill(os.getpid(), 11)", "it ended the process by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 40)", "it ended the process by signal 40"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os; os.closerange(0, 64)", "it ended the process with status 1"),
        ("class E(Exception):\n    def __str__(self): raise self\nraise E", "E: <exception str() failed>"),
    ],
)
def test_a_module_that_ends_the_process_is_told_as_what_it_is(source: str, end: str) -> None:
    (line,) = of_module(source)
    assert line.startswith("config.toml: pools.a.target: cannot import 'app': ")
    assert end in line


def test_what_modules_print_does_not_reach_the_result(capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        of_module(
            "import os, sys\nprint('{}' * 99999)\nos.write(2, b'x' * 99999)\nassert not sys.stdin.read()"
        )
        == []
    )
    assert capfd.readouterr() == ("", "")


def test_a_hang_is_cut_and_its_children_with_it(folder: Path) -> None:
    """The grandchild holds a lock; when the check is over, the lock is free."""
    source = """
import fcntl, os, signal
read, write = os.pipe()
if os.fork() == 0:
    held = open("lock", "w")
    fcntl.flock(held, fcntl.LOCK_EX)
    os.write(write, b"x")
    signal.pause()
os.read(read, 1)
open("hangs", "w").close()
signal.pause()
"""
    assert of_module(source, "1s") == [
        "config.toml: pools.a.target: cannot import 'app': it did not end within 1 s"
    ]
    assert (folder / "hangs").exists()
    with open(folder / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kill is over when the kernel let go of it


def test_a_module_that_hangs_keeps_no_other_from_being_looked_at() -> None:
    Path("app.py").write_text("import signal; signal.pause()")
    lines = checked(
        CONFIG.format(target="app:run", timeout="1s")
        + '[pools.a.hooks]\non_worker_start = ["shop.jobs:run", "app:x", "shop.jobs:rnu"]\n'
    )
    assert lines == [
        "config.toml: pools.a.target: cannot import 'app': it did not end within 1 s",
        (
            "config.toml: pools.a.hooks.on_worker_start[2]: "
            "module 'shop.jobs' has no attribute 'rnu', did you mean 'run'?"
        ),
    ]


def test_hooks_and_their_modules_are_looked_at_once_each() -> None:
    """A module named in `import` is imported by the master and by every worker."""
    lines = checked(
        """
[pools.a]
target = "shop.jobs:run"
hooks.on_worker_stop = "shop.jobs:two"
[pools.b]
target = "shop.jobs:run"
[hooks]
import = ["shop.hooks"]
on_start = "shop.jobs:bare"
on_worker_exit = "shop.jobs:nix"
"""
    )
    assert [line.split(": ")[1] for line in lines] == [
        "hooks.import",
        "hooks.on_start",
        "pools.a.hooks.on_worker_stop",
        "hooks.on_worker_exit",
    ]
    assert lines[1].endswith("'shop.jobs.bare' takes (); a hook is called with one argument, its context")


def test_a_target_sees_the_environment_and_folder_of_its_pool(folder: Path) -> None:
    (folder / "there").mkdir()
    Path("app.py").write_text(
        "import os, sys\n"
        "assert os.environ['COLOUR'] == 'blue' and os.environ['SUPERVISOR_WORKER'] == 'a.0'\n"
        f"assert os.getcwd() == '{folder}/there' and sys.path[0] == '{folder}'\n"
        "def run(): ...\n"
    )
    text = CONFIG.format(target="app:run", timeout="30s")
    assert checked(f"{text}env = {{COLOUR = 'blue'}}\n[master]\nworking_dir = 'there'") == []


def test_a_folder_that_is_not_there_is_told_by_its_key(folder: Path) -> None:
    text = CONFIG.format(target="shop.jobs:run", timeout="30s")
    assert checked(f"{text}[master]\nworking_dir = 'gone'") == [
        (
            f"config.toml: master.working_dir: cannot run {sys.executable} in {folder}/gone: "
            "No such file or directory"
        )
    ]


def test_a_check_changes_nothing(folder: Path) -> None:
    """No bytecode on disk, no module in this process, no file descriptor left, no child."""
    descriptors, children = os.listdir("/proc/self/fd"), psutil.Process().children()
    assert of_target("shop.jobs:run") == []
    assert sorted(os.listdir(folder)) == ["config.toml", "shop"]
    assert os.listdir(folder / "shop") == ["jobs.py"]
    assert "shop.jobs" not in sys.modules
    assert os.listdir("/proc/self/fd") == descriptors
    assert psutil.Process().children() == children
