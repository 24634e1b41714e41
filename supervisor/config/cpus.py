"""How many CPUs this process may use: what ``workers = "auto"`` means.

Affinity (taskset, cpusets) and the quota of every cgroup above us, of version 2
or 1, whichever is least.  A part of a CPU counts as one.  Changes nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

V1_NAMES = ("cpu,cpuacct", "cpu")


def usable(root: str = "/") -> int:
    """At least 1; `root` is where the kernel's files are looked for."""
    quotas = [math.ceil(quota) for quota in _quotas(root)]
    return max(1, min([len(os.sched_getaffinity(0)), *quotas]))


def _quotas(root: str) -> Iterator[float]:
    """In CPUs; a cgroup may not use more than its ancestors, so each of them counts."""
    base = os.path.join(root, "sys/fs/cgroup")
    for entry in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        _, controllers, path = [*entry.split(":", 2), "", ""][:3]
        if not controllers:
            for folder in _upwards(base, path):
                yield from _quotient(_read(f"{folder}/cpu.max").split())
        elif "cpu" in controllers.split(","):
            for folder in (f for name in V1_NAMES for f in _upwards(f"{base}/{name}", path)):
                yield from _quotient([_read(f"{folder}/cpu.cfs_{n}_us").strip() for n in ("quota", "period")])


def _upwards(base: str, path: str) -> Iterator[str]:
    """In a container the path may not exist below the mount; the mount itself does then."""
    parts = [part for part in path.split("/") if part]
    for length in range(len(parts), -1, -1):
        yield "/".join([base, *parts[:length]])


def _quotient(words: list[str]) -> Iterator[float]:
    """``max 100000`` and a quota of -1 mean no limit."""
    match words:
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096)
    except OSError:
        return ""
