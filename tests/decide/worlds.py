"""Random worlds, and what may happen in them: whole lives as data.

So a life that breaks a law shrinks to the shortest one that does.  Each list
begins with what behaves: that is what a failing life shrinks to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bodies import GOOD, READS, Body, File, Helpers, HookBody, pool, settings
from hypothesis import strategies as st
from kernel import Kernel

from supervisor.decide.actions import Start
from supervisor.decide.life import Life
from supervisor.decide.stopping import Firmness
from supervisor.exits import End
from supervisor.settings import Backoff, Hooks, PoolSettings, Reference, Seconds, Settings

BACKOFF = Backoff(Seconds(0.5), Seconds(4.0), Seconds(6.0))
ENDS = [End(code=1), End(code=0), End(code=4), End(signal=11), End(signal=9)]
LIMIT = 100  # of memory

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
    works_for=st.sampled_from([None, 0.2, 2.0, 9.0]),
    memory=st.sampled_from([0, 0, LIMIT + 1]),
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
    surge=st.sampled_from([1, 0, 3, "25%"]),
    stable_after=st.sampled_from([2.0, 0.0]),
    preload=st.sampled_from([False, False, True]),
    max_age=st.sampled_from([None, None, 5.0]),
    max_jobs=st.sampled_from([None, 100]),
    max_memory=st.sampled_from([None, LIMIT]),
    after=st.sampled_from([(), ("before",)]),
)
FINE = st.builds(HookBody, seconds=st.sampled_from([0.0, 0.3]))  # within any hook_timeout
ANY_HOOK = FINE | st.builds(
    HookBody, st.sampled_from([0.0, 1.0, None]), st.sampled_from([None, "ValueError", ""])
)
HELPERS = st.builds(Helpers, st.sampled_from([0.0, 0.5, None]), st.sampled_from([0.0, 0.3, None]))
WORKERS = st.just([GOOD]) | st.lists(st.just(GOOD) | BODIES, min_size=1, max_size=6)
OWN = st.sampled_from(  # how readers and templates behave
    [
        *[None] * 8,
        Body(ready_after=None, dies_after=0.5),
        Body(ready_after=None, leaves_after=None, dies_of_kill_after=0.5),
        Body(ready_after=1.0, dies_after=4.0, leaves_after=None),
        Body(fork_works=False),
    ]
)


@dataclass(frozen=True)
class Version:
    """What one reload finds: pools and how their workers behave, or mistakes."""

    pools: list[PoolSettings]
    names: str  # of the pools, in the order of the file
    bodies: list[Body]  # of the workers in the order of their forks, over and over
    mistakes: bool = False
    seconds: float = 0.0
    reader: Body | None = None
    template: Body | None = None
    hooks: str = ""


@dataclass(frozen=True)
class World:
    """All that a life meets but what is asked of it."""

    versions: list[Version]  # the first one is booted, the others come over and over
    imports: HookBody
    hooks: dict[str, list[HookBody]]
    helpers: Helpers
    stop_timeout: float
    drain_delay: float
    hook_timeout: float
    jitter: float
    boot: float  # so long it is left in peace at first
    reload: float | None  # and so long after a first reload, if there is one


VERSIONS = st.builds(
    Version,
    st.lists(POOLS, min_size=1, max_size=3),
    names=st.sampled_from(["abc", "bca", "cba", "dab"]),
    bodies=WORKERS,
    mistakes=st.sampled_from([*[False] * 7, True]),
    seconds=st.sampled_from([0.0, 0.5]),
    reader=OWN,
    template=OWN,
    hooks=st.sampled_from(["", "", "other"]),
)


def worlds(up: st.SearchStrategy[HookBody]) -> st.SearchStrategy[World]:
    """Worlds in which the hooks on the way up behave like ``up``."""
    lists = {"on_start": up, "on_ready": ANY_HOOK, "on_stop": ANY_HOOK, "on_exit": ANY_HOOK}
    return st.builds(
        World,
        st.lists(VERSIONS, min_size=2, max_size=4),
        up,
        st.fixed_dictionaries({name: st.lists(hooks, max_size=2) for name, hooks in lists.items()}),
        HELPERS,
        stop_timeout=st.sampled_from([5.0, 10.0, 0.5, 0.05]),
        drain_delay=st.sampled_from([0.0, 1.0, 20.0]),
        hook_timeout=st.sampled_from([3.0, 0.5]),
        jitter=st.sampled_from([0.0, 0.5, 0.999]),
        boot=st.sampled_from([8.0, 0.0, 1.0]),
        reload=st.sampled_from([7.0, 3.0, 1.0, 0.3, None]),
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
    st.tuples(st.just("renew"), INSTANTS),
    st.tuples(st.just("renew"), INSTANTS),
]
ENDING = [
    st.tuples(st.just("ask"), st.sampled_from(list(Firmness))),
    st.tuples(st.just("interrupt"), st.just(0)),
    st.tuples(st.just("fail"), st.just(0)),
]
PEACE = st.lists(st.one_of(HARMLESS), max_size=14)
ANYTHING = st.lists(st.one_of(*HARMLESS, *ENDING), max_size=14)


def written(world: World, version: Version) -> Settings:
    """The configuration of one version."""
    named: list[PoolSettings] = []
    alphabetical = sorted(version.names[: len(version.pools)])
    for name, keys in zip(version.names, version.pools, strict=False):
        before = alphabetical[: alphabetical.index(name)][-1:]
        named.append(replace(keys, name=name, after=tuple(before) if keys.after else ()))
    keys = ("stop_timeout", "drain_delay", "hook_timeout")
    whole = settings(*named, **{key: getattr(world, key) for key in keys})
    hooks = Hooks(on_stop=(Reference(version.hooks),)) if version.hooks else Hooks()
    return replace(whole, hooks=hooks)


def born(world: World, *, stutter: bool | None = None) -> Kernel:
    """A life in this world, at its beginning."""

    def version(generation: int) -> Version:
        return world.versions[(generation - 1) % len(world.versions)]

    def body(start: Start) -> Body:
        bodies = version(start.generation).bodies
        body = bodies[start.worker % len(bodies)]
        return body if stutter is None else replace(body, stutters=stutter)

    def file(generation: int) -> File:
        read = version(generation)
        found = "a mistake" if read.mistakes else written(world, read)
        return File(found, read.seconds, read.reader or READS, read.template or GOOD)

    life = Life(written(world, world.versions[0]), lambda: world.jitter)
    return Kernel(life, body, {"import": [world.imports], **world.hooks}, world.helpers, file)


def obey(k: Kernel, command: Command) -> None:  # noqa: C901  # one thing that may happen a case
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
        case ("renew", seconds):
            k.renew()
            k.wait(seconds)
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


def live(k: Kernel, world: World, commands: Sequence[Command]) -> None:
    first: list[Command] = [] if world.reload is None else [("renew", world.reload)]
    for command in [("wait", world.boot), *first, *commands]:
        if not k.finished:
            obey(k, command)
