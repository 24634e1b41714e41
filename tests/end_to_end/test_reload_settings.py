"""What a reload changes: environment, options, hooks, folders, limits of time; and what it names as fixed."""

from __future__ import annotations

import json
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from program import Program
from reloading import WAITS, configure, least, pids, pool, serving, works

Start = Callable[..., Program]

TELLS = """
    import json, os, pathlib
    import lib
    def run(worker):
        told = {
            "env": dict(os.environ), "options": worker.options, "folder": os.getcwd(), "lib": lib.VERSION,
        }
        to = pathlib.Path(__file__).resolve().parent / f"told{worker.generation}"
        to.write_text(json.dumps(told, default=dict))
        worker.ready()
        worker.wait()
"""


@pytest.fixture
def lib(tmp_path: Path) -> Path:
    """Two releases of a library, and a link to the present one."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lib.py").write_text(f"VERSION = {name!r}\n")
    (tmp_path / "current").symlink_to("one")
    return tmp_path / "current"


def told(one: Program, generation: int) -> Any:
    """What the worker of that generation had."""
    return json.loads((one.folder / f"told{generation}").read_text())


MASTER = 'pythonpath = [".", "current"]'


def test_environment_and_options_are_those_of_the_new_file(program: Start, lib: Path) -> None:
    """What was changed is new, what was removed is gone, also from an env_file; no worker has both."""
    (lib.parent / "vars").write_text("FILE_A=1\nFILE_B=1\n")
    more = "ready = 'notify'\nenv_file = 'vars'\nenv = {A = '1', B = '1'}\noptions = {size = 1, gone = 1}"
    one = program(TELLS, pool("a", 1, more), master=MASTER).ready()
    (lib.parent / "vars").write_text("FILE_A=2\n")
    configure(one, ("{A = '1', B = '1'}", "{A = '2'}"), ("size = 1, gone = 1", "size = 2"))
    changed = works(one)["changed"]
    assert changed == ["pools.a.options: changed", "pools.a.env: changed"]
    before, after = told(one, 1), told(one, 2)
    names = ("A", "B", "FILE_A", "FILE_B")
    assert [before["env"].get(name) for name in names] == ["1", "1", "1", "1"]
    assert [after["env"].get(name) for name in names] == ["2", None, "2", None]
    assert (before["options"], after["options"]) == ({"size": 1, "gone": 1}, {"size": 2})
    assert after["env"]["SUPERVISOR_GENERATION"] == "2"
    works(one)
    assert [told(one, 3)["env"].get(name) for name in names] == ["2", None, "2", None]
    one.stop(0)


def test_a_link_that_points_elsewhere_now_leads_to_new_code_and_folder(program: Start, lib: Path) -> None:
    """As a deploy into a folder of its own does it: each new worker starts where the link points."""
    one = program(TELLS, pool("a", 1, "ready = 'notify'\nworking_dir = 'current'"), master=MASTER).ready()
    (lib.parent / "next").symlink_to("two")
    (lib.parent / "next").rename(lib)
    assert works(one)["changed"] == []
    found = [(told(one, n)["lib"], Path(told(one, n)["folder"]).name) for n in (1, 2)]
    assert found == [("one", "one"), ("two", "two")]
    one.stop(0)


def test_a_folder_that_is_gone_is_a_failure_like_others(program: Start, lib: Path) -> None:
    """Its key is named; back again, it works."""
    one = program(TELLS, pool("a", 1, "ready = 'notify'\nworking_dir = 'current'"), master=MASTER).ready()
    before = pids(one)
    lib.rename(lib.parent / "away")
    mark = one.mark()
    one.signal(signal.SIGHUP)
    error = one.wait_for("reload.failed", since=mark)["error"]
    assert "current" in error
    assert pids(one) == before
    (lib.parent / "away").rename(lib)
    works(one)
    assert least(one) == 1
    one.stop(0)


def test_a_path_that_changed_is_searched_by_new_workers(program: Start, lib: Path) -> None:
    """`pythonpath` of the new file, in its order."""
    one = program(TELLS, pool("a", 1, "ready = 'notify'"), master=MASTER).ready()
    configure(one, ('"current"', '"two", "current"'))
    assert works(one)["changed"] == ["master.pythonpath: changed"]
    assert [told(one, n)["lib"] for n in (1, 2)] == ["one", "two"]
    one.stop(0)


def test_what_cannot_change_is_named_and_kept(program: Start) -> None:
    """Each such key is a warning; all else takes effect; a second reload names them again."""
    one = program(WAITS, pool()).ready()
    for key in ("socket", "pidfile", "state_dir"):
        configure(one, (f'{key} = "run/', f'{key} = "other/'))
    configure(one, ("[master]", '[master]\nname = "else"'), ("workers = 2", "workers = 3"))
    for _ in range(2):
        mark = one.mark()
        done = works(one)
        warned = [e["reason"] for e in one.events[mark:] if e["event"] == "reload.warning"]
        keys = ("name", "socket", "pidfile", "state_dir")
        assert warned == [f"master.{k}: needs a restart (USR2), the running value is kept" for k in keys]
        assert done["changed"] == (["pools.a.workers: 2 -> 3"] if done["generation"] == 2 else [])
    assert len(serving(one)) == 3
    assert one.socket.is_socket()
    assert one.pidfile.exists()
    assert not (one.folder / "other").exists()
    one.stop(0)


HOOKS = """
    from supervisor import on_worker_stop
    def old_stop(context):
        print("the old on_stop", flush=True)
    def new_stop(context):
        print("the new on_stop", flush=True)
    def new_exit(context):
        print("the new on_exit", flush=True)
    def went_up(context):
        print("a hook of the way up ran again", flush=True)
    def old_leaves(worker):
        print(worker.generation, "leaves by the old hook", flush=True)
    def new_leaves(worker):
        print(worker.generation, "leaves by the new hook", flush=True)
    def run(worker):
        worker.wait()
