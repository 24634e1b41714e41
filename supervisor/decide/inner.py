"""The pools that the master has for itself: who they are and when they are needed.

Each is an ordinary pool with one worker.  Their names begin with ``@``, which no
name in a configuration can.  What their workers run is known by those who fork.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from supervisor.settings import Output, PoolSettings, Reference, Seconds
from supervisor.streams import Streams, is_kept

OUTPUT = "@output"  # reads what workers print
METER = "@meter"  # measures their memory
READER = "@reader"  # reads the configuration for a reload
STORE = "@store"  # writes the state file of tasks
TO_THE_END = (OUTPUT, STORE)  # a stop needs them until all workers are gone
READ_SECONDS = Seconds(30.0)
# Also beyond the deadline of a stop, once all workers are gone.
STOP_SECONDS = Seconds(1.0)


def is_inner(name: str) -> bool:
    """Whether a pool of this name is the master's own."""
    return name.startswith("@")


def template_name(pool: str, generation: int) -> str:
    """The name of the template of one generation of a pool."""
    return f"@{pool}:{generation}"


def templated(name: str) -> str:
    """The pool of the configuration that the template of this name is for."""
    return name[1:].rpartition(":")[0]


def output(patience: Seconds) -> PoolSettings:
    """It outlives the master by ``patience``: workers that finish then are still heard."""
    return PoolSettings(OUTPUT, target=_target("output"), ready="notify", stop_timeout=patience)


def store(path: str) -> PoolSettings:
    """It keeps the state file at ``path``."""
    return PoolSettings(STORE, target=_target("store"), options={"path": path}, stop_timeout=STOP_SECONDS)


def meter() -> PoolSettings:
    return PoolSettings(METER, target=_target("meter"), stop_timeout=STOP_SECONDS)


def reader() -> PoolSettings:
    """It runs once and is late when it does not end in time, ready or not."""
    return PoolSettings(
        READER,
        command=(READER,),
        restart="never",
        ready="notify",
        start_timeout=READ_SECONDS,
        watchdog=READ_SECONDS,
        stop_timeout=STOP_SECONDS,
    )


def template(pool: PoolSettings, generation: int) -> PoolSettings:
    """It stands as a worker of the pool would, and forks them."""
    return replace(
        pool,
        name=template_name(pool.name, generation),
        workers=1,
        stdout="inherit",
        stderr="inherit",
        ready="notify",
        restart="always",
        watchdog=None,
        max_memory=None,
        max_age=None,
        max_jobs=None,
        after=(),
        preload=False,
        stop_timeout=STOP_SECONDS,
    )


def print_to_us(pools: Iterable[PoolSettings], streams: Streams) -> bool:
    """Whether any of them has output that is not simply passed on."""
    return any(
        isinstance(setting, Output)
        or (setting == "inherit" and is_kept(stream, other_user=pool.user is not None))
        for pool in pools
        for setting, stream in zip((pool.stdout, pool.stderr), streams, strict=True)
    )


def are_measured(pools: Iterable[PoolSettings]) -> bool:
    """Whether any of them has a limit of memory."""
    return any(pool.max_memory is not None for pool in pools)


def _target(module: str) -> Reference:
    return Reference(f"supervisor.inner.{module}:run")
