"""How workers, hooks, helpers and files of a simulated life behave: data, and short ways to write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supervisor.exits import End
from supervisor.settings import MasterSettings, PoolSettings, Settings

SIGSEGV, SIGKILL = 11, 9
FAILED, NO_MEMORY = End(code=1), End(error="fork: Resource temporarily unavailable")


@dataclass(frozen=True)
class Body:
    """How one worker behaves; ``None`` means never."""

    fork_works: bool = True
    ready_after: float | None = 0.1
    beats_for: float | None = None  # it beats until so long after its fork, and for ever by default
    dies_after: float | None = None  # by itself, after its fork
    dies_of: End = FAILED
    acknowledges_after: float | None = 0.0  # after it was asked
    leaves_after: float | None = 0.1
    leaves_with: int | None = None  # as it was asked to, by default
    dies_of_kill_after: float | None = 0.0
    works_for: float | None = None  # after so long it has done a thousand jobs, and says so
    memory: int = 0
    stutters: bool = False  # all that is told of it is told twice, and again when it is gone


@dataclass(frozen=True)
class HookBody:
    """How one of the master's hooks behaves; ``seconds=None`` hangs."""

    seconds: float | None = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Helpers:
    """What the workers leave behind; ``None`` never goes."""

    gone_after_term: float | None = 0.0
    gone_after_kill: float | None = 0.0


GOOD = Body()
READS = Body(ready_after=None, dies_after=0.1, dies_of=End(code=0))  # the configuration


@dataclass(frozen=True)
class File:
    """What one reload finds, and how its own processes behave."""

    found: Settings | str  # or what is wrong with it
    seconds: float = 0.0  # until what it needs is open
    reader: Body = READS
    template: Body = GOOD


def pool(name: str = "a", **keys: Any) -> PoolSettings:
    return PoolSettings(name, target=None, **keys)


def settings(*pools: PoolSettings, **master: Any) -> Settings:
    head = MasterSettings("test", "/run/test.sock", "/var/lib/test", "/", (".",), **master)
    return Settings("config.toml", head, {p.name: p for p in pools})