"""


def test_hooks_that_a_reload_brought_run_at_the_stop(program: Start) -> None:
    """Of the master and of workers; an old worker still has its old ones; nothing of the way up runs."""
    hooks = '[hooks]\non_stop = "app:old_stop"\non_worker_stop = "app:old_leaves"\n'
    one = program(HOOKS, pool("a", 1) + hooks).ready()
    more = '\non_exit = "app:new_exit"\non_start = "app:went_up"\non_ready = "app:went_up"'
    configure(one, ("app:old_leaves", "app:new_leaves"), ('"app:old_stop"', f'"app:new_stop"{more}'))
    works(one)
    one.wait_for_line("1 leaves by the old hook")
    one.stop(0)
    lines = [line for line in one.noise if "hook" in line or "on_" in line]
    assert lines == [
        "1 leaves by the old hook",
        "the new on_stop",
        "2 leaves by the new hook",
        "the new on_exit",
    ]


def test_hooks_of_a_reload_that_failed_do_not_run(program: Start) -> None:
    """Those of the good generation do."""
    one = program(HOOKS, pool("a", 1) + '[hooks]\non_stop = "app:old_stop"\n').ready()
    configure(one, ("app:old_stop", "app:new_stop"), ('"app:run"', '"app:nothing"'))
    mark = one.mark()
    one.signal(signal.SIGHUP)
    one.tracebacks_expected = True
    one.wait_for("reload.failed", since=mark)
    one.stop(0)
    assert [line for line in one.noise if "on_stop" in line] == ["the old on_stop"]


HANGS = """
    import threading
    def run(worker):
        worker.ready()
        while worker.options["hangs"]:
            threading.Event().wait()
        worker.wait()
"""


def test_a_new_stop_timeout_holds_for_the_stop(program: Start) -> None:
    """The master's: who hangs is killed by the new deadline, long before the old one."""
    config = pool("a", 1, "ready = 'notify'\noptions = {hangs = false}")
    one = program(HANGS, config, master='stop_timeout = "600s"').ready()
    configure(one, ("hangs = false", "hangs = true"), ('"600s"', '"1s"'))
    assert "master.stop_timeout: 600.0 -> 1.0" in works(one)["changed"]
    one.stop(3)
    assert [w["killed"] for w in one.report()["workers"]] == [True]


def test_an_old_worker_is_given_the_time_that_it_was_born_with(program: Start) -> None:
    """Its own stop_timeout, not the longer one of the file that replaces it."""
    more = "ready = 'notify'\noptions = {hangs = true}\nstop_timeout = '500ms'"
    one = program(HANGS, pool("a", 1, more), master='stop_timeout = "600s"').ready()
    configure(one, ("hangs = true", "hangs = false"), ("'500ms'", "'500s'"))
    works(one)
    assert one.find("worker.killed", generation=1)
    one.stop(0)


def test_a_whole_release_is_swapped_by_its_link(program: Start, tmp_path: Path) -> None:
    """Configuration, code and folder are reached by a link; the file is read where it points now."""
    app = """
        def run(worker):
            worker.status("{version}")
            worker.ready()
            worker.wait()
    """
    (tmp_path / "run").mkdir(0o700)
    for release in ("r1", "r2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "run").symlink_to("../run")
    (tmp_path / "current").symlink_to("r1")
    here = tmp_path / "current"
    one = program(app.format(version="first"), pool("a", 1, "ready = 'notify'"), here).ready()
    (tmp_path / "r2/config.toml").write_text(one.config.read_text().replace("workers = 1", "workers = 2"))
    (tmp_path / "r2/app.py").write_text(textwrap.dedent(app.format(version="second")))
    (tmp_path / "next").symlink_to("r2")
    (tmp_path / "next").rename(here)
    assert "pools.a.workers: 1 -> 2" in works(one)["changed"]
    one.wait_shown("a.0", lambda shown: shown["status"] == "second")
    one.wait_shown("a.1", lambda shown: shown["status"] == "second")
    assert one.find("reload.warning") is None
    one.stop(0)
