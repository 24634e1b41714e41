"""Random whole lives in virtual time; the laws are held after every plan.

A life is data: how pools, hooks and workers behave, and what is asked of the
master when.  So a life that breaks a law shrinks to the shortest one that does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kernel import GOOD, Body, Helpers, HookBody, Kernel, pool, settings

from supervisor.decide.actions import Dump, Finish, Kill, Note, Quiet, Start, Stop
from supervisor.decide.descent import GIVE_UP_SECONDS
from supervisor.decide.life import Life
from supervisor.decide.stopping import Firmness
from supervisor.decide.worker import State
from supervisor.exits import End
from supervisor.settings import Backoff, PoolSettings, Seconds

SLACK = 0.01  # a late dump is given one turn, and floats are floats
BACKOFF = Backoff(Seconds(0.5), Seconds(4.0), Seconds(6.0))
ENDS = [End(code=1), End(code=0), End(code=4), End(signal=11), End(signal=9)]

# Each list begins with what behaves: that is what a failing life shrinks to.
BODIES = st.builds(
    Body,
    fork_works=st.sampled_from([True, True, True, False]),
    ready_after=st.sampled_from([0.1, 0.0, 3.0, None]),
    beats_for=st.sampled_from([None, 0.0, 7.0]),
    dies_after=st.sampled_from([None, 0.0, 1.0, 5.0, 12.0]),
    dies_of=st.sampled_from(ENDS),
    acknowledges_after=st.sampled_from([0.0, 1.5, None]),
    leaves_after=st.sampled_from([0.1, 0.0, 2.0, 4.9, None]),
    leaves_with=st.sampled_from([None, 0, 1, 4]),
    dies_of_kill_after=st.sampled_from([0.0, 0.5, None]),
    stutters=st.booleans(),
)
POOLS = st.builds(
    pool,
    workers=st.sampled_from([1, 0, 2, 3, 20]),
    start_timeout=st.sampled_from([5.0, 2.0]),
    stop_timeout=st.sampled_from([4.0, 1.0, 0.05]),
    watchdog=st.sampled_from([None, 4.0]),
    restart=st.sampled_from(["always", "on-failure", "never"]),
    backoff=st.just(BACKOFF),
    max_restarts=st.sampled_from([None, 0, 2]),
    within=st.just(10.0),
)
FINE = st.builds(HookBody, seconds=st.sampled_from([0.0, 0.3]))  # within any hook_timeout
ANY_HOOK = FINE | st.builds(
    HookBody, st.sampled_from([0.0, 1.0, None]), st.sampled_from([None, "ValueError", ""])
)
HELPERS = st.builds(Helpers, st.sampled_from([0.0, 0.5, None]), st.sampled_from([0.0, 0.3, None]))


@dataclass(frozen=True)
class World:
    """All that a life meets but what is asked of it."""

    pools: list[PoolSettings]
    bodies: list[Body]  # of the workers in the order of their forks, over and over
    imports: HookBody
    hooks: dict[str, list[HookBody]]
    helpers: Helpers
    stop_timeout: float
    drain_delay: float
    hook_timeout: float
    jitter: float
    boot: float  # so long it is left in peace at first


def worlds(up: st.SearchStrategy[HookBody]) -> st.SearchStrategy[World]:
    """Worlds in which the hooks on the way up behave like ``up``."""
    lists = {"on_start": up, "on_ready": ANY_HOOK, "on_stop": ANY_HOOK, "on_exit": ANY_HOOK}
    return st.builds(
        World,
        st.lists(POOLS, min_size=1, max_size=3),
        st.lists(st.just(GOOD) | BODIES, min_size=1, max_size=6),
        up,
        st.fixed_dictionaries({name: st.lists(hooks, max_size=2) for name, hooks in lists.items()}),
        HELPERS,
        stop_timeout=st.sampled_from([5.0, 10.0, 0.5, 0.05]),
        drain_delay=st.sampled_from([0.0, 1.0, 20.0]),
        hook_timeout=st.sampled_from([3.0, 0.5]),
        jitter=st.sampled_from([0.0, 0.5, 0.999]),
        boot=st.sampled_from([8.0, 0.0, 1.0]),
    )


Command = tuple[str, float] | tuple[str, float, float]
NTH, INSTANTS = st.integers(0, 25), st.sampled_from([0.0, 0.05, 0.5, 1.0, 3.0, 7.0])
HARMLESS = [
    st.tuples(st.just("wait"), INSTANTS),
    st.tuples(st.just("hush"), st.booleans()),
    st.tuples(st.just("resize"), st.integers(0, 2), st.sampled_from([1, 0, 2, 4, 18])),
    st.tuples(st.just("freeze"), INSTANTS),
    st.tuples(st.just("thaw"), st.just(0)),
    st.tuples(st.just("kill worker"), NTH, st.integers(0, len(ENDS) - 1)),
    st.tuples(st.just("tell worker"), NTH, st.sampled_from([0, 4])),
    st.tuples(st.just("extend"), NTH, INSTANTS),
    st.tuples(st.just("acknowledge"), NTH),
    st.tuples(st.just("ready"), NTH),
    st.tuples(st.just("outlive"), NTH),
]
ENDING = [
    st.tuples(st.just("ask"), st.sampled_from(list(Firmness))),
    st.tuples(st.just("interrupt"), st.just(0)),
    st.tuples(st.just("fail"), st.just(0)),
]
PEACE = st.lists(st.one_of(HARMLESS), max_size=14)
ANYTHING = st.lists(st.one_of(*HARMLESS, *ENDING), max_size=14)


def born(world: World, *, stutter: bool | None = None) -> Kernel:
    """A life in this world, at its beginning."""
    named = [replace(p, name="abc"[i]) for i, p in enumerate(world.pools)]
    keys = ("stop_timeout", "drain_delay", "hook_timeout")
    life = Life(settings(*named, **{key: getattr(world, key) for key in keys}), lambda: world.jitter)
    bodies = world.bodies if stutter is None else [replace(b, stutters=stutter) for b in world.bodies]
    hooks = {"import": [world.imports], **world.hooks}
    return Kernel(life, lambda start: bodies[start.worker % len(bodies)], hooks, world.helpers)


def obey(k: Kernel, command: Command) -> None:
    """Let one thing happen.  Only time lets the master turn, so what follows falls in the same instant."""
    match command:
        case ("wait", seconds):
            k.wait(seconds)
        case ("freeze", seconds):
            k.freeze(seconds)
        case ("thaw", _):
            k.life.thawed(k.now)
        case ("hush", on):
            k.life.hush(bool(on))
        case ("resize", nth, size):
            pools = list(k.life.pools.values())
            k.life.resize(pools[int(nth) % len(pools)], int(size), k.now)
        case ("ask", firmness):
            k.life.ask(Firmness(int(firmness)), f"ask {firmness}", k.now)
        case ("interrupt", _):
            k.life.interrupt("interrupt", k.now)
        case ("fail", _):
            k.life.fail("fail", k.now)
        case (what, nth, *how):
            happens_to_one(k, what, int(nth), *how)


def happens_to_one(k: Kernel, what: str, nth: int, how: float = 0.0) -> None:
    """Something happens to one worker that nobody here asked for."""
    if not k.alive:
        return
    id = sorted(k.alive)[nth % len(k.alive)]
    home = k.alive[id].pool
    match what:
        case "outlive":
            k.life.outlived(id, k.now)
        case "kill worker":
            k.ends(id, ENDS[int(how)])
        case "tell worker":
            k.told_to_leave(id, int(how))
        case "extend":
            home.extended(id, how, k.now)
        case "acknowledge":
            home.acknowledged(id, k.now)
        case "ready":
            home.ready(id, k.now)


def live(k: Kernel, world: World, commands: list[Command]) -> None:
    for command in [("wait", world.boot), *commands]:
        if not k.finished:
            obey(k, command)


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


few = hypothesis_settings(
    max_examples=200,
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
        world = replace(world, pools=[replace(p, on_give_up="exit") for p in world.pools])
    k = born(world)
    live(k, world, commands)
    if k.life.stop is None:
        k.life.ask(last, "last", k.now)
    assert k.life.stop is not None
    if not k.finished:
        k.until(lambda: k.finished, limit=100.0)
    assert k.now - k.life.stop.began <= patience(k, world)
    cut = (k.laws.at_stop or set()) & (k.cut | set(k.alive))
    assert k.status == k.report["status"] == expected_status(k, cut=bool(cut))
    killed = [entry for entry in k.report["workers"] if entry["killed"]]
    assert len(killed) == len(cut)


@few
@given(worlds(FINE), PEACE)
def test_when_everything_behaves_again_the_pools_fill_up_and_stay_full(
    world: World, commands: list[Command]
) -> None:
    k = born(world)
    live(k, world, commands)
    k.bodies = lambda _: GOOD
    for process in k.alive.values():
        process.body = replace(process.body, dies_of_kill_after=0.0)
    k.life.hush(False)
    k.wait(40)  # in which those that misbehave are gone,
    for home in k.life.pools.values():
        k.life.resize(home, home.slots.size, k.now)  # and people start again what was given up
    k.wait(20)
    assert all(home.full for home in k.life.pools.values())
    assert k.life.was_ready
    workers = [w for home in k.life.pools.values() for w in home.workers.values()]
    assert all(w.state is State.READY and not w.quiet for w in workers)
    k.log.clear()
    k.wait(30)
    assert not [a for _, a in k.log if isinstance(a, Start | Stop | Quiet | Dump | Kill | Finish)]


@few
@given(worlds(ANY_HOOK), ANYTHING)
def test_facts_that_come_twice_or_late_change_nothing(world: World, commands: list[Command]) -> None:
    logs = []
    for stutter in (False, True):
        k = born(world, stutter=stutter)
        live(k, world, commands)
        logs.append([(t, a.event if isinstance(a, Note) else a) for t, a in k.log])
    assert logs[0] == logs[1]
