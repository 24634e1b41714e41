"""The way up: import, on_start, pools, on_ready; and quiet, scaling and giving up."""

from __future__ import annotations

import pytest
from bodies import Body, HookBody, pool
from kernel import Kernel, kernel
from scenes import FAILS, HANGS

from supervisor.decide.actions import Note, Quiet, Run, Start
from supervisor.decide.stopping import Firmness
from supervisor.exits import End

SLOW = HookBody(seconds=2.0)
RAISES = HookBody(error="ValueError: no database")


def runs(k: Kernel) -> list[tuple[float, str, int]]:
    return [(t, a.moment, a.index) for t, a in k.log if isinstance(a, Run)]


def test_the_masters_hooks_run_in_order_and_nothing_is_forked_before_on_start_is_over() -> None:
    k = kernel(pool(), hooks={"import": [SLOW], "on_start": [SLOW, SLOW], "on_ready": [SLOW]})
    k.wait(10)
    assert runs(k) == [
        (1000.0, "import", 0),
        (1002.0, "on_start", 0),
        (1004.0, "on_start", 1),
        (1006.1, "on_ready", 0),
    ]
    assert k.times(Start) == [1006.0]


def test_the_master_is_ready_once_every_pool_was_at_strength_at_one_time() -> None:
    k = kernel(pool("a", workers=2), pool("b"), bodies=lambda s: Body(ready_after=float(s.worker)))
    k.wait(2.9)
    assert (k.life.state, k.notes("master.ready")) == ("starting", [])
    k.wait(0.2)
    assert (k.life.state, len(k.notes("master.ready"))) == ("running", 1)
    k.crash("a.0")
    k.wait(60)
    assert (k.life.state, len(k.notes("master.ready"))) == ("running", 1), "it is told once"


def test_the_master_goes_on_trying_at_boot_and_is_not_ready_meanwhile() -> None:
    k = kernel(pool(), bodies=lambda s: FAILS if s.worker <= 5 else Body())
    k.wait(5)
    assert k.life.state == "starting"
    k.wait(30)
    assert k.life.state == "running"


def test_nothing_is_forked_while_an_on_ready_hook_runs() -> None:
    k = kernel(pool(workers=2), hooks={"on_ready": [SLOW, SLOW]})
    k.until(lambda: k.life.was_ready)
    k.crash("a.0", code=4)
    k.wait(10)
    assert k.times(Start) == [1000.0, 1000.0, 1004.1]


def test_an_on_ready_hook_that_hangs_holds_the_forks_up_for_its_time_only() -> None:
    k = kernel(pool(), hooks={"on_ready": [HANGS]}, hook_timeout=3.0)
    k.until(lambda: k.life.was_ready)
    k.crash("a.0", code=4)
    k.wait(10)
    assert k.times(Start) == [1000.0, 1003.1]
    assert [n.fields["hook"] for n in k.notes("hook.timeout")] == ["on_ready"]


def test_an_on_ready_hook_that_raises_changes_nothing() -> None:
    k = kernel(pool(), hooks={"on_ready": [RAISES, SLOW]})
    k.wait(10)
    assert [moment for _, moment, _ in runs(k)] == ["import", "on_ready", "on_ready"]
    assert (k.life.state, k.life.descent) == ("running", None)


@pytest.mark.parametrize("moment", ["import", "on_start"])
@pytest.mark.parametrize(
    "hook", [RAISES, HookBody(error=""), HANGS], ids=["raises", "without words", "hangs"]
)
def test_a_start_that_fails_is_aborted_before_any_fork(moment: str, hook: HookBody) -> None:
    """A hook that cannot be imported is a mistake in the configuration, one that fails is not."""
    status = {"import": 2, "on_start": 1}[moment]
    k = kernel(pool(), hooks={moment: [hook], "on_stop": [SLOW], "on_exit": [SLOW]})
    k.until(lambda: k.finished)
    assert (k.status, k.report["status"], k.report["reason"]) == (status, status, f"{moment} failed")
    assert {name for _, name, _ in runs(k)} <= {"import", "on_start"}, "nothing was built up"
    assert k.times(Start) == []
    [error] = k.notes("start.aborted")
    assert error.fields["reason"].startswith(f"{moment}: ")


