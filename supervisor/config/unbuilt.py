"""What the contract has and this version does not: said when used, never passed over.

These keys are read and validated like all others.  Whoever builds one takes it
out of the tables here; nothing else knows of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from supervisor.config.problems import Problem

# key -> the values that ask for nothing, and what to do instead
POOL: dict[str, tuple[tuple[Any, ...], str]] = {
    "command": ((), "use 'target'"),
    "env_file": ((), "use 'env'"),
    "sockets": (([],), "let the target open what it needs"),
    "preload": ((False,), "leave it out"),
    "stop_signal": (("TERM", "SIGTERM"), "leave it out: a target gets TERM"),
    "max_memory": ((), "leave it out"),
    "max_age": ((), "leave it out"),
    "max_jobs": ((), "let the target return when it has done enough"),
    "surge": ((1,), "leave it out"),
    "stable_after": (("2s", 2), "leave it out"),
    "after": (([],), "leave it out"),
    "working_dir": ((), "use master.working_dir"),
    "user": ((), "start the master as that user"),
    "group": ((), "start the master as that group"),
    "no_new_privs": ((False,), "leave it out"),
    "umask": ((), "use master.umask"),
    "nice": ((0,), "leave it out"),
    "limits": (({},), "set them where the master is started"),
    "stdout": (("inherit",), "leave it out"),
    "stderr": (("inherit",), "leave it out"),
}

SECTIONS = {
    "sockets": "leave the section out",
    "tasks": "leave the section out",
    "http": "leave the section out",
}


def problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    pools = document.get("pools")
    for pool, table in pools.items() if isinstance(pools, dict) else ():
        for key, (unused, instead) in POOL.items() if isinstance(table, dict) else ():
            if key in table and table[key] not in unused:
                yield Problem(("pools", pool, key), _words(instead))
    for section, instead in SECTIONS.items():
        if document.get(section):
            yield Problem((section,), _words(instead))


def _words(instead: str) -> str:
    return f"not built yet in this version, {instead}"
