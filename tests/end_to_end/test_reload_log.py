"""Where the log goes and how much it tells, changed by a reload."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

from program import Event, Program
from reloading import WAITS, configure, pool, works

Start = Callable[..., Program]


def events(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(path: Path) -> list[str]:
    return [event["event"] for event in events(path)]


def reload(one: Program) -> None:
    done = one.cli("reload")
    assert done.returncode == 0, done.stderr


def test_the_level_changes_with_the_reload(program: Start) -> None:
    """What is less is silent from then on; and it can be turned up again."""
    one = program(WAITS, pool("a", 1)).ready()
    configure(one, ('log_level = "debug"', 'log_level = "error"'))
    reload(one)
    reload(one)
    configure(one, ('log_level = "error"', 'log_level = "info"'))
    reload(one)
    works(one)
    told = [e.get("generation") for e in one.events if e["event"] == "reload.started"]
    assert told == [2, 5]
    one.stop(0)


def test_the_file_changes_with_the_reload(program: Start, tmp_path: Path) -> None:
    """Not a line is lost between the two, and the old one is closed."""
    one = program(WAITS, pool("a", 1), master='log_file = "one.log"')
    log = tmp_path / "one.log"
    one.wait_until(lambda: log.exists() and "master.ready" in log.read_text())
    configure(one, ('"one.log"', '"two.log"'))
    reload(one)
    before, after = names(tmp_path / "one.log"), names(tmp_path / "two.log")
    assert [*before, *after].count("reload.started") == [*before, *after].count("reload.done") == 1
    assert [*before, *after].count("worker.ready") == 2
    length = len(before)
    one.signal(signal.SIGTERM)
    one.wait(0)
    assert len(names(tmp_path / "one.log")) == length
    assert names(tmp_path / "two.log")[-2:] == ["stop.report", "master.exiting"]
    one.events += [*events(tmp_path / "one.log"), *events(tmp_path / "two.log")]


def test_a_file_that_cannot_be_opened_refuses_the_reload(program: Start, tmp_path: Path) -> None:
    """Before anything was started; the key is named."""
    one = program(WAITS, pool("a", 1)).ready()
    configure(one, ('log_level = "debug"', 'log_level = "debug"\nlog_file = "folder"'))
    (tmp_path / "folder").mkdir()
    done = one.cli("reload")
    assert done.returncode == 1
    assert "folder" in done.stderr
    one.wait_for("reload.failed")
    assert one.find("worker.started", generation=2) is None
    one.stop(0)


def test_a_failed_reload_leaves_the_log_where_it_was(program: Start, tmp_path: Path) -> None:
    one = program(WAITS, pool("a", 1)).ready()
    one.tracebacks_expected = True
    configure(
        one, ('log_level = "debug"', 'log_level = "debug"\nlog_file = "new.log"'), ("app:run", "app:nothing")
    )
    assert one.cli("reload").returncode == 1
    one.wait_for("reload.failed")
    one.stop(0)
    assert (tmp_path / "new.log").read_text() == ""
