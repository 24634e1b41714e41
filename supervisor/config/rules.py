"""What a table's values may be, and what keys have to do with each other.

Every rule takes what was read and adds problems; none stops at the first.
Whether a key is *written* is asked of the document, what it *says* of the settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from supervisor import calendar
from supervisor.config import units
from supervisor.config.problems import KeyPath, Problem, meant, shown
from supervisor.settings import Hooks, MasterSettings, PoolSettings, SocketSettings, TaskSettings
from supervisor.unix.addresses import Address, parse

MOST_WORKERS = 10_000
NONZERO = {
    "stop_timeout", "hook_timeout", "start_timeout", "within", "watchdog", "every", "timeout",
    "initial", "max", "reset_after", "max_memory", "max_age", "max_size", "retry_after",
}  # fmt: skip
RANGES = {
    "workers": (0, MOST_WORKERS),
    "surge": (0, MOST_WORKERS),  # 0: replace in place, for programs that cannot run twice
    "max_restarts": (0, 1_000_000),
    "max_jobs": (1, 10**15),
    "pause_after_failures": (0, 1_000_000),
    "backlog": (1, 65_535),
    "keep": (0, 1_000),
    "nice": (-20, 19),
}
MASTER_HOOKS = {"import"} | {f.name for f in dataclasses.fields(Hooks) if f.name.startswith("on_")} - {
    "on_worker_start",
    "on_worker_quiet",
    "on_worker_stop",
    "on_worker_exit",
}


def values(settings: Any, path: KeyPath) -> Iterator[Problem]:
    """Numbers within their ranges, in a table and the tables in it."""
    for field in dataclasses.fields(settings):
        value, at = getattr(settings, field.name), (*path, field.name)
        if dataclasses.is_dataclass(value):
            yield from values(value, at)
        elif field.name in NONZERO and value == 0:
            yield Problem(at, "must be more than 0")
        elif field.name in RANGES and isinstance(value, int):
            least, most = RANGES[field.name]
            if not least <= value <= most:
                yield Problem(at, f"must be from {least} to {most}, not {shown(value)}")


def one_of(table: Mapping[str, Any], keys: tuple[str, str], path: KeyPath) -> Iterator[Problem]:
    present = [key for key in keys if key in table]
    if not present:
        yield Problem(path, f"needs either {keys[0]!r} or {keys[1]!r}")
    elif len(present) > 1:
        yield Problem(path, f"has both {keys[0]!r} and {keys[1]!r}; keep one")


def pool_hooks(table: Mapping[str, Any], path: KeyPath) -> Iterator[Problem]:
    """A pool's workers have moments of their own; the master has one life for all pools."""
    written = table.get("hooks")
    for key in written if isinstance(written, dict) else ():
        if key in MASTER_HOOKS:
            yield Problem((*path, "hooks", key), "belongs in [hooks]; a pool has only on_worker_* hooks")


def backoff(pool: Any, path: KeyPath) -> Iterator[Problem]:
    if pool.backoff.max < pool.backoff.initial:
        yield Problem((*path, "backoff"), "'max' must not be less than 'initial'")


def known(table: Mapping[str, Any], key: str, names: Mapping[str, Any], path: KeyPath) -> Iterator[Problem]:
    """A list of names of other tables: `after` of pools, `sockets` of sockets."""
    found = table.get(key)
    written: list[Any] = found if isinstance(found, list) else []
    for i, name in enumerate(written):
        if isinstance(name, str) and name not in names:
            yield Problem((*path, key, i), f"there is no {_KINDS[key]} {shown(name)}{meant(name, names)}")
        elif name in written[:i]:
            yield Problem((*path, key, i), f"names {shown(name)} a second time")


_KINDS = {"after": "pool", "sockets": "socket"}


def command(table: Mapping[str, Any], path: KeyPath) -> Iterator[Problem]:
    if table.get("command") in ([], [""]):
        yield Problem(
            (*path, "command"), 'expected a program and its arguments, as in ["python", "serve.py"]'
        )


