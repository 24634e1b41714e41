"""A reload that fails: everything is as it was, and no old worker has noticed."""

from __future__ import annotations

from typing import Any

import pytest
from bodies import GOOD, Body, File, pool, settings
from scenes import (
    BACKOFF,
    CRASHES,
    CRASHES_LATER,
    NEVER_READY,
    ask,
    generations,
    one,
    reason,
    reloading,
    running,
    stopped,
)

from supervisor.decide.actions import Prepare, Stop, Undo
from supervisor.exits import End

ASKS_TO_BE_REPLACED = Body(ready_after=None, dies_after=0.0, dies_of=End(code=4))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (CRASHES, "exit status 1"),
        (CRASHES_LATER, "exit status 1"),
        (NEVER_READY, "SIGKILL by supervisord-lite: not ready in 5.0 s"),
        (Body(beats_for=0.5, leaves_after=None), "SIGKILL by supervisord-lite: no heartbeat for 4.0 s"),
        (ASKS_TO_BE_REPLACED, "exit status 4"),
        (Body(memory=101), "uses 0 MiB PSS, max_memory is 0 MiB right after it was ready"),
    ],
    ids=["import", "later", "hangs", "silent", "replace me", "too large"],
)
def test_a_new_worker_that_fails_takes_everything_back_and_no_old_one_has_noticed(
    body: Body, why: str
) -> None:
    keys: dict[str, Any] = {"workers": 2, "watchdog": 4.0, "start_timeout": 5.0, "backoff": BACKOFF}
    new = pool(**keys, stable_after=9.0, max_memory=100, max_restarts=0, on_give_up="exit")
    k = reloading(new, old=pool(**keys), body=body)
    old = set(one(k).workers)
    k.wait(60)
    assert (set(one(k).workers), k.life.state, k.life.generation) == (old, "running", 1)
    assert why in reason(k)
    assert len(k.times(Undo)) == 1
    assert one(k).editions == {1: pool(**keys)}


def test_a_failure_while_rolling_replaces_the_new_ones_again_as_carefully() -> None:
    """Every second new worker fails: those that serve by then give way to old ones that are ready."""
    new = pool(workers=4)
    k = reloading(new, old=new)
    k.bodies = lambda start: CRASHES if start.generation == 2 and start.slot == 2 else GOOD
    k.wait(2.4)
    assert generations(k) == [2, 2, 1, 1] or generations(k)[0] == 2
    while k.life.reload or len(one(k).crew.serving) > 1:
        k.wait(0.05)
        assert one(k).up >= 4
    assert (generations(k), one(k).full, k.life.generation) == ([1, 1, 1, 1], True, 1)


def test_mistakes_change_nothing() -> None:
    k = reloading(old=pool())
    k.files = lambda _: File("config.toml: pools.a.wokers: unknown key")
    k.wait(10)
    assert (reason(k), k.times(Undo), generations(k)) == ("config.toml: pools.a.wokers: unknown key", [], [1])


def test_a_reader_that_hangs_is_killed_and_whatever_it_left_is_looked_at() -> None:
    """It left nothing: that is a refusal."""
    k = running(pool())
    k.files = lambda _: File("the configuration could not be read", reader=Body(ready_after=None))
    k.renew()
    k.wait(40)
    assert (k.times(Prepare), reason(k)) == ([1090.3], "the configuration could not be read")


def test_the_failure_of_one_reload_is_not_held_against_the_next() -> None:
    """Also while what the failed one left behind is still going."""
    k = reloading(pool("a"), pool("b", stop_timeout=20.0), old=pool("a"))
    slow = {"a": GOOD, "b": Body(leaves_after=15.0)}
    k.bodies = lambda start: CRASHES_LATER if start.slot == 1 else slow[start.pool]
    k.files = lambda generation: File(
        settings(pool("a"), *([pool("b", workers=2, stop_timeout=20.0)] if generation == 2 else []))
    )
    k.until(lambda: bool(k.notes("reload.failed")))
    assert any(p.name == "b" for p in k.life.everybody.leaving)
    k.bodies = lambda _: GOOD
    k.renew()
    k.wait(10)
    assert (len(k.notes("reload.failed")), generations(k)) == (1, [3])


def test_an_old_worker_that_dies_meanwhile_is_no_failure_of_the_new_ones() -> None:
    k = reloading(pool(workers=3, stable_after=5.0), old=pool(workers=3, backoff=BACKOFF))
    k.wait(1)
    k.crash("a.2")
    k.wait(1)
    assert generations(k) == [1, 2, 1, 1], "its place is taken by what is known to work"
    k.wait(20)
    assert (generations(k), k.notes("reload.failed")) == ([2, 2, 2], [])


def test_a_recycled_worker_does_not_stand_in_the_way_of_a_reload() -> None:
    """Its heir was on its way when the reload came, and takes the only extra place."""
    k = running(pool(max_jobs=10), body=Body(ready_after=0.5))
    one(k).told(1, 10, 0, None)
    k.wait(0.1)
    k.renew()
    k.wait(10)
    assert generations(k) == [2]


def test_a_worker_that_was_told_is_not_told_again() -> None:
    """A second TERM means to many a program that it is to cut its work."""
    k = running(pool(workers=2), body=Body(leaves_after=20.0))
    for size in (0, 2, 0):
        k.life.resize(one(k), size, k.now)
        k.wait(1)
    ask(k)
    stopped(k)
    assert [a.worker for _, a in k.log if isinstance(a, Stop)] == [1, 2]