def test_an_import_that_ends_after_it_was_given_up_runs_no_hook_any_more() -> None:
    k = kernel(pool(), hooks={"import": [HANGS]})
    k.until(lambda: k.life.descent is not None)
    k.life.imported({"on_start": 1, "on_stop": 1, "on_exit": 1})
    k.life.hook_ended("import", 0, None)
    k.until(lambda: k.finished)
    assert (k.status, [name for _, name, _ in runs(k)]) == (2, ["import"])


def test_the_second_on_start_hook_does_not_run_when_the_first_raised() -> None:
    k = kernel(pool(), hooks={"on_start": [RAISES, SLOW]})
    k.until(lambda: k.finished)
    assert [(moment, index) for _, moment, index in runs(k)] == [("import", 0), ("on_start", 0)]


def test_a_master_that_breaks_stops_in_order_with_status_1() -> None:
    k = kernel(pool(), hooks={"on_stop": [HookBody()], "on_exit": [HookBody()]})
    k.wait(5)
    k.life.fail("internal error", k.now)
    k.wait(5)
    assert (k.status, k.report["reason"]) == (1, "internal error")
    assert [name for _, name, _ in runs(k)] == ["import", "on_stop", "on_exit"]


def test_a_master_that_breaks_during_a_stop_goes_on_with_it_and_leaves_with_1() -> None:
    k = kernel(pool())
    k.wait(5)
    k.life.ask(Firmness.STOP, "SIGTERM", k.now)
    k.life.fail("internal error", k.now)
    k.wait(5)
    assert (k.status, k.report["reason"]) == (1, "SIGTERM")


# -- quiet, size, giving up ----------------------------------------------------------


def test_quiet_is_a_state_of_the_whole_life() -> None:
    k = kernel(pool("a"), pool("b"))
    k.wait(5)
    k.life.hush(True)
    assert [a for a in k.wait(1) if isinstance(a, Quiet)] == [Quiet(1, on=True), Quiet(2, on=True)]
    assert k.life.state == "quiet"
    k.life.hush(False)
    k.wait(1)
    assert k.life.state == "running"


def test_a_pool_that_is_to_park_does_not_end_the_life() -> None:
    k = kernel(pool("a", max_restarts=1), pool("b"), bodies=lambda s: FAILS if s.pool == "a" else Body())
    k.wait(100)
    assert (k.life.pools["a"].state, k.life.pools["b"].state, k.life.descent) == ("parked", "ready", None)


def test_a_pool_that_is_to_exit_stops_everything_with_status_6() -> None:
    bad = pool("a", max_restarts=1, on_give_up="exit")
    k = kernel(bad, pool("b"), bodies=lambda s: FAILS if s.pool == "a" else Body())
    k.until(lambda: k.finished)
    assert (k.status, k.report["reason"]) == (6, "gave up")
    [farewell] = k.report["workers"]
    assert (farewell["worker"], farewell["code"], farewell["killed"]) == ("b.0", 0, False)


def test_scaling_is_told_with_the_number_before() -> None:
    k = kernel(pool(workers=2))
    k.wait(5)
    k.life.resize(k.life.pools["a"], 3, k.now)
    k.wait(1)
    [note] = k.notes("pool.scaled")
    assert note.fields == {"pool": "a", "workers": 3, "before": 2}


def test_a_number_belongs_to_its_pool_until_the_worker_is_gone() -> None:
    k = kernel(pool("a"), pool("b"))
    k.wait(5)
    assert [p.name for id in (1, 2) if (p := k.life.whose(id))] == ["a", "b"]
    k.ends(2, End(code=1))
    assert (k.life.whose(2), k.life.whose(99)) == (None, None)


def test_nothing_is_planned_in_a_life_in_which_nothing_happens() -> None:
    k = kernel(pool("a", workers=5), pool("b"))
    k.wait(100)
    assert (k.life.deadline(), k.wait(1000)) == (None, []), "an idle master sleeps for ever"


def test_everything_told_of_a_whole_life_is_in_words_that_the_log_can_write() -> None:
    k = kernel(pool(max_restarts=3), bodies=lambda s: FAILS if s.worker % 2 else Body(dies_after=3.0))
    k.wait(200)
    k.life.ask(Firmness.STOP, "SIGTERM", k.now)
    k.until(lambda: k.finished)
    plain = (str, int, float, bool, list, dict, type(None))
    for _, note in k.log:
        if isinstance(note, Note):
            assert all(isinstance(value, plain) for value in note.fields.values())
