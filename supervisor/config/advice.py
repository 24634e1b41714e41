"""What is allowed and probably not meant: one line each, never a reason to refuse.

Looks at the settings and at the folders they name; changes nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from supervisor.config.problems import Problem, line
from supervisor.settings import MasterSettings, PoolSettings, Settings, TaskSettings

SHORTEST_WATCHDOG = SHORTEST_EVERY = 1.0


def warnings(settings: Settings) -> list[str]:
    """In the form of errors, ``config.toml: KEY: what``."""
    found = [*_master(settings.master), *(p for pool in settings.pools.values() for p in _pool(pool))]
    found += [p for task in settings.tasks.values() for p in _task(task)]
    if os.geteuid() == 0:
        found += _changeable((), settings.path or settings.file, "it")
        for entry in settings.master.pythonpath:
            found += _changeable(("master", "pythonpath"), entry, entry)
    return [line(settings.file, problem) for problem in found]


def _master(master: MasterSettings) -> Iterator[Problem]:
    for entry in master.pythonpath:
        if not os.path.exists(entry):
            yield Problem(("master", "pythonpath"), f"there is no {entry}")
    if master.drain_delay > master.stop_timeout / 2:
        yield Problem(
            ("master", "drain_delay"),
            "is more than half of stop_timeout; it is cut short there, so that workers have time to finish",
        )


def _pool(pool: PoolSettings) -> Iterator[Problem]:
    path = ("pools", pool.name)
    if pool.workers == 0:
        yield Problem((*path, "workers"), "is 0: the pool stays idle until it is scaled up")
    if pool.watchdog is not None and pool.watchdog < SHORTEST_WATCHDOG:
        yield Problem((*path, "watchdog"), "is less than 1s: a busy machine looks like a hanging worker")


def _task(task: TaskSettings) -> Iterator[Problem]:
    if task.every is not None and task.every < SHORTEST_EVERY:
        yield Problem(("tasks", task.name, "every"), "is less than 1s: each run is a process of its own")


def _changeable(path: tuple[str, ...], file: str, what: str) -> Iterator[Problem]:
    """Who else than root decides what root runs."""
    try:
        found = os.stat(file)
    except OSError:
        return
    if found.st_uid != 0:
        yield Problem(
            path, f"{what} belongs to uid {found.st_uid} and you are root: that user decides what runs"
        )
    elif found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != 0):
        yield Problem(path, f"others than root may write {what} and you are root: they decide what runs")
