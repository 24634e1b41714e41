"""Section by section: a document's tables, read into settings.

Knows what each section needs around its values: names, defaults that depend on
the place, paths made absolute.  Every function adds its problems to the list it
is given and returns what could be read.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from supervisor.config import env_file, paths, rules, units, zones
from supervisor.config.problems import KeyPath, Problem, meant, shown
from supervisor.config.shape import structure
from supervisor.settings import (
    HttpSettings,
    MasterSettings,
    Output,
    PoolSettings,
    SocketSettings,
    TaskSettings,
)

T = TypeVar("T")

SECTIONS = ("master", "pools", "sockets", "tasks", "http", "hooks")
OF_NAMED_TABLES = {"pools": "[pools.web]", "sockets": "[sockets.http]", "tasks": "[tasks.nightly]"}
MINIMUM = '[pools.web] with target = "module:function", or [tasks.hourly] with that and every = "1h"'


def sections(document: Mapping[str, Any], problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """Those that are tables; all the others are problems."""
    found = {}
    for name, value in document.items():
        if name not in SECTIONS:
            problems.append(Problem((name,), f"unknown key{meant(name, SECTIONS)}"))
        elif not isinstance(value, dict):
            such = OF_NAMED_TABLES.get(name, f"[{name}]")
            problems.append(Problem((name,), f"expected a table, such as {such}, not {shown(value)}"))
        else:
            found[name] = value
    if not found.get("pools") and not found.get("tasks") and not _means_pools(document):
        problems.append(Problem((), f"there is nothing to run; the minimum is {MINIMUM}"))
    return found


def _means_pools(document: Mapping[str, Any]) -> bool:
    """Pools of the wrong type or under a misspelt name: that has been told already."""
    others = [name for name in document if name not in SECTIONS]
    return bool(document.get("pools")) or any("'pools'" in meant(name, SECTIONS) for name in others)


def master(
    table: Mapping[str, Any], file: str, environ: Mapping[str, str], problems: list[Problem]
) -> MasterSettings:
    path, folder = ("master",), paths.folder_of(file)
    read = structure(MasterSettings, table, path, problems, _places(table, file, environ))
    assert read is not None, "what must be there has a default"
    problems += rules.values(read, path)
    problems += _unusable((read.pythonpath, (*path, "pythonpath")))
    read = dataclasses.replace(read, pythonpath=tuple(paths.absolute(folder, p) for p in read.pythonpath))
    read = _placed(
        read, ("socket", "state_dir", "working_dir", "pidfile", "log_file"), folder, path, problems
    )
    problems += rules.control_socket(read)
    return read


def _places(table: Mapping[str, Any], file: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The defaults that depend on where we are."""
    uid, written = os.geteuid(), table.get("name")
    valid = isinstance(written, str) and units.NAME.fullmatch(written)
    name = written if valid else paths.name_of(file)
    return {
        "name": name,
        "socket": os.path.join(paths.runtime_dir(environ, uid), f"{name}.sock"),
        "state_dir": paths.state_dir(environ, uid),
        "working_dir": ".",
        "pythonpath": ["."],
    }


def pools(
    sections: Mapping[str, dict[str, Any]], master: MasterSettings, folder: str, problems: list[Problem]
) -> dict[str, PoolSettings]:
    written = sections.get("pools", {})
    read = {}
    for name, table, path in _named("pools", written, problems):
        problems += rules.one_of(table, ("target", "command"), path)
        problems += rules.command(table, path)
        problems += rules.known(table, "after", written, path)
        problems += rules.known(table, "sockets", sections.get("sockets", {}), path)
        problems += rules.pool_hooks(table, path)
        if pool := structure(PoolSettings, _without_master_hooks(table), path, problems, {"name": name}):
            problems += rules.values(pool, path)
            problems += rules.backoff(pool, path)
            problems += rules.of_one_kind(table, pool, path)
            read[name] = _completed(pool, "stop_timeout" in table, master, folder, problems)
    problems += rules.circles({name: list(pool.after) for name, pool in read.items()})
    return read


def _without_master_hooks(table: dict[str, Any]) -> dict[str, Any]:
    hooks = table.get("hooks")
    if not isinstance(hooks, dict):
        return table
    return table | {"hooks": {k: v for k, v in hooks.items() if k not in rules.MASTER_HOOKS}}


def _completed(
    pool: PoolSettings, has_own: bool, master: MasterSettings, folder: str, problems: list[Problem]
) -> PoolSettings:
    """With the one deadline of a stop as its cap, and with absolute paths."""
    path = ("pools", pool.name)
    stop = min(pool.stop_timeout, master.stop_timeout) if has_own else master.stop_timeout
    pool = _placed(pool, ("env_file", "working_dir"), folder, path, problems)
    stdout = _output(pool.stdout, folder, (*path, "stdout"), problems)
    stderr = _output(pool.stderr, folder, (*path, "stderr"), problems)
    env = _env(pool, path, problems)
    return dataclasses.replace(pool, stop_timeout=stop, stdout=stdout, stderr=stderr, env=env)


