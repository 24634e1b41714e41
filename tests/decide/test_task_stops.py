"""What a stop of the master makes of the runs of tasks: told, timed out, or never begun."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bodies import GOOD, Body
from kernel import Kernel
from task_world import task
from test_task_runs import ends, with_tasks

from supervisor.decide.actions import Stop
from supervisor.decide.replacement import FORKS_AT_ONCE
from supervisor.decide.stopping import Firmness
from supervisor.decide.task_actions import Save
from supervisor.exits import End
from supervisor.stored import Key, key


@pytest.mark.parametrize(
    ("firmness", "status"), [(Firmness.STOP, 0), (Firmness.RESTART, 4), (Firmness.FORCE, 3)]
)
def test_a_stop_interrupts_a_run_and_what_is_written_of_it_is_stored_first(
    firmness: Firmness, status: int
) -> None:
    """However it is stopped; the disk takes a while."""
    k = with_tasks(task(every=60), body=GOOD, store=0.4)
    k.wait(61.0)
    k.life.ask(firmness, "now", k.now)
    k.until(lambda: k.finished)
    assert k.status == status
    assert [event for event, _ in ends(k)] == ["task.interrupted"]
    assert not k.life.tasks.unwritten
    assert [w["worker"] for w in k.report["workers"]] == ["a.0", "tasks.a.0"]


def test_a_run_that_has_had_its_time_is_told_though_a_stop_has_not_come_to_it_yet() -> None:
    """The workers are still to serve, for the time of `drain_delay`."""
    k = with_tasks(task(every=60, timeout=5), body=GOOD, drain_delay=8.0)
    k.wait(61.0)
    k.life.ask(Firmness.STOP, "SIGTERM", k.now)
    k.wait(6.0)
    assert (k.times(Stop), ends(k)) == ([1065.0], [("task.failed", "timed out after 5 s")])
    k.until(lambda: k.finished)
    assert (k.status, k.life.tasks.list()["a"]["state"]) == (0, "errored")


def test_a_run_that_a_stop_has_told_to_leave_does_not_time_out() -> None:
    k = with_tasks(task(every=60, timeout=5), body=Body(leaves_after=8.0))
    k.wait(61.0)
    worker = k.worker("tasks.a.0").id
    k.life.ask(Firmness.STOP, "SIGTERM", k.now)
    k.until(lambda: k.finished)
    assert [event for event, _ in ends(k)] == ["task.interrupted"]
    assert [t for t, a in k.log if isinstance(a, Stop) and a.worker == worker] == [1061.0]


@pytest.mark.parametrize(
    ("store", "for_so_long", "within"),
    [({"store": None}, 5.0, 4.0), ({"store": None}, 61.0, 0.0), ({"store_works": False}, 61.0, 0.0)],
)
def test_a_disk_that_does_not_answer_or_fails_does_not_hold_up_a_stop(
    store: dict[str, Any], for_so_long: float, within: float
) -> None:
    """It has the stop's own deadline; known to be silent or to fail, it is not waited for at all."""
    k = with_tasks(task(every=60), body=GOOD, stop_timeout=4.0, **store)
    k.wait(for_so_long)
    began = k.now
    k.life.ask(Firmness.STOP, "SIGTERM", k.now)
    k.until(lambda: k.finished)
    assert k.status == 0
    assert k.now - began == pytest.approx(within, abs=0.9)


def saved(k: Kernel) -> dict[Key, Any]:
    """What is in the state file."""
    return {key(row): row for _, a in k.log if isinstance(a, Save) for row in a.rows}


def test_a_run_that_was_never_forked_has_not_begun_when_the_master_stops_and_stays_due() -> None:
    k = with_tasks(task(every=60), body=Body(fork_works=False))
    k.wait(61.0)
    k.life.ask(Firmness.STOP, "SIGTERM", k.now)
    k.until(lambda: k.finished)
    assert (ends(k), k.notes("task.started"), k.status) == ([], [], 0)
    [skipped] = k.notes("task.skipped")
    why = "the master is stopping, and it had not begun: fork: Resource temporarily unavailable; it stays due"
    assert skipped.fields["reason"] == why
    assert saved(k)["run", 1]["outcome"] == "skipped"
    assert saved(k)["task", "a"]["last_due"] is None


@pytest.mark.parametrize("firmness", list(Firmness))
def test_of_many_that_are_due_when_the_master_stops_each_has_begun_or_stays_due(firmness: Firmness) -> None:
    k = with_tasks(*(task(f"t{n}", every=60) for n in range(100)))
    k.wait(59.9)
    k.now = 1060.0
    k.turn()
    k.life.ask(firmness, "now", k.now)
    k.until(lambda: k.finished)
    begun = {note.fields["task"] for note in k.notes("task.started")}
    assert len(begun) == FORKS_AT_ONCE
    assert {note.fields["task"] for note in k.notes("task.skipped")} == {f"t{n}" for n in range(100)} - begun
    rows = saved(k)
    dealt_with = {name for kind, name in rows if kind == "task" and rows[kind, name]["last_due"] is not None}
    assert dealt_with == begun


def test_a_program_that_the_stop_signal_ends_is_said_to_have_been_asked() -> None:
    k = with_tasks(
        replace(task(every=60), target=None, command=("sleep", "1000")), body=Body(leaves_after=None)
    )
    k.wait(61.0)
    worker = k.worker("tasks.a.0")
    k.life.ask(Firmness.STOP, "SIGTERM", k.now)
    k.turn()
    k.ends(worker.id, End(signal=15))
    k.until(lambda: k.finished)
    assert ends(k) == [("task.interrupted", "the master is stopping (SIGTERM, as asked)")]


def test_a_slow_disk_is_no_process_that_survives_sigkill() -> None:
    """The stop waits for it longer than it would for those; then it ends as it should."""
    k = with_tasks(task(every=60), body=GOOD, stop_timeout=20.0, store=None)
    k.wait(61.0)
    k.life.ask(Firmness.STOP, "SIGTERM", k.now)
    k.until(lambda: k.finished)
    assert (k.status, k.notes("stop.stuck")) == (0, [])
