"""One snapshot of everything as plain data: the object of ``status --json``.

Reads the decision core's picture; adds what only the wall clock and /proc can
say.  Changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from supervisor import __version__
from supervisor.decide.life import Life
from supervisor.decide.pool import Pool
from supervisor.decide.slots import Slot
from supervisor.decide.worker import State, Worker
from supervisor.sentences import said

SHOWN = {
    State.FORKING: "starting",
    State.STARTING: "starting",
    State.READY: "ready",
    State.STOPPING: "stopping",
    State.KILLED: "stopping",
}
WAITS = "waiting for {address}, [still held by {holders} of a dead master|which is still in use]"
TIMES = frozenset({"since", "until", "paused_until", "next_run", "started_at", "due"})


@dataclass(frozen=True)
class Beside:
    """What the picture needs and the decision core does not know."""

    pid: int
    began: float  # monotonic
    ends: Mapping[tuple[str, int], dict[str, Any]]  # the last exit of each slot
    usage: Callable[[int], tuple[int, float] | None]  # pid to bytes and CPU seconds
    last_reload: Callable[[], dict[str, Any]]


def snapshot(life: Life, beside: Beside, now: float) -> dict[str, Any]:
    """The whole picture at ``now`` (monotonic seconds)."""
    stop = life.stop
    return {
        "name": life.settings.name,
        "pid": beside.pid,
        "version": __version__,
        "state": life.state,
        "generation": life.generation,
        "uptime": round(now - beside.began, 3),
        "stop_deadline": None if stop is None else iso(time.time() + stop.deadline - now),
        "last_reload": beside.last_reload(),
        "pools": {pool.name: _pool(pool, now, beside) | _reason(life, pool, now) for pool in _pools(life)},
        "tasks": dated(life.tasks.list()),
    } | ({"reason": waits} if (waits := _waits(life)) else {})


def _waits(life: Life) -> str | None:
    """For what a whole start waits, where it does."""
    opening = life.opening
    if life.stop is not None or not opening.waiting:
        return None
    return said(WAITS, {"address": opening.address, "holders": [*opening.holders] or None})


def _pools(life: Life) -> list[Pool]:
    """Those of the configuration, and before them those that are leaving; of one name the new one."""
    return sorted(life.everybody.of_users(), key=lambda pool: not pool.retired)


def _pool(pool: Pool, now: float, beside: Beside) -> dict[str, Any]:
    return {
        "state": pool.state,
        "desired": pool.slots.size,
        "ready": pool.up,
        "generation": pool.generation,
        "restarts": pool.restarts,
        "workers": list(_workers(pool, now, beside)),
    }


def _reason(life: Life, pool: Pool, now: float) -> dict[str, str]:
    """Why nobody can be started in it; no key where somebody can."""
    if pool.parked:
        return {"reason": f"parked: {pool.experience.parked_for}"}
    template = None if pool.retired else life.everybody.template(pool)
    if template is None or template.up or template.experience.failure is None:
        return {}
    again = template.slots.retry_at(0)
    after = "" if again is None else f", tried again in {max(0.0, again - now):.1f} s"
    return {"reason": f"its template failed: {template.experience.failure}{after}"}


def _workers(pool: Pool, now: float, beside: Beside) -> Iterator[dict[str, Any]]:
    for index, slot in pool.slots:
        for shown in _slot(pool, index, slot, now, beside):
            yield {**shown, "restarts": slot.restarts, "last_exit": beside.ends.get((pool.name, index))}


def _slot(pool: Pool, index: int, slot: Slot, now: float, beside: Beside) -> Iterator[dict[str, Any]]:
    """Who holds it, and for the time of a replacement the others that are in it."""
    for id in slot.members():
        yield _worker(pool.workers[id], now, beside)
    if slot.worker is None and slot.waiting:
        yield _in_backoff(pool, index, now)


def _in_backoff(pool: Pool, index: int, now: float) -> dict[str, Any]:
    return {
        "id": f"{pool.name}.{index}",
        "slot": index,
        "pid": None,
        "state": "backoff",
        "generation": pool.generation,
        "uptime": None,
        "status": _waits_for(pool, index, now),
        "jobs": None,
        "in_flight": None,
        "memory": None,
        "cpu": None,
    }


def _waits_for(pool: Pool, index: int, now: float) -> str:
    """What a slot without a worker has to say for itself."""
    if pool.parked:
        return "parked: it kept failing, and is tried again when it is scaled"
    if pool.holding:
        return "not started again: stopping"
    return f"starts again in {max(0.0, (pool.slots.retry_at(index) or now) - now):.1f} s"


def _worker(worker: Worker, now: float, beside: Beside) -> dict[str, Any]:
    used = beside.usage(worker.pid) if worker.pid is not None else None
    uptime = now - worker.born_at
    quiet = worker.quiet and worker.state is State.READY
    return {
        "id": worker.name,
        "slot": worker.slot,
        "pid": worker.pid,
        "state": "quiet" if quiet else SHOWN[worker.state],
        "generation": worker.generation,
        "uptime": round(uptime, 3),
        "status": worker.text,
        "jobs": worker.jobs,
        "in_flight": worker.in_flight,
        "memory": used[0] if used and used[0] else None,  # a zombie has none
        "cpu": round(100 * used[1] / uptime, 1) if used and uptime > 0 else None,
    }


def dated(found: Any) -> Any:
    """The same with its wall times as people and programs read them."""
    match found:
        case dict():
            return {k: iso(v) if k in TIMES and v is not None else dated(v) for k, v in found.items()}
        case list():
            return [dated(one) for one in found]
    return found


def iso(wall: float) -> str:
    """ISO 8601 with the local offset, e.g. ``2026-11-20T21:31:05.123+01:00``."""
    local = time.localtime(wall)
    zone = time.strftime("%z", local) or "+0000"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{int(wall % 1 * 1000):03d}{zone[:3]}:{zone[3:5]}"


def summary(life: Life) -> str:
    """One line for the service manager's STATUS."""
    if waits := _waits(life):
        return f"{life.state}: {waits}"
    pools = ", ".join(f"{p.name} {p.up}/{p.slots.size}" for p in life.pools.values())
    if life.stop is None:
        return f"{life.state}: {pools} ready"
    left = sum(len(pool.workers) for pool in life.pools.values())
    return f"{life.state} ({life.stop.phase.value}): {left} workers left"
