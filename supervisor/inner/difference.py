"""Which keys of a configuration have changed, in words for people.

Compares two settings; knows nothing of what a change means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from supervisor.settings import Settings

TABLES = ("pools", "sockets", "tasks")


def changes(old: Settings, new: Settings) -> list[str]:
    """``pools.web.workers: 2 -> 3``, ``pools.web.env: changed``, ``sockets.http: added``."""
    found = [*_keys("master", old.master, new.master), *_keys("hooks", old.hooks, new.hooks)]
    for table in TABLES:
        found += _tables(table, getattr(old, table), getattr(new, table))
    return found + (["http: changed"] if old.http != new.http else [])


def _tables(section: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{section}.{name}: removed" for name in old if name not in new)
    yield from (f"{section}.{name}: added" for name in new if name not in old)
    for name in [name for name in new if name in old]:
        yield from _keys(f"{section}.{name}", old[name], new[name])


def _keys(place: str, old: Any, new: Any) -> Iterator[str]:
    for field in fields(new):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            short = all(isinstance(value, int | float | str | None) for value in (before, after))
            yield f"{place}.{field.name}: " + (f"{before} -> {after}" if short else "changed")
