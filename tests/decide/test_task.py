"""One task: every input in every state, as the table in the module says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from task_world import DAY, HOUR, MINUTE, Body, World, task, world

from supervisor.decide.standing import State

RETRY = 10 * MINUTE
BODIES = {"good": Body(), "bad": Body(0, "failed"), "hangs": Body(None)}


def running(**keys: Any) -> World:
    return world(task(every=HOUR, retry_after=RETRY, **keys))


def errored(**keys: Any) -> World:
    w = running(**keys)
    w.bodies = lambda _: BODIES["bad"]
    w.wait(HOUR)
    assert w.state() == "errored"
    w.bodies = lambda _: BODIES["good"]
    return w


def paused(**keys: Any) -> World:
    w = running(**keys)
    w.pause("a", reason="maintenance")
    return w


def paused_errored(**keys: Any) -> World:
    w = errored(**keys)
    w.pause("a", reason="maintenance")
    return w


STATES: dict[str, Callable[..., World]] = {
    "running": running,
    "paused": paused,
    "errored": errored,
    "paused errored": paused_errored,
}

# -- inputs --------------------------------------------------------------------


def due(w: World) -> None:
    w.wait(2 * HOUR)


def pause(w: World) -> None:
    w.pause("a", reason="again", seconds=HOUR)


def pause_over(w: World) -> None:
    w.wait(HOUR)


def resume(w: World) -> None:
    w.resume("a")


def by_hand(w: World, how: str = "good") -> None:
    before, w.bodies = w.bodies, lambda _: BODIES[how]
    w.run()
    w.bodies = before


def by_hand_badly(w: World) -> None:
    by_hand(w, "bad")


def configured(w: World) -> None:
    w.configure(task(every=7 * MINUTE, retry_after=RETRY))


def removed(w: World) -> None:
    w.configure()


def restored(w: World) -> None:
    w.restart(down=5.0)


def stop(w: World) -> None:
    w.tasks.stop()
    w.wait(DAY)


def clock_back(w: World) -> None:
    w.jump(-HOUR / 2)


# (state, input): the state that is stored after it, and why runs began.
TABLE: dict[tuple[str, Callable[[World], None]], tuple[str, list[str]]] = {
    ("running", due): ("running", ["schedule"] * 2),
    ("running", pause): ("paused", []),
    ("running", pause_over): ("running", ["schedule"]),  # there is none: an hour passes
    ("running", resume): ("running", []),
    ("running", by_hand): ("running", ["ann"]),
    ("running", by_hand_badly): ("running", ["ann"]),
    ("running", configured): ("running", []),
    ("running", removed): ("removed", []),
    ("running", restored): ("running", []),
    ("running", stop): ("running", []),
    ("running", clock_back): ("running", []),
    ("paused", due): ("paused", []),
    ("paused", pause): ("paused", []),
    ("paused", pause_over): ("paused", []),  # this one has no end
    ("paused", resume): ("running", []),
    ("paused", by_hand): ("paused", ["ann"]),
    ("paused", by_hand_badly): ("paused", ["ann"]),
    ("paused", configured): ("paused", []),
    ("paused", removed): ("removed", []),
    ("paused", restored): ("paused", []),
    ("paused", stop): ("paused", []),
    ("paused", clock_back): ("paused", []),
    ("errored", due): ("running", ["retry", "schedule", "schedule"]),  # the trial comes first
    ("errored", pause): ("paused", []),
    ("errored", pause_over): ("running", ["retry", "schedule"]),
    ("errored", resume): ("running", []),
    ("errored", by_hand): ("errored", ["ann"]),
    ("errored", by_hand_badly): ("errored", ["ann"]),
    ("errored", configured): ("errored", []),
    ("errored", removed): ("removed", []),
    ("errored", restored): ("errored", []),
    ("errored", stop): ("errored", []),
    ("errored", clock_back): ("errored", []),
    ("paused errored", due): ("paused", []),
    ("paused errored", pause): ("paused", []),
    ("paused errored", pause_over): ("paused", []),
    ("paused errored", resume): ("running", []),
    ("paused errored", by_hand): ("paused", ["ann"]),
    ("paused errored", by_hand_badly): ("paused", ["ann"]),
    ("paused errored", configured): ("paused", []),
    ("paused errored", removed): ("removed", []),
    ("paused errored", restored): ("paused", []),
    ("paused errored", stop): ("paused", []),
    ("paused errored", clock_back): ("paused", []),
}
INPUTS = [
    due,
    pause,
    pause_over,
    resume,
    by_hand,
    by_hand_badly,
    configured,
    removed,
    restored,
    stop,
    clock_back,
]


@pytest.mark.parametrize(("state", "put_in"), [*itertools.product(STATES, INPUTS)])
def test_every_input_has_its_answer_in_every_state(state: str, put_in: Callable[[World], None]) -> None:
    w = STATES[state]()
    error = w.shown()["error"]
    w.log.clear()
    put_in(w)
    expected, why = TABLE[state, put_in]
    assert (w.rows["a"]["state"], [by for _, by in w.starts()]) == (expected, why)
    if expected in ("errored", "paused"):
        assert w.shown()["error"] == error, "why it is errored is kept"
    if expected == "running" and put_in is resume:
        assert (w.shown()["failures"], w.shown()["error"]) == (0, None)


def test_what_is_stored_is_what_is_shown() -> None:
    for born in STATES.values():
        w = born()
        shown, row = w.shown(), w.rows["a"]
        same = ("state", "reason", "error", "by", "paused_until", "failures")
        assert [shown[key] for key in same] == [row[key] for key in same]
        before = w.shown()
        w.restart()
        assert w.shown() == before


# -- how runs end --------------------------------------------------------------

ENDS = {
    "ok": {"running": "running", "paused": "paused", "errored": "running", "paused errored": "paused"},
    "failed": {"running": "errored", "paused": "paused", "errored": "errored", "paused errored": "paused"},
    "timed out": {"running": "errored", "paused": "paused", "errored": "errored", "paused errored": "paused"},
    "interrupted": {
        "running": "running",
        "paused": "paused",
        "errored": "errored",
        "paused errored": "paused",
    },
}


def begun_in(state: str) -> World:
    """A run that began by itself goes on, and the task is now in this state."""
    w = errored() if "errored" in state else running()
    w.bodies = lambda _: BODIES["hangs"]
    w.wait(RETRY if "errored" in state else HOUR)
    assert len(w.alive) == 1
    if "paused" in state:
        w.pause("a", reason="maintenance")
    return w


@pytest.mark.parametrize(("state", "outcome"), [*itertools.product(STATES, ENDS)])
def test_every_end_of_a_run_has_its_answer_in_every_state(state: str, outcome: str) -> None:
    w = begun_in(state)
    failures, error = w.shown()["failures"], w.shown()["error"]
    w.end(max(w.alive), outcome, lines=("the end",))
    after = w.shown()
    assert after["state"] == w.rows["a"]["state"] == ENDS[outcome][state]
    assert w.runs[max(w.runs)]["outcome"] == outcome
    match outcome:
        case "ok":
            assert (after["failures"], after["error"]) == (0, None)
        case "interrupted":
            assert (after["failures"], after["error"]) == (failures, error)
        case _:
            assert (after["failures"], after["error"]) == (failures + 1, "exit status 1")


@pytest.mark.parametrize(("state", "outcome"), [*itertools.product(STATES, ENDS)])
def test_a_run_by_hand_changes_no_state_however_it_ends(state: str, outcome: str) -> None:
    w = STATES[state]()
    w.bodies = lambda _: BODIES["hangs"]
    before = {**w.shown(), "last_run": None, "running": None}
    w.run()
    w.end(max(w.alive), outcome)
    assert {**w.shown(), "last_run": None, "running": None} == before


def test_there_are_no_other_states() -> None:
    assert {state.value for state in State} == {"running", "paused", "errored"}
