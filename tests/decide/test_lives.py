"""Random whole lives in virtual time; the laws are held after every plan."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bodies import GOOD, READS
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kernel import Kernel
from worlds import ANY_HOOK, ANYTHING, FINE, PEACE, Command, World, born, live, worlds

from supervisor.decide.actions import Dump, Finish, Kill, Note, Quiet, Start, Stop
from supervisor.decide.descent import GIVE_UP_SECONDS
from supervisor.decide.stopping import Firmness
from supervisor.decide.worker import State

pytestmark = pytest.mark.long  # of the interpreter's version they depend least

SLACK = 0.01  # a late dump is given one turn, and floats are floats


def patience(k: Kernel, world: World) -> float:
    """How long a stop may take at most."""
    on_exit = len(world.hooks["on_exit"]) * world.hook_timeout
    return world.stop_timeout + 2 * GIVE_UP_SECONDS + on_exit + k.frozen + SLACK


def expected_status(k: Kernel, *, cut: bool) -> int:
    assert k.life.stop is not None
    if k.life.broken is not None:
        return int(k.life.broken)
    clean_and_cut = {
        Firmness.GAVE_UP: (6, 6),
        Firmness.RESTART: (4, 5),
        Firmness.STOP: (0, 3),
        Firmness.FORCE: (3, 3),
    }
    return clean_and_cut[k.life.stop.firmness][cut]


def all_reloads_ended(k: Kernel) -> bool:
    """None goes on, and each that was promised has begun after the promise."""
    return k.life.reload is None and not k.promised


few = hypothesis_settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@few
@given(worlds(ANY_HOOK), ANYTHING, st.sampled_from(list(Firmness)), st.booleans())
def test_every_life_keeps_the_laws_and_a_stop_ends_it_in_time(
    world: World, commands: list[Command], last: Firmness, gives_up: bool
) -> None:
    if gives_up:
        world = giving_up(world)
    k = born(world)
    live(k, world, commands)
    if k.life.stop is None:
        k.life.ask(last, "last", k.now)
    assert k.life.stop is not None
    if not k.finished:
        k.until(lambda: k.finished, limit=100.0)
    [ended] = k.times(Finish)
    assert ended - k.life.stop.began <= patience(k, world)
    cut = (k.laws.at_stop or set()) & (k.cut | set(k.alive))
    stuck = bool(k.notes("stop.stuck"))  # it may be gone by the end nevertheless
    assert k.status == k.report["status"] == expected_status(k, cut=bool(cut) or stuck)
    killed = [entry for entry in k.report["workers"] if entry["killed"]]
    assert len(killed) == len(cut)


def giving_up(world: World) -> World:
    """The same world, where a pool that gives up ends the master."""
    return changed(world, on_give_up="exit")


def changed(world: World, **keys: object) -> World:
    versions = [replace(v, pools=[replace(p, **keys) for p in v.pools]) for v in world.versions]  # type: ignore[arg-type]
    return replace(world, versions=versions)


@few
@given(worlds(FINE), PEACE)
def test_when_everything_behaves_again_the_pools_fill_up_and_stay_full(
    world: World, commands: list[Command]
) -> None:
    """And every reload that was asked for has been, and only workers of the last good one are left."""
    world = changed(world, max_age=None)
    k = born(world)
    live(k, world, commands)
    heal(k)
    k.until(lambda: all_reloads_ended(k), limit=500.0)
    k.wait(40)  # in which those that misbehave are gone,
    for home in k.life.pools.values():
        k.life.resize(home, home.slots.size, k.now)  # and people start again what was given up
    k.wait(60)
    for home in k.life.pools.values():
        assert home.full
        assert {w.generation for w in home.workers.values()} <= {home.good}
    assert k.life.was_ready
    workers = [w for home in k.life.everybody for w in home.workers.values()]
    assert all(w.state is State.READY and not w.quiet for w in workers)
    k.log.clear()
    k.wait(30)
    assert not [a for _, a in k.log if isinstance(a, Start | Stop | Quiet | Dump | Kill | Finish)]


def heal(k: Kernel) -> None:
    """From now on nothing is born that misbehaves."""
    files, k.bodies = k.files, lambda _: GOOD
    assert files is not None
    k.files = lambda generation: replace(files(generation), reader=READS, template=GOOD)
    for process in k.alive.values():
        process.body = replace(process.body, dies_of_kill_after=0.0, memory=0)
    k.life.hush(False)


@few
@given(worlds(ANY_HOOK), ANYTHING)
def test_facts_that_come_twice_or_late_change_nothing(world: World, commands: list[Command]) -> None:
    logs = []
    for stutter in (False, True):
        k = born(world, stutter=stutter)
        live(k, world, commands)
        logs.append([(t, a.event if isinstance(a, Note) else a) for t, a in k.log])
    assert logs[0] == logs[1]
