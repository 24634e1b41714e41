"""Runs of tasks among the pools: how they begin, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bodies import GOOD, Body, pool, settings
from kernel import HookBody, Kernel
from task_world import task

from supervisor.decide.actions import Kill, Note, Start, Stop
from supervisor.decide.life import Life
from supervisor.decide.replacement import FORKS_AT_ONCE
from supervisor.decide.task_actions import Reply, Save
from supervisor.decide.tasks import Tasks
from supervisor.exits import End
from supervisor.settings import Seconds, TaskSettings

WORKS = Body(dies_after=5.0, dies_of=End(code=0))
STUBBORN = Body(acknowledges_after=None, leaves_after=None)


def with_tasks(
    *tasks: TaskSettings,
    body: Body = WORKS,
    stop_timeout: float = 30.0,
    drain_delay: float = 0.0,
    **keys: Any,
) -> Kernel:
    """A life with these tasks and one pool, whose workers are good ones."""
    whole = settings(pool(), stop_timeout=Seconds(stop_timeout), drain_delay=Seconds(drain_delay))
    known = {one.name: one for one in tasks}
    whole = replace(whole, tasks=known)
    made = Tasks(known, {}, lambda *_: None, lambda: 0.0, now=1000.0, wall=1000.0 + 1.7e9)
    life = Life(whole, lambda: 0.0, tasks=made)
    return Kernel(life, bodies=lambda start: body if start.pool.startswith("tasks.") else GOOD, **keys)


def ends(k: Kernel) -> list[tuple[str, str | None]]:
    """Events of ends, and their reasons."""
    names = ("task.finished", "task.failed", "task.interrupted")
    notes = [a for _, a in k.log if isinstance(a, Note) and a.event in names]
    return [(note.event, note.fields["reason"]) for note in notes]


def run_starts(k: Kernel) -> list[float]:
    return [t for t, a in k.log if isinstance(a, Start) and a.pool.startswith("tasks.")]


def test_a_due_run_is_a_worker_and_its_end_is_told_with_its_last_lines() -> None:
    k = with_tasks(task(every=60))
    k.wait(59.0)
    assert run_starts(k) == []
    k.wait(10.0)
    assert run_starts(k) == [1060.0]
    [begun], [over] = k.notes("task.started"), k.notes("task.finished")
    assert (begun.fields["run"], begun.fields["pid"] > 0) == (1, True)
    assert (over.fields["seconds"], over.fields["output"]) == (5.0, ["its last line"])
    assert k.life.everybody.runs == {}


@pytest.mark.parametrize("lines", [0.3, None])
def test_the_last_lines_are_waited_for_half_a_second_and_no_longer(lines: float | None) -> None:
    """They come from another process, which may be dead."""
    k = with_tasks(task(every=60), lines=lines)
    k.wait(66.0)
    [over] = [(t, a) for t, a in k.log if isinstance(a, Note) and a.event == "task.finished"]
    assert over[0] == pytest.approx(1065.0 + (0.5 if lines is None else lines))
    assert over[1].fields["output"] == ([] if lines is None else ["its last line"])


def test_a_fork_that_fails_is_tried_again_and_is_no_failure_of_the_task() -> None:
    """The machine was short of processes for a moment."""
    works = iter([False, False, True])
    k = with_tasks(task(every=60))
    k.bodies = lambda start: Body(fork_works=next(works), dies_after=1.0, dies_of=End(code=0))
    k.life.everybody.resize(k.life.pools["a"], 0, k.now)
    k.wait(100.0)
    assert len(run_starts(k)) == 3
    assert ends(k) == [("task.finished", None)]


def test_a_run_that_cannot_be_forked_has_its_timeout_all_the_same() -> None:
    k = with_tasks(task(every=600, timeout=20), body=Body(fork_works=False))
    k.wait(700.0)
    [over] = k.notes("task.failed")
    why = "timed out after 20 s: fork: Resource temporarily unavailable"
    assert (over.fields["outcome"], over.fields["reason"]) == ("timed out", why)
    assert k.life.everybody.runs == {}


def test_why_a_run_cannot_begin_is_told_once_and_shown_as_long_as_that_lasts() -> None:
    k = with_tasks(task(every=600), body=Body(fork_works=False))
    k.wait(700.0)
    assert len(run_starts(k)) > 3
    [told] = k.notes("task.delayed")
    why = "fork: Resource temporarily unavailable"
    assert (told.fields["run"], told.fields["by"], told.fields["reason"]) == (1, "schedule", why)
    assert k.life.tasks.list()["a"]["running"]["reason"] == why
    k.bodies = lambda _: GOOD
    k.wait(60.0)
    shown = k.life.tasks.list()["a"]["running"]
    assert (shown["pid"] > 0, shown["reason"]) == (True, None)


def test_a_run_that_is_late_is_told_and_killed_after_the_stop_timeout() -> None:
    k = with_tasks(task(every=60, timeout=20), body=STUBBORN, stop_timeout=3.0)
    k.wait(60.0 + 20.0)
    assert k.times(Stop) == [1080.0]
    k.wait(3.1)
    [killed] = k.times(Kill)
    assert killed == pytest.approx(1083.0, abs=0.01)
    assert ends(k) == [("task.failed", "timed out after 20 s")]


def test_many_that_are_due_at_once_are_forked_a_few_at_a_time() -> None:
    """So that signals are heard between the forks."""
    k = with_tasks(*(task(f"t{n}", every=60) for n in range(100)))
    k.wait(60.0)
    k.turn()
    sizes = [0]
    for time, action in k.log:
        if isinstance(action, Start) and action.pool.startswith("tasks.") and time >= 1060.0:
            sizes[-1] += 1
        elif isinstance(action, Note) and action.event == "worker.started":
            sizes.append(0)
    assert max(sizes) <= FORKS_AT_ONCE
    k.wait(1.0)
    assert len(run_starts(k)) == 100


def test_a_run_has_its_time_from_when_it_may_be_forked() -> None:
    """Not from when it was due: a hook of the master's took longer here than a run may."""
    slow = {"on_start": [HookBody(5.0)]}
    k = with_tasks(task(every=2.5, timeout=2), body=Body(dies_after=1.0, dies_of=End(code=0)), hooks=slow)
    k.wait(7.0)
    assert run_starts(k) == [1005.0]
    assert ends(k) == [("task.finished", None)]