def of_one_kind(table: Mapping[str, Any], pool: PoolSettings, path: KeyPath) -> Iterator[Problem]:
    """Keys that a target has a use for and a command has not, or the other way round."""
    if "target" in table and "command" not in table and pool.stop_signal != "TERM":
        yield Problem((*path, "stop_signal"), "is for a 'command': a target is told by TERM and USR2")
    if "command" in table and "target" not in table:
        if pool.preload:
            yield Problem((*path, "preload"), "is for a 'target': a command has nothing to import")
        for key in ("hooks", "options"):
            if table.get(key):
                yield Problem((*path, key), f"is for a 'target': a command knows nothing of {key}")


def task(table: Mapping[str, Any], read: TaskSettings, path: KeyPath) -> Iterator[Problem]:
    """When it is due, and what belongs to one kind of it."""
    if read.schedule is not None and (wrong := calendar.problem(read.schedule, read.zone)):
        yield Problem((*path, "schedule"), wrong)
    if "timezone" in table and "every" in table:
        yield Problem((*path, "timezone"), "is for a 'schedule': 'every' counts seconds")
    if read.every and read.jitter >= read.every:
        yield Problem((*path, "jitter"), "must be less than 'every'")
    if "command" in table and "target" not in table and table.get("options"):
        yield Problem((*path, "options"), "is for a 'target': a command knows nothing of options")
    if "retry_after" in table and read.pause_after_failures == 0:
        yield Problem(
            (*path, "retry_after"), "has no meaning with pause_after_failures = 0: it is never errored"
        )


def socket(table: Mapping[str, Any], read: SocketSettings, path: KeyPath) -> Iterator[Problem]:
    """What belongs to one kind of address has no meaning for another."""
    kind = parse(read.bind).kind
    if "mode" in table and kind != "unix":
        yield Problem((*path, "mode"), 'is for "unix:/path" only: it is the mode of the file')
    if "backlog" in table and kind == "fd":
        yield Problem((*path, "backlog"), "is systemd's here: set Backlog= in the socket unit")


def same_address(sockets: Mapping[str, SocketSettings]) -> Iterator[Problem]:
    """However they were written; the kernel refuses the second one."""
    before: dict[str, Address] = {}
    for name, socket in sockets.items():
        address, path = parse(socket.bind), ("sockets", name, "bind")
        for other, there in before.items():
            if there == address:
                one = "a pool may name that one, so keep one of them"
                yield Problem(path, f"is where sockets.{other} listens; {one}")
                break
            if there.clashes(address):
                yield Problem(path, f"has the port of sockets.{other}, and {_whole(there, address)}")
                break
        before[name] = address


def _whole(*addresses: Address) -> str:
    one = next(str(address) for address in addresses if address.is_whole_machine())
    return f"{one} is every address of this machine: keep one of them"


def not_the_masters(sockets: Mapping[str, SocketSettings], master: MasterSettings) -> Iterator[Problem]:
    for name, socket in sockets.items():
        address = parse(socket.bind)
        if address.kind == "unix" and address.where == master.socket:
            yield Problem(("sockets", name, "bind"), "is the control socket, see master.socket; take another")


def circles(after: Mapping[str, list[str]]) -> Iterator[Problem]:
    """Pools that wait for each other would never start; each circle is told once."""
    told: set[str] = set()
    for pool in _waiting_for_ever(after):
        circle = _way_back(pool, after)
        if circle and not told & set(circle):
            told |= set(circle)
            yield Problem(("pools", pool, "after"), f"waits for itself: {' -> '.join([*circle, pool])}")


def _waiting_for_ever(after: Mapping[str, list[str]]) -> list[str]:
    """What is left when every pool has started that can."""
    left = dict(after)
    while ready := [pool for pool, others in left.items() if not any(other in left for other in others)]:
        for pool in ready:
            del left[pool]
    return list(left)


def _way_back(pool: str, after: Mapping[str, list[str]]) -> list[str]:
    """The shortest circle through `pool`, which it begins; empty if there is none."""
    ways, seen = [[pool]], {pool}
    for way in ways:
        for other in after.get(way[-1], ()):
            if other == pool:
                return way
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


def control_socket(master: MasterSettings) -> Iterator[Problem]:
    """After defaults and folders have been filled in: the kernel counts the bytes of the whole path."""
    try:
        units.socket_path(master.socket)
    except ValueError as error:
        yield Problem(("master", "socket"), str(error))
    if master.socket == master.pidfile:
        yield Problem(("master", "pidfile"), "is the same file as the control socket")
