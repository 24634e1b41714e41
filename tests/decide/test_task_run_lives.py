"""Random lives of masters with tasks; the laws of all pools are held after every plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from bodies import FAILED, GOOD, Body
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kernel import Kernel
from task_world import task
from test_task_runs import with_tasks

from supervisor.decide.actions import Finish, Note, Start
from supervisor.decide.descent import GIVE_UP_SECONDS
from supervisor.decide.stopping import Firmness
from supervisor.decide.task_actions import Save
from supervisor.exits import End
from supervisor.stored import key

pytestmark = pytest.mark.long  # of the interpreter's version they depend least

ENDS = ("task.finished", "task.failed", "task.interrupted")
NAMES = ("a", "b", "c")
STOP_TIMEOUT = 5.0

BODIES = st.builds(
    Body,
    fork_works=st.integers(0, 5).map(bool),
    ready_after=st.sampled_from([0.0, 0.1, None]),
    dies_after=st.sampled_from([0.0, 0.1, 5.0, 70.0, None]),
    dies_of=st.sampled_from([FAILED, End(code=0), End(code=4), End(signal=9)]),
    acknowledges_after=st.sampled_from([0.0, 0.5, None]),
    leaves_after=st.sampled_from([0.0, 0.3, 60.0, None]),
    stutters=st.booleans(),
)
TASKS = st.builds(
    task,
    st.just("?"),
    every=st.sampled_from([0.5, 3.0, 60.0]),
    timeout=st.sampled_from([None, 0.2, 4.0]),
    overlap=st.sampled_from(["skip", "queue"]),
    missed=st.sampled_from(["skip", "once"]),
    pause_after_failures=st.integers(0, 2),
    retry_after=st.sampled_from([None, 1.0]),
)
WHAT = ("run", "pause", "resume", "crash", "person", "quiet", "unquiet", "reload", "remove", "freeze")
COMMANDS = st.lists(st.tuples(st.sampled_from([0.0, 0.3, 7.0, 90.0]), st.sampled_from(WHAT)), max_size=12)

few = hypothesis_settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def obey(k: Kernel, what: str) -> None:
    """What people and processes do to a master with tasks."""
    tasks, life = k.life.tasks, k.life
    runs = [worker for pool in life.everybody.runs.values() for worker in pool.workers.values()]
    match what:
        case "run":
            tasks.run(len(k.log), "a", "hand")
        case "pause":
            tasks.pause(len(k.log), ["a"], seconds=10.0)
        case "resume":
            tasks.resume(len(k.log), (), all=True)
        case "crash" if runs:
            k.ends(runs[0].id, End(signal=11))
        case "person" if runs and runs[0].id in k.alive:
            k.told_to_leave(runs[0].id, 0)
        case "quiet" | "unquiet":
            life.hush(what == "quiet")
        case "reload":
            k.renew()
        case "remove":
            tasks.configure({name: one.settings for name, one in tasks.tasks.items() if name != "b"})
        case "freeze":
            k.freeze(3.0)


def begun_while_quiet(notes: list[Note]) -> list[int]:
    """Runs that were forked after the master had become quiet, and all that was in flight had come back."""
    quiet, runs = False, []
    for note in notes:
        if note.event in ("master.quiet", "master.unquiet", "master.stopping"):
            quiet = note.event == "master.quiet"
        elif quiet and note.event == "task.started":
            runs.append(note.fields["run"])
    return runs


@few
@given(
    st.lists(TASKS, min_size=1, max_size=3),
    st.lists(BODIES, min_size=1, max_size=4),
    COMMANDS,
    st.sampled_from(list(Firmness)),
    st.sampled_from([0.0, 0.2, None]),
    st.sampled_from([0.0, 0.3, None]),
)
def test_every_run_ends_once_and_a_stop_ends_all_in_time(  # noqa: PLR0917  # what may be different
    tasks: list[object],
    bodies: list[Body],
    commands: list[tuple[float, str]],
    last: Firmness,
    store: float | None,
    lines: float | None,
) -> None:
    """Whatever runs do, people command, and the disk and the drainer are like."""
    named = [replace(one, name=name) for one, name in zip(tasks, NAMES, strict=False)]  # type: ignore[type-var]
    k = with_tasks(*named, stop_timeout=STOP_TIMEOUT, store=store, lines=lines)  # type: ignore[arg-type]
    born = iter(range(10**9))
    k.bodies = lambda start: bodies[next(born) % len(bodies)] if start.pool.startswith("tasks.") else GOOD
    for seconds, what in commands:
        k.wait(seconds)
        obey(k, what)
    k.turn()
    k.life.ask(last, "last", k.now)
    began = k.now
    k.until(lambda: k.finished, limit=60.0)
    [finished] = k.times(Finish)
    assert finished - began <= STOP_TIMEOUT + 2 * GIVE_UP_SECONDS
    notes = [a for _, a in k.log if isinstance(a, Note)]
    begun = [note.fields["run"] for note in notes if note.event == "task.started"]
    over = Counter(note.fields["run"] for note in notes if note.event in ENDS)
    assert len(set(begun)) == len(begun), "a run begins twice"
    assert set(over.values()) <= {1}, "a run ends twice"
    assert set(begun) <= set(over) or k.notes("stop.stuck"), "a run has no end"
    if store is not None:
        nothing_is_lost(k, begun)
    by = {note.fields["run"]: note.fields["by"] for note in notes if note.event == "task.started"}
    assert all(by[run] == "hand" for run in begun_while_quiet(notes)), "it begins though it is quiet"
    starts = [time for time, a in k.log if isinstance(a, Start) and a.pool.startswith("tasks.")]
    assert all(time <= began for time in starts)


def nothing_is_lost(k: Kernel, begun: list[int]) -> None:
    """The state file says of no run that it has begun that has not, and what it was for stays due."""
    stored = {key(row): row for _, a in k.log if isinstance(a, Save) for row in a.rows}
    runs = [row for kind, row in stored.items() if kind[0] == "run"]
    assert all(row["run"] in begun or row["outcome"] in ("skipped", "failed", "timed out") for row in runs)
    for row in runs:
        dealt_with = stored["task", row["task"]]["last_due"]
        by_stop = row["outcome"] == "skipped" and "is stopping" in row["reason"]
        if by_stop and row["due"] is not None and "it stays due" in row["reason"]:
            assert dealt_with is None or dealt_with < row["due"], "a stop lost a due time"
