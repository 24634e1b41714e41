"""The master's own pools: there when they are needed, last to leave, and nobody's business."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bodies import Body, File, pool, settings
from kernel import Kernel, kernel
from scenes import BACKOFF, FORCE, ask, running, stopped

from supervisor.decide.actions import Continue, Kill, Start, Stop
from supervisor.decide.life import Life
from supervisor.settings import Output, PoolSettings

FILE = Output("/var/log/a.log")


def starts(k: Kernel) -> list[str]:
    return [a.pool for _, a in k.log if isinstance(a, Start)]


def names(k: Kernel) -> set[str]:
    """Of all inner pools that there are."""
    return set(k.life.everybody.inner)


def generations(k: Kernel) -> list[int]:
    return [w.generation for w in k.life.pools["a"].workers.values() if not w.leaving]


def reloading(new: PoolSettings, old: PoolSettings, **keys: Any) -> Kernel:
    k = running(old)
    k.files = lambda _: File(settings(new), **keys)
    k.renew()
    k.wait(20)
    return k


def test_there_is_none_where_none_is_needed() -> None:
    assert names(running(pool())) == set()


def test_each_is_there_for_what_needs_it() -> None:
    assert names(running(pool(max_memory=100))) == {"@meter"}
    assert names(running(pool(stdout=FILE))) == {"@output"}
    assert names(running(pool(preload=True))) == {"@a:1"}
    terminal = Kernel(Life(settings(pool()), lambda: 0.0, ("all", "")))
    assert names(terminal) == {"@output"}
    for user, needed in ((None, set()), ("www-data", {"@output"})):
        file = Kernel(Life(settings(pool(user=user)), lambda: 0.0, ("", "others")))
        assert names(file) == needed, "a file of the master's is kept from other users"
    assert names(running(pool(stdout="null", stderr="null"))) == set()


def test_they_start_first() -> None:
    k = kernel(pool(stdout=FILE, max_memory=100))
    k.wait(1)
    assert starts(k) == ["@output", "@meter", "a"]


def test_what_reads_output_stays_to_the_end_and_comes_back_even_during_a_stop() -> None:
    """The last words of workers are the ones that people want to read."""
    k = running(pool(stdout=FILE, max_memory=100), body=Body(leaves_after=5.0))
    ask(k)
    k.wait(1)
    k.crash("@output.0")
    k.wait(1)
    assert (starts(k), names(k)) == (["@output"], {"@output"})
    stopped(k)
    assert [e["worker"] for e in k.report["workers"]] == ["a.0"]
    assert k.alive == {}
    told = [a.worker for _, a in k.log if isinstance(a, Stop)]
    assert told[-1] == 4, "the second reader of output is told last"


def test_one_that_is_stopped_goes_on_and_the_third_time_is_replaced() -> None:
    """Others wait for it; who stops it again and again would have it hang."""
    k = running(pool(stdout=FILE))
    [number] = k.life.everybody.of_the_master()
    for _ in range(2):
        k.life.everybody.halted(number)
        assert Continue(number) in k.turn()
    assert len(k.notes("worker.continued")) == 2
    k.life.everybody.halted(number)
    assert Kill(number, "it was stopped again and again") in k.turn()
    k.wait(1)
    [successor] = k.life.everybody.of_the_master()
    assert successor != number
    k.life.everybody.halted(number)
    assert k.turn() == [], "whoever is gone cannot be stopped"


def test_a_forced_stop_leaves_it_time_to_write_what_it_has() -> None:
    k = running(pool(stdout=FILE), body=Body(leaves_after=None))
    ask(k, FORCE)
    stopped(k)
    assert (k.status, k.now) == (3, 1060.1)


def test_what_reads_output_stays_when_a_reload_has_no_use_for_it_any_more() -> None:
    """Those that still drain print as they did before."""
    k = reloading(pool(), pool(stdout=FILE))
    assert (names(k), generations(k)) == ({"@output"}, [2])


# -- templates -----------------------------------------------------------------------


def test_workers_wait_for_their_template() -> None:
    k = kernel(pool(preload=True))
    k.files = lambda _: File("", template=Body(ready_after=3.0))
    k.wait(10)
    assert k.times(Start) == [1000.0, 1003.0]


def test_a_template_that_dies_is_replaced_and_its_workers_are_not() -> None:
    k = running(pool(preload=True, backoff=BACKOFF))
    k.crash("@a:1.0")
    k.wait(10)
    assert (starts(k), generations(k)) == (["@a:1"], [1])


def test_a_worker_that_dies_while_there_is_no_template_waits_for_the_next_one() -> None:
    k = running(pool(preload=True, backoff=BACKOFF))
    k.crash("@a:1.0")
    k.crash("a.0")
    k.wait(10)
    assert (starts(k), k.times(Start)) == (["@a:1", "a"], [1060.0, 1060.1])


def test_each_generation_has_a_template_and_the_old_one_goes_when_the_new_one_holds() -> None:
    k = running(pool(preload=True))
    k.renew()
    k.wait(1)
    assert names(k) == {"@a:1", "@a:2"}
    k.wait(20)
    assert (names(k), generations(k)) == ({"@a:2"}, [2])
    assert k.life.pools["a"].generations.templates == {2}


def test_a_template_that_does_not_come_up_takes_the_reload_back() -> None:
    k = reloading(pool(preload=True), pool(preload=True), template=Body(ready_after=None, dies_after=0.5))
    assert (names(k), generations(k), k.life.pools["a"].generations.templates) == ({"@a:1"}, [1], {1})
    assert k.notes("reload.failed")[0].fields["error"] == "@a:2.0 (generation 2): exit status 1"


def test_while_a_new_template_comes_up_the_old_one_serves() -> None:
    """Importing may take long; a place that falls vacant does not wait for it."""
    k = running(pool(preload=True, workers=2))
    k.files = lambda _: File(settings(pool(preload=True, workers=2)), template=Body(ready_after=20.0))
    k.renew()
    k.wait(1)
    k.crash("a.1")
    k.wait(1)
    assert generations(k) == [1, 1]


def test_without_surge_nobody_leaves_before_the_new_template_is_up() -> None:
    k = running(pool(surge=0))
    k.files = lambda _: File(settings(pool(surge=0, preload=True)), template=Body(ready_after=9.0))
    k.renew()
    k.wait(30)
    assert (k.times(Stop)[0], generations(k)) == (1069.1, [2])


# -- the reader ----------------------------------------------------------------------


def test_the_reader_runs_once_a_reload() -> None:
    k = running(pool())
    for _ in range(3):
        k.renew()
        k.wait(20)
    assert [name for name in starts(k) if name == "@reader"] == ["@reader"] * 3
    assert names(k) == set()


def test_a_reader_that_cannot_be_forked_is_tried_again() -> None:
    k = running(pool())
    bodies = iter([Body(fork_works=False)])
    file = File(settings(pool()))
    k.files = lambda _: replace(file, reader=next(bodies, file.reader))
    k.renew()
    k.wait(10)
    assert (starts(k)[:2], generations(k)) == (["@reader", "@reader"], [2])


def test_a_reader_that_says_it_is_ready_and_hangs_is_killed() -> None:
    k = running(pool())
    k.files = lambda _: File("nothing was found", reader=Body(ready_after=1.0, beats_for=0.0))
    k.renew()
    k.wait(60)
    assert [n.fields["error"] for n in k.notes("reload.failed")] == ["nothing was found"]


def test_inner_workers_are_no_ones_to_scale_or_to_hush() -> None:
    k = running(pool(max_memory=100))
    k.life.hush(True)
    assert (k.worker("@meter.0").quiet, k.worker("a.0").quiet) == (False, True)
    assert "@meter" not in k.life.pools