def _env(pool: PoolSettings, path: KeyPath, problems: list[Problem]) -> Mapping[str, str]:
    """What `env` says, over what the file says."""
    if not pool.env_file:
        return pool.env
    try:
        return {**env_file.read(pool.env_file), **pool.env}
    except ValueError as error:
        problems.append(Problem((*path, "env_file"), str(error)))
        return pool.env


def _output(value: Any, folder: str, path: KeyPath, problems: list[Problem]) -> Any:
    return _placed(value, ("file",), folder, path, problems) if isinstance(value, Output) else value


def sockets(
    tables: Mapping[str, Any], master: MasterSettings, folder: str, problems: list[Problem]
) -> dict[str, SocketSettings]:
    read = {}
    for name, table, path in _named("sockets", tables, problems):
        if socket := structure(SocketSettings, table, path, problems, {"name": name}):
            problems += rules.values(socket, path)
            problems += rules.socket(table, socket, path)
            read[name] = dataclasses.replace(socket, bind=_bind(socket.bind, folder, path, problems))
    problems += rules.same_address(read)
    problems += rules.not_the_masters(read, master)
    return read


def tasks(
    tables: Mapping[str, Any], environ: Mapping[str, str], problems: list[Problem]
) -> dict[str, TaskSettings]:
    read = {}
    zone = cache(lambda name: zones.read(name, environ))  # all that have one zone have one file of it
    for name, table, path in _named("tasks", tables, problems):
        problems += rules.one_of(table, ("target", "command"), path)
        problems += rules.one_of(table, ("schedule", "every"), path)
        problems += rules.command(table, path)
        if task := structure(TaskSettings, table, path, problems, {"name": name}):
            task = dataclasses.replace(task, zone=_zone(task, zone, path, problems))
            problems += rules.values(task, path)
            problems += rules.task(table, task, path)
            read[name] = task
    return read


def _zone(
    task: TaskSettings, read: Callable[[str | None], bytes], path: KeyPath, problems: list[Problem]
) -> bytes:
    """What `timezone` means; where it is wrong, UTC, on which nothing else that is wrong hangs."""
    if task.schedule is None and task.timezone is None:
        return b""
    try:
        return read(task.timezone)
    except ValueError as error:
        problems.append(Problem((*path, "timezone" if task.timezone is not None else "schedule"), str(error)))
        return b""


def http(table: Mapping[str, Any], folder: str, problems: list[Problem]) -> HttpSettings | None:
    read = structure(HttpSettings, table, ("http",), problems)
    if read is None:
        return None
    read = dataclasses.replace(read, bind=_bind(read.bind, folder, ("http",), problems))
    return _placed(read, ("token_file",), folder, ("http",), problems)


def _named(
    section: str, tables: Mapping[str, Any], problems: list[Problem]
) -> Iterator[tuple[str, dict[str, Any], KeyPath]]:
    """The tables of a section whose tables have names of their own."""
    for name, table in tables.items():
        try:
            units.name(name)
        except ValueError as error:
            problems.append(Problem((section, name), str(error)))
        if isinstance(table, dict):
            yield name, table, (section, name)
        else:
            such = OF_NAMED_TABLES[section]
            problems.append(Problem((section, name), f"expected a table, such as {such}, not {shown(table)}"))


def _bind(bind: str, folder: str, path: KeyPath, problems: list[Problem]) -> str:
    """A relative unix path made absolute, and only then measured."""
    scheme, _, rest = bind.partition(":")
    if scheme != "unix":
        return bind
    full = paths.absolute(folder, rest)
    try:
        units.socket_path(full)
    except ValueError as error:
        problems.append(Problem((*path, "bind"), str(error)))
    return f"unix:{full}"


def _placed(settings: T, keys: tuple[str, ...], folder: str, path: KeyPath, problems: list[Problem]) -> T:
    """The same settings with these keys absolute."""
    written = {key: getattr(settings, key) for key in keys if getattr(settings, key) is not None}
    problems += _unusable(*(((value,), (*path, key)) for key, value in written.items()))
    placed = {key: paths.absolute(folder, value) for key, value in written.items()}
    return dataclasses.replace(settings, **placed)  # type: ignore[type-var]


def _unusable(*written: tuple[tuple[str, ...], KeyPath]) -> Iterator[Problem]:
    for values, path in written:
        for value in values:
            if not value:
                yield Problem(path, "the path is empty")
            elif value.startswith("~"):
                yield Problem(path, f"'~' is not expanded in {shown(value)}; write ${{HOME}}")
