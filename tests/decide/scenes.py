"""Scenes that several tests begin with, and questions they ask of what happened.

Knows the kernel; holds nothing that a test could not write down itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bodies import GOOD, Body, File, HookBody, pool, settings
from kernel import Kernel, kernel

from supervisor.decide.actions import Action, Note, Start
from supervisor.decide.pool import Pool
from supervisor.decide.stopping import Firmness
from supervisor.settings import Backoff, PoolSettings, Seconds

BACKOFF = Backoff(Seconds(1.0), Seconds(30.0), Seconds(10.0))
NEVER_READY = Body(ready_after=None)
CRASHES = Body(ready_after=None, dies_after=0.2)
CRASHES_LATER = Body(dies_after=1.1)
FAILS = Body(ready_after=None, dies_after=1.0)
DEAF = Body(leaves_after=None, acknowledges_after=None)
UNKILLABLE = Body(leaves_after=None, dies_of_kill_after=None)
HANGS = HookBody(seconds=None)
GAVE_UP, RESTART, STOP, FORCE = Firmness


def running(*pools: PoolSettings, **keys: Any) -> Kernel:
    """A life that has been up for so long that nothing of its start counts."""
    k = kernel(*pools, **keys)
    k.wait(60)
    k.log.clear()
    return k


def up(*, body: Body = GOOD, **keys: Any) -> Kernel:
    """One pool with these settings, running."""
    return running(pool(backoff=BACKOFF, **keys), body=body)


def one(k: Kernel) -> Pool:
    """The only pool."""
    [only] = k.life.pools.values()
    return only


def slots(actions: Iterable[Action]) -> list[int]:
    """Which slots were filled."""
    return [a.slot for a in actions if isinstance(a, Start)]


def ask(k: Kernel, firmness: Firmness = STOP, reason: str = "SIGTERM") -> None:
    k.life.ask(firmness, reason, k.now)


def stopped(k: Kernel) -> Kernel:
    """To the end of the stop."""
    k.until(lambda: k.finished)
    return k


def left_after(k: Kernel) -> dict[str, float]:
    """When each phase was left, in seconds since the first was."""
    left = [(t, a) for t, a in k.log if isinstance(a, Note) and a.event == "stop.phase"]
    return {a.fields["phase"]: round(t - left[0][0], 6) for t, a in left}


def farewell(k: Kernel, name: str) -> dict[str, Any]:
    """What the report says of one worker."""
    return next(entry for entry in k.report["workers"] if entry["worker"] == name)


def reloading(*new: PoolSettings, old: PoolSettings, body: Body = GOOD, **file: Any) -> Kernel:
    """A life with the old pool, in which a reload to the new ones has begun at 1060."""
    k = running(old, bodies=lambda start: GOOD if start.generation == 1 else body)
    k.files = lambda _: File(settings(*new), **file)
    k.renew()
    return k


def generations(k: Kernel, name: str = "a") -> list[int]:
    """Of those who serve, by slot."""
    serving = [w for w in k.life.pools[name].workers.values() if not w.leaving]
    return [w.generation for w in sorted(serving, key=lambda w: w.slot)]


def reason(k: Kernel) -> str:
    """Why the reload failed."""
    [note] = k.notes("reload.failed")
    return str(note.fields["error"])
