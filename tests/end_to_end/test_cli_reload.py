"""What ``reload`` prints and how it waits, whatever the master does; and how a broken file is no obstacle."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from command import TIMEOUT, environment, one_line, run
from stage import Stage, pool, report, worker
from test_cli_follow import following, on, on_a_terminal, streaming

NUMBER = 7  # what the stage answers


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    found = Stage(str(tmp_path / "stage.sock"))
    yield found
    found.close()


def event(name: str, **more: object) -> dict[str, object]:
    return {"event": name, "message": name, "reload": NUMBER, "generation": 2, **more}


def test_reload_is_0_when_the_reload_that_includes_it_is_done(stage: Stage) -> None:
    """Not when an earlier one is, that was going on."""
    others = [event("reload.failed", reload=6, error="not ours"), event("reload.done", reload=6)]
    ours = [
        event("reload.started"),
        event("reload.done", seconds=3.21, changed=["pools.web.workers: 4 -> 8"]),
    ]
    stage.script["reload"] = lambda: stage.events.extend([*others, *ours])
    done = on(stage, "reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "reloaded after 3.2s: generation 2; changed: pools.web.workers: 4 -> 8\n"


def test_a_reload_that_was_rolled_back_is_1_with_its_reason_in_one_line(stage: Stage) -> None:
    error = "web.0 (generation 2): exit status 1: cannot load app:run: SyntaxError"
    stage.script["reload"] = lambda: stage.events.append(event("reload.failed", error=error))
    done = on(stage, "reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert error in one_line(done.stderr)
    assert "goes on" in done.stderr
    assert "reload again" in done.stderr


def test_every_mistake_in_the_file_is_a_line_and_none_can_steer_the_terminal(stage: Stage) -> None:
    error = "config.toml: pools.a.wokers: unknown key\nconfig.toml: pools.b: \x1b[2Jbad"
    stage.script["reload"] = lambda: stage.events.append(event("reload.failed", error=error))
    done = on(stage, "reload")
    first, second, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert first == "config.toml: pools.a.wokers: unknown key"
    assert second == "config.toml: pools.b:  [2Jbad"
    assert last.startswith("supervisord-lite: not reloaded, the last good generation goes on: 2 mistakes")


def test_a_stop_meanwhile_is_1_and_named(stage: Stage) -> None:
    stop = {"event": "master.stopping", "message": "", "reason": "SIGTERM"}
    stage.script["reload"] = lambda: stage.events.extend([event("reload.started"), stop])
    done = on(stage, "reload")
    assert done.returncode == 1
    assert "stops (SIGTERM)" in one_line(done.stderr)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ({"last_reload": {"ok": True, "error": None}, "generation": 2}, 0, "reloaded: generation 2"),
        ({"last_reload": {"ok": False, "error": "web.0: exit status 1"}}, 1, "goes on: web.0: exit status 1"),
        ({"state": "stopping"}, 1, "the master is stopping"),
    ],
)
def test_what_a_reload_came_to_while_events_were_left_out_is_in_the_status(
    stage: Stage, status: dict[str, Any], code: int, words: str
) -> None:
    def begin() -> None:
        for last in filter(None, [status.get("last_reload")]):
            last["at"] = (datetime.now(timezone.utc) + timedelta(seconds=1)).isoformat()
        stage.status |= status
        stage.drop(event("reload.started"))

    stage.script["reload"] = begin
    done = on(stage, "reload")
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert "left meanwhile" not in done.stderr


def test_a_reload_that_goes_on_when_events_were_left_out_is_followed_on(stage: Stage) -> None:
    """What the status tells of an earlier one is not taken for its end."""
    before = (datetime.now(timezone.utc) - timedelta(seconds=60)).isoformat()
    stage.status["last_reload"] = {"ok": False, "error": "of yesterday", "at": before}
    stage.script["reload"] = stage.drop
    stage.script["status"] = lambda: stage.events.append(event("reload.done"))
    done = on(stage, "reload")
    assert (done.returncode, done.stdout) == (0, "reloaded: generation 2\n")
    assert "lines are left out here" in one_line(done.stderr)


def test_a_master_that_dies_meanwhile_is_1(stage: Stage) -> None:
    stage.script["reload"] = lambda: stage.leave(report(0))
    done = on(stage, "reload")
    assert done.returncode in {1, 3}
    assert "supervisord-lite: " in done.stderr


def test_warnings_of_the_new_file_are_told(stage: Stage) -> None:
    kept = "master.pidfile: needs a restart (USR2), the running value is kept"
    warning = {"event": "master.warning", "message": kept}
    stage.script["reload"] = lambda: stage.events.extend([warning, event("reload.done")])
    done = on(stage, "reload")
    assert (done.returncode, done.stderr) == (0, kept + "\n")


def test_ctrl_c_ends_the_following_and_nothing_else(stage: Stage) -> None:
    with following(stage, "reload") as process:
        streaming(stage)
        asked = threading.Event()
        while "status" not in stage.asked:  # it has asked, and follows
            asked.wait(0.005)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == -signal.SIGINT
        assert process.stderr is not None
        assert "it goes on" in one_line(process.stderr.read())
    assert set(stage.asked) == {"reload", "status"}


def test_a_terminal_shows_how_many_are_new_and_what_is_waited_for(stage: Stage) -> None:
    """Each look at the status finds the reload one step further."""
    old = [worker(f"web.{n}", "ready") for n in range(2)]
    new = [worker(f"web.{n}", "ready", generation=2) for n in range(2)]
    steps: list[list[dict[str, Any]]] = [
        old,
        [worker("web.0", "starting", generation=2), *old],
        [new[0], *old],
        [new[0], worker("web.0", "stopping", in_flight=3), old[1]],
        new,
        new,
        new,
    ]

    def step() -> None:
        number = stage.asked.count("status") - 2
        if number < 0:
            stage.events.append(event("reload.started"))
        elif number < len(steps):
            stage.status["pools"]["web"] = pool("reloading", 2, steps[number])
        elif number == len(steps):
            stage.events.append(event("reload.done"))
        if number == 1:
            stage.events.append(event("worker.ready", pool="web"))
        if number == 5:
            stage.events.append(event("reload.rolled", seconds=60.0))

    stage.script["status"] = step
    (folder := Path(stage.path).parent).chmod(0o700)
    (folder / "config.toml").write_text(
        f'[master]\nsocket = "{stage.path}"\n[pools.web]\ntarget = "app:run"\n'
    )
    status, drawn = on_a_terminal(stage, "reload", options=["-c", str(folder / "config.toml")])
    assert status == 0
    told = (
        "waiting for the reload that goes on",
        "generation 2: reading the configuration",
        "generation 2: web 0 of 2 new, starting (web.0 with 2 in flight)",
        "generation 2: web 1 of 2 new, stable for 0.",
        "generation 2: web 1 of 2 new, finishing (web.0 with 3 in flight)",
        "generation 2: all new, finishing",
        "generation 2: all new, watched for ",
        "reloaded: generation 2",
    )
    places = [drawn.find(text) for text in told]
    assert -1 not in places, drawn
    assert places == sorted(places)


# -- a file with mistakes ------------------------------------------------------


@pytest.fixture
def shop(stage: Stage) -> Path:
    """The configuration of the master that runs."""
    (folder := Path(stage.path).parent).chmod(0o700)
    return folder / "config.toml"


BROKEN = [
    "[pools.web]\nwokers = 3\n",
    "[pools.web]\ntarget = [[[\n",
    "[pools.web\n",
    "\n[pools.web]\ntarget = 'app:run'\n[pools.web]\n",
]


@pytest.mark.parametrize("rest", BROKEN)
def test_a_file_with_mistakes_still_leads_to_its_master(stage: Stage, shop: Path, rest: str) -> None:
    """How else could a person ask why the reload failed?"""
    shop.write_text(f"# mine\n [master] # of the shop\nname = 'shop'\nsocket = '{stage.path}'\n{rest}")
    stage.status["last_reload"] = {"ok": False, "error": "bad file", "at": None}
    done = run("status", cwd=shop.parent)
    assert done.returncode == 0, done.stderr
    assert "last reload failed: bad file" in done.stdout
    stage.script["reload"] = lambda: stage.events.append(event("reload.failed", error="config.toml: no"))
    done = run("reload", cwd=shop.parent)
    assert done.returncode == 1
    assert "config.toml: no" in one_line(done.stderr)


@pytest.mark.parametrize(
    "text",
    [
        "[master]\nsocket = '{}'\nsokcet = 1\n",
        "[master]\nsocket = '{}\n",
        "[master]\nsocket = '{}${{NOWHERE_SET}}'\n[pools.web]\ntarget = 'app:run'\n",
        "master.socket = '{}'\n[pools.web\n",
        "master = '{}'\n",
    ],
)
def test_a_master_table_that_is_wrong_itself_leads_nowhere(stage: Stage, shop: Path, text: str) -> None:
    shop.write_text(text.format(stage.path))
    done = run("stop", cwd=shop.parent)
    assert done.returncode == 2
    assert "--socket" in done.stderr
    assert stage.asked == []


def test_a_file_without_a_master_table_leads_to_the_usual_place(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    found = Stage(str(tmp_path / "run" / "config.sock"))
    try:
        (tmp_path / "config.toml").write_text("[pools.web\n")
        done = run("status", cwd=tmp_path, RUNTIME_DIRECTORY=str(tmp_path / "run"))
        assert done.returncode == 0, done.stderr
    finally:
        found.close()


# -- the status, and completion ------------------------------------------------


def test_status_tells_new_workers_from_old_ones_while_there_are_both(stage: Stage) -> None:
    assert " old " not in on(stage, "status").stdout
    stage.status["pools"]["web"]["generation"] = 2
    stage.status["pools"]["web"]["workers"].append(worker("web.0", "starting", generation=2))
    shown = on(stage, "status").stdout
    assert (shown.count("ready    old "), shown.count("starting new ")) == (2, 1)
    assert "2 in flight" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_scale_completes_the_names_of_pools(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        "".join(f'[pools.{n}]\ntarget = "app:run"\n' for n in ("web", "work", "mail"))
    )
    (tmp_path / "config.toml").write_text("[[[")
    for words, found in (("-c c.toml scale w", ["web", "work"]), ("scale w", [])):
        *before, last = words.replace("-c c.toml scale", "scale -c c.toml").split()
        done = subprocess.run(
            [sys.executable, "-m", "supervisor"],
            cwd=tmp_path,
            env=environment(
                _SUPERVISORD_LITE_COMPLETE="bash_complete",
                COMP_WORDS=" ".join(["supervisord-lite", *before, last]),
                COMP_CWORD=str(len(before) + 1),
            ),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert [line.partition(",")[2] for line in done.stdout.split()] == found, done
