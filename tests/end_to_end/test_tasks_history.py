"""The history is shown as it was asked for, however many replies it needs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from program import Program
from rows import run
from tasked import APP, POOL, task

from supervisor.store import Store

Start = Callable[..., Program]
LINES = ["x" * 200] * 20  # what is kept of a run that prints much
COUNT = 60


def test_a_history_that_one_reply_does_not_hold_is_shown_whole(program: Start, tmp_path: Path) -> None:
    """Each run with its lines; a reply says how many of its runs are whole."""
    (tmp_path / "run").mkdir()
    with closing(Store(str(tmp_path / "run/state/config.sqlite"))) as store:
        store.apply([run(n, "a", lines=LINES) for n in range(1, COUNT + 1)], time.time())
    one = program(APP, POOL + task("a")).ready()
    reply = one.client().call("tasks.history", name="a", limit=COUNT)
    assert 0 < reply["whole"] < len(reply["runs"])
    assert [bool(row["lines"]) for row in reply["runs"]].index(False) == reply["whole"]
    shown = json.loads(one.cli("tasks", "history", "a", "-n", str(COUNT), "--json").stdout)["runs"]
    assert [row["run"] for row in shown] == [*range(COUNT, 0, -1)]
    assert all(row["lines"] == LINES for row in shown)
    few = one.client().call("tasks.history", name="a", limit=3, before=4)
    assert ([row["run"] for row in few["runs"]], "whole" in few) == ([3, 2, 1], False)
    one.stop()
