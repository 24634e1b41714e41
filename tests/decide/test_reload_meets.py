"""What a reload may meet half-way: those that are late, that finish, that hang, that have nobody beside them.

Each of these lives was found by the random ones, made short.
"""

from __future__ import annotations

from dataclasses import replace

from bodies import GOOD, Body, File, HookBody, pool, settings
from kernel import Kernel, kernel
from scenes import BACKOFF, HANGS, NEVER_READY, generations, one, reason, reloading

from supervisor.decide.actions import Commit, Kill, Note, Start, Stop
from supervisor.settings import Hooks, PoolSettings, Reference


def reloading_after(seconds: float, old: PoolSettings, new: PoolSettings, body: Body) -> Kernel:
    """The old workers behave like ``body``, the new ones well; the reload begins so long after the start."""
    k = kernel(old, bodies=lambda start: body if start.generation == 1 else GOOD)
    k.files = lambda _: File(settings(new))
    k.wait(seconds)
    k.renew()
    return k


def test_an_old_worker_whose_stacks_are_being_written_is_told_and_counts_as_leaving() -> None:
    """Its dump is at 2 s, it is relieved at 2.2 s, and its SIGKILL at 2.3 s is no news to the reload."""
    old = pool(start_timeout=2.0)
    k = reloading_after(1.0, old, pool(stable_after=1.0), NEVER_READY)
    k.wait(10)
    assert k.times(Stop) == k.times(Commit) == [1002.2]
    assert k.times(Kill) == [1002.3]
    assert generations(k) == [2]


def test_nobody_comes_after_a_worker_that_was_told_while_its_stacks_were_written() -> None:
    """The reload grew the pool and failed elsewhere just then; the additional slot goes with its worker."""
    grown = pool("a", workers=2, start_timeout=2.0, stable_after=2.0)
    files = settings(grown, pool("b", stable_after=0.0))
    k = kernel(pool("a", surge=2), pool("b"), bodies=grows_and_fails)
    k.files = lambda _: File(files)
    k.wait(10)
    k.renew()
    k.wait(20)
    assert k.notes("reload.failed")
    assert generations(k, "a") == [1]
    assert {a.slot for _, a in k.log if isinstance(a, Start) and a.pool == "a" and a.generation == 1} == {0}


def grows_and_fails(start: Start) -> Body:
    if start.generation == 1:
        return GOOD
    if start.pool == "b":  # it dies at 14.3 s; a.1 is born at 12.2 s, dumped at 14.2 s, killed at 14.5 s
        return Body(dies_after=4.2)
    return NEVER_READY if start.slot == 1 else GOOD


def test_a_pool_that_finishes_during_its_trial_has_somebody_tried() -> None:
    """By hand told to leave, so without an heir; of two slots the new one is tried, then."""
    k = reloading(pool(workers=2, restart="never"), old=pool(restart="never"))
    for process in k.alive.values():
        process.body = replace(process.body, leaves_after=2.0)
    k.told_to_leave(k.worker("a.0").id, 0)
    k.wait(20)
    assert k.notes("reload.done")
    assert (one(k).slots.finished, generations(k)) == (1, [2])


def test_a_birth_of_the_old_generation_does_not_prove_the_new_one() -> None:
    """Without surge, and with a template that is not up yet, the old one fills the slot in the meantime."""
    new = pool(workers=2, surge=0, preload=True)
    k = reloading_after(8.0, pool(backoff=BACKOFF), new, Body(dies_after=0.0))
    k.wait(20)
    assert k.notes("reload.done")
    assert generations(k) == [2, 2]


def test_nobody_leaves_for_a_generation_whose_first_worker_is_being_killed() -> None:
    """Without surge a new one is tried in a slot that was vacant; until it is reaped nothing is decided."""
    hangs = Body(ready_after=None, dies_of_kill_after=0.5)
    k = kernel(pool("a", workers=2, backoff=BACKOFF), pool("b"), bodies=lambda start: tried(start, hangs))
    new = settings(pool("a", workers=2, surge=0, start_timeout=2.0), pool("b", stable_after=2.4))
    k.files = lambda _: File(new)
    k.wait(2)
    k.crash("a.1")
    k.renew()
    k.wait(20)
    assert k.times(Kill) == [1004.4]
    assert "not ready in 2.0 s" in reason(k)
    assert all(a.worker == heir(k) for _, a in k.log if isinstance(a, Stop)), "only b's new one leaves"
    assert generations(k) == [1, 1]


def tried(start: Start, body: Body) -> Body:
    return body if (start.pool, start.generation) == ("a", 2) else GOOD


def heir(k: Kernel) -> int:
    [id] = [a.worker for _, a in k.log if isinstance(a, Start) and (a.pool, a.generation) == ("b", 2)]
    return id


def test_a_hook_is_left_behind_in_time_while_those_of_a_reload_are_imported() -> None:
    """``on_ready`` hangs from 0.4 s, with 0.7 s for it; the import goes on from 0.95 s to 1.25 s."""
    k = kernel(pool(), hooks={"import": [HookBody(seconds=0.3)], "on_ready": [HANGS]}, hook_timeout=0.7)
    new = replace(settings(pool(workers=0)), hooks=Hooks(on_stop=(Reference("other"),)))
    k.files = lambda _: File(new, seconds=0.5)
    k.wait(0.35)
    k.renew()
    k.until(lambda: bool(k.notes("hook.timeout")))
    assert (round(k.now, 6), k.life.moments["import"].running) == (1001.1, True)


def failing_half_way(old: PoolSettings, new: PoolSettings, lasts: float, leaves_after: float) -> Kernel:
    """Pool ``a`` has begun to roll when ``b``, which is to roll as well, fails."""

    def body(start: Start) -> Body:
        lives = lasts if (start.pool, start.generation) == ("b", 2) else None
        return Body(dies_after=lives, leaves_after=leaves_after)

    k = kernel(old, pool("b", workers=2), bodies=body)
    k.files = lambda _: File(settings(new, pool("b", workers=2, stable_after=0.0)))
    k.wait(10)
    k.renew()
    k.until(lambda: bool(k.notes("reload.failed")))
    return k


def test_workers_of_three_generations_do_not_keep_a_pool_without_surge_from_its_turn() -> None:
    """Those of the reload that failed are not gone yet when the next one begins."""
    a = pool("a", workers=2, surge=0, stable_after=0.0)
    k = failing_half_way(a, a, lasts=0.35, leaves_after=0.1)
    k.renew()
    k.wait(0.1)
    assert generations(k) == [2, 1]
    k.wait(20)
    assert k.notes("reload.done")
    assert generations(k) == [3, 3]


def test_without_surge_nobody_is_told_while_somebody_relieved_before_is_still_leaving() -> None:
    """A worker of the generation that failed took over at 10.2 s, with its surge, from one that needs 2 s."""
    old, new = pool("a", surge=0), pool("a", surge=1, stable_after=0.0)
    k = failing_half_way(old, new, lasts=0.15, leaves_after=2.0)
    k.wait(10)
    told = [t for t, a in k.log if isinstance(a, Note) and a.event == "worker.stopping" and of_a(a)]
    assert [round(t, 6) for t in told] == [1010.2, 1012.2]
    assert generations(k) == [1]


def of_a(note: Note) -> bool:
    return note.worker is not None and note.worker.pool == "a"
