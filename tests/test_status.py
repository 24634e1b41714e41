"""The object of `status --json`: its keys, and what it shows of each state."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor.decide.actions import Start
from supervisor.decide.life import Life
from supervisor.decide.stopping import Firmness
from supervisor.exits import End
from supervisor.settings import MasterSettings, PoolSettings, Settings
from supervisor.status import Beside, iso, snapshot, summary

BEGAN = 1000.0
MASTER = {
    "name", "pid", "version", "state", "generation", "uptime", "stop_deadline", "last_reload", "pools",
    "tasks",
}  # fmt: skip
POOL = {"state", "desired", "ready", "generation", "restarts", "workers"}
WORKER = {
    "id", "slot", "pid", "state", "generation", "uptime", "restarts", "status", "jobs", "in_flight",
    "memory", "cpu", "last_exit",
}  # fmt: skip


class Stage:
    """A decision core with two workers that are up, and what is beside it."""

    def __init__(self, *, preload: bool = False) -> None:
        master = MasterSettings("shop", socket="s", state_dir="d", working_dir="/", pythonpath=())
        pools = {"a": PoolSettings(name="a", target="app:run", workers=2, preload=preload)}
        self.life = Life(Settings("config.toml", master, pools), lambda: 0.0)
        self.ends: dict[tuple[str, int], dict[str, Any]] = {}
        self.used: tuple[int, float] | None = (4096, 0.5)
        self.last_reload: dict[str, Any] = {"ok": None, "error": None, "at": None}
        self.life.imported({name: 0 for name in self.life.moments if name != "import"})
        for start in [action for _ in range(3) for action in self._up()]:
            self.come_up(start.worker, BEGAN)
        self.plan()

    def _up(self) -> list[Start]:
        self.life.hook_ended("import", 0, None)
        return [action for action in self.plan() if isinstance(action, Start)]

    def plan(self, now: float = BEGAN) -> list[Any]:
        return self.life.plan(now)

    def come_up(self, id: int, now: float) -> None:
        pool = self.life.pools["a"]
        pool.started(id, 4710 + id)
        pool.ready(id, now)

    def shown(self, now: float = BEGAN) -> dict[str, Any]:
        beside = Beside(42, BEGAN, self.ends, lambda _: self.used, lambda: self.last_reload)
        return json.loads(json.dumps(snapshot(self.life, beside, now)))  # type: ignore[no-any-return]

    def workers(self, now: float = BEGAN) -> list[dict[str, Any]]:
        return self.shown(now)["pools"]["a"]["workers"]  # type: ignore[no-any-return]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_it_has_the_keys_of_the_contract(stage: Stage) -> None:
    shown = stage.shown()
    assert set(shown) == MASTER
    assert set(shown["pools"]["a"]) == POOL
    assert [set(worker) for worker in shown["pools"]["a"]["workers"]] == [WORKER, WORKER]


def test_a_running_master_with_ready_workers(stage: Stage) -> None:
    shown = stage.shown(BEGAN + 2.0)
    assert (shown["name"], shown["pid"], shown["state"], shown["uptime"]) == ("shop", 42, "running", 2.0)
    assert (shown["stop_deadline"], shown["last_reload"], shown["tasks"]) == (
        None,
        {"ok": None, "error": None, "at": None},
        {},
    )
    pool = shown["pools"]["a"]
    assert (pool["state"], pool["desired"], pool["ready"], pool["restarts"]) == ("ready", 2, 2, 0)
    first = pool["workers"][0]
    assert (first["id"], first["slot"], first["pid"], first["state"]) == ("a.0", 0, 4711, "ready")
    assert (first["memory"], first["cpu"], first["uptime"]) == (4096, 25.0, 2.0)
    assert (first["jobs"], first["in_flight"], first["status"], first["last_exit"]) == (None,) * 4


def test_what_a_worker_told(stage: Stage) -> None:
    stage.life.pools["a"].told(1, 12, 1, "reading")
    stage.life.pools["a"].told(1, None, 0, None)
    assert [stage.workers()[0][key] for key in ("jobs", "in_flight", "status")] == [12, 0, "reading"]


def test_a_process_that_is_gone_already_uses_nothing(stage: Stage) -> None:
    stage.used = None
    assert [stage.workers()[0][key] for key in ("memory", "cpu")] == [None, None]


def test_a_slot_in_backoff_is_shown_with_when_it_is_tried_again(stage: Stage) -> None:
    stage.ends["a", 0] = {"code": 1, "signal": None, "reason": "exit status 1", "at": "then"}
    stage.life.exited(1, End(code=1), BEGAN + 1.0)
    stage.plan(BEGAN + 1.0)
    waiting = stage.workers(BEGAN + 1.0)[0]
    assert (waiting["id"], waiting["state"], waiting["pid"]) == ("a.0", "backoff", None)
    assert waiting["status"] == "starts again in 0.1 s"
    assert waiting["last_exit"]["reason"] == "exit status 1"
    assert waiting.keys() >= WORKER
    assert stage.shown(BEGAN + 1.0)["pools"]["a"]["state"] == "degraded"


def test_a_pool_that_is_parked_says_why(stage: Stage) -> None:
    """A key that is there only while there is something to say."""
    stage.life.pools["a"].experience.park("more than 2 failures in 60 s")
    shown = stage.shown()["pools"]["a"]
    assert (shown["state"], shown["reason"]) == ("parked", "parked: more than 2 failures in 60 s")
    stage.life.resize(stage.life.pools["a"], 2, BEGAN)
    assert "reason" not in stage.shown()["pools"]["a"]


def test_a_pool_whose_template_fails_says_why() -> None:
    """Until one is up; nothing is said of one that has not failed."""
    stage = Stage(preload=True)
    template = stage.life.everybody.template(stage.life.pools["a"])
    assert template is not None
    [worker] = template.workers.values()
    assert "reason" not in stage.shown()["pools"]["a"]
    worker.error = "no module named app"
    stage.life.exited(worker.id, End(code=1), BEGAN)
    stage.plan()
    reason = "its template failed: exit status 1: no module named app, tried again in 0.1 s"
    assert stage.shown()["pools"]["a"]["reason"] == reason
    [again] = [action for action in stage.plan(BEGAN + 1.0) if isinstance(action, Start)]
    assert stage.shown()["pools"]["a"]["reason"] == reason.partition(",")[0]
    template.ready(again.worker, BEGAN + 1.0)
    assert "reason" not in stage.shown()["pools"]["a"]


def test_a_replacement_counts_as_a_restart_and_shows_the_last_exit(stage: Stage) -> None:
    stage.ends["a", 0] = {"code": 4, "signal": None, "reason": "exit status 4", "at": "then"}
    stage.life.exited(1, End(code=4), BEGAN + 20.0)
    [start] = [action for action in stage.plan(BEGAN + 20.0) if isinstance(action, Start)]
    assert stage.workers(BEGAN + 20.0)[0]["state"] == "starting"
    stage.come_up(start.worker, BEGAN + 20.0)
    worker = stage.workers(BEGAN + 20.0)[0]
    assert (worker["state"], worker["restarts"], worker["last_exit"]["code"]) == ("ready", 1, 4)
    assert stage.shown(BEGAN + 20.0)["pools"]["a"]["restarts"] == 1


def test_quiet(stage: Stage) -> None:
    stage.life.hush(True)
    stage.plan()
    assert (stage.shown()["state"], [w["state"] for w in stage.workers()]) == ("quiet", ["quiet"] * 2)
    assert summary(stage.life) == "quiet: a 2/2 ready"


@pytest.mark.parametrize(
    ("holders", "words"),
    [
        (["a.0 (pid 7)"], "still held by a.0 (pid 7) of a dead master"),
        (["a.0 (pid 7)"] * 12, f"still held by {'a.0 (pid 7), ' * 9}a.0 (pid 7) and 2 more of a dead master"),
        ([], "which is still in use"),
    ],
)
def test_a_start_that_waits_for_an_address_says_for_what_and_for_whom(
    stage: Stage, holders: list[str], words: str
) -> None:
    """To people and to the service manager; a stop waits for nothing, and what is open is not told of."""
    stage.life.opening.taken("127.0.0.1:80", holders, "", BEGAN)
    assert stage.shown()["reason"] == f"waiting for 127.0.0.1:80, {words}"
    assert summary(stage.life) == f"{stage.life.state}: waiting for 127.0.0.1:80, {words}"
    stage.life.opening.opened(BEGAN)
    assert "reason" not in stage.shown()
    stage.life.opening.taken("127.0.0.1:80", holders, "", BEGAN)
    stage.life.ask(Firmness.STOP, "SIGTERM", BEGAN)
    assert "reason" not in stage.shown()


@pytest.mark.parametrize(
    ("firmness", "state"), [(Firmness.STOP, "stopping"), (Firmness.RESTART, "restarting")]
)
def test_a_stop_shows_its_deadline_and_who_is_left(stage: Stage, firmness: Firmness, state: str) -> None:
    stage.life.ask(firmness, "SIGTERM", BEGAN)
    stage.plan()
    shown = stage.shown(BEGAN + 10.0)
    assert (shown["state"], shown["pools"]["a"]["state"]) == (state, "stopping")
    assert [w["state"] for w in shown["pools"]["a"]["workers"]] == ["stopping"] * 2
    left = seconds_until(shown["stop_deadline"])
    assert 10.0 < left <= 20.5
    stage.life.exited(1, End(code=0), BEGAN + 1.0)
    assert [w["id"] for w in stage.workers(BEGAN + 1.0)] == ["a.1"]
    assert summary(stage.life) == f"{state} (terminate): 1 workers left"


def seconds_until(text: str) -> float:
    from datetime import datetime, timezone

    return (datetime.fromisoformat(text) - datetime.now(timezone.utc)).total_seconds()


@pytest.fixture(params=["UTC", "Asia/Kathmandu", "America/St_Johns"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("wall", [0.0, 1_790_000_000.9996, 1_774_746_000.001])
def test_a_time_is_iso_8601_with_its_offset(zone: str, wall: float) -> None:
    from datetime import datetime

    text = iso(wall)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", text)
    assert datetime.fromisoformat(text).timestamp() == pytest.approx(wall, abs=0.0011)