def test_nothing_begins_while_it_is_quiet_and_what_was_due_long_ago_was_missed() -> None:
    """A minute late is still a run; more is what `missed` says, here: nothing."""
    k = with_tasks(task(every=1000))
    k.wait(990.0)
    k.life.hush(True)
    k.wait(40.0)
    assert run_starts(k) == []
    k.life.hush(False)
    k.wait(1.0)
    assert run_starts(k) == [2030.0]
    k.wait(960.0)
    k.life.hush(True)
    k.wait(200.0)
    k.life.hush(False)
    k.wait(1.0)
    assert run_starts(k) == [2030.0]
    assert [note.fields["reason"] for note in k.notes("task.missed")] == ["too late"]


def test_by_hand_a_run_begins_also_while_it_is_quiet() -> None:
    k = with_tasks(task(every=1000))
    k.wait(10.0)
    k.life.hush(True)
    k.life.tasks.run("request", "a", "root")
    k.wait(1.0)
    assert run_starts(k) == [1010.0]
    [reply] = [a for _, a in k.log if isinstance(a, Reply)]
    assert (reply.request, reply.result) == ("request", {"run": 1, "queued": False})


def test_no_run_is_forked_before_on_start_is_over() -> None:
    """Its time passes meanwhile; then it begins."""
    from bodies import HookBody

    k = with_tasks(task(every=1))
    k.hooks = {"on_start": [HookBody(3.0)]}
    k.wait(2.9)
    assert run_starts(k) == []
    k.wait(1.0)
    assert run_starts(k) == [1003.0]


def told_by_a_person(k: Kernel) -> None:
    k.told_to_leave(k.worker("tasks.a.0").id, 0)


def replaced_by_a_person(k: Kernel) -> None:
    k.told_to_leave(k.worker("tasks.a.0").id, 4)


@pytest.mark.parametrize("tell", [told_by_a_person, replaced_by_a_person])
def test_a_run_that_a_person_told_to_leave_is_not_held_against_the_task(
    tell: Callable[[Kernel], None],
) -> None:
    k = with_tasks(task(every=60), body=GOOD)
    k.wait(61.0)
    tell(k)
    k.wait(1.0)
    assert ends(k) == [("task.interrupted", "it was told to stop")]
    assert k.life.tasks.list()["a"]["failures"] == 0


RAISED, KILLED = Body(leaves_with=1), Body(leaves_after=None)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (RAISED, "exit status 1: app:run raised: ValueError: a bug"),
        (KILLED, "SIGKILL, not sent by supervisord-lite: out of memory?"),
    ],
)
def test_a_failure_is_one_though_the_run_has_said_that_it_was_told_to_stop(body: Body, why: str) -> None:
    """The master cannot tell whether it was: a task that always says so would never be errored."""
    k = with_tasks(task(every=60), body=body)
    k.wait(61.0)
    worker, home = k.worker("tasks.a.0"), k.life.everybody.runs["tasks.a"]
    told_by_a_person(k)
    home.told(worker.id, None, None, None, "app:run raised: ValueError: a bug")
    k.turn()
    if body is KILLED:
        k.ends(worker.id, End(signal=9))
    k.wait(1.0)
    assert ends(k) == [("task.failed", why)]
    assert k.life.tasks.list()["a"]["state"] == "errored"


def test_a_run_that_acknowledges_and_does_not_leave_is_killed_and_has_failed() -> None:
    k = with_tasks(task(every=60), body=Body(leaves_after=None), stop_timeout=3.0)
    k.wait(61.0)
    told_by_a_person(k)
    k.wait(5.0)
    assert ends(k) == [("task.failed", "SIGKILL by supervisord-lite: did not stop in 3.0 s")]


def test_a_row_is_saved_before_the_fork_that_it_is_of() -> None:
    """What would be done twice if it were lost stands first in the plan."""
    k = with_tasks(task(every=60))
    k.wait(60.0)
    [start] = [n for n, (_, a) in enumerate(k.log) if isinstance(a, Start) and a.pool == "tasks.a"]
    saved = [row for _, a in k.log[:start] if isinstance(a, Save) for row in a.rows]
    assert [row["outcome"] for row in saved if row.get("run") == 1] == ["running"]


def test_the_history_keeps_why_a_run_did_not_go_well() -> None:
    """Also what a target said of itself before it left, which its output need not hold."""
    k = with_tasks(task(every=60), body=Body(dies_after=1.0))
    k.wait(60.5)
    worker = k.worker("tasks.a.0")
    k.life.everybody.runs["tasks.a"].told(
        worker.id, None, None, None, "app:run raised: RuntimeError: no disk"
    )
    k.wait(2.0)
    rows = [row for _, a in k.log if isinstance(a, Save) for row in a.rows if row.get("outcome") == "failed"]
    assert [row["reason"] for row in rows] == ["exit status 1: app:run raised: RuntimeError: no disk"]
