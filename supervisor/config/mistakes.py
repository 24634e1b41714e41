"""cattrs' tree of exceptions, told as problems with their keys.

Knows how cattrs reports, and what to say of a key that a table does not have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)

from supervisor.config.problems import KeyPath, Problem, meant
from supervisor.settings import MasterSettings, PoolSettings, SocketSettings, TaskSettings

NAMED = (PoolSettings, SocketSettings, TaskSettings)  # whose name is the key they stand under
NO_KEYS = ("name", "zone")  # the latter is what `timezone` means
RENAMED = {"modules": "import"}  # a keyword of Python cannot be an attribute


def mistakes(error: Exception, path: KeyPath) -> Iterator[Problem]:
    """The leaves of cattrs' tree of exceptions, each with its key."""
    if isinstance(error, ForbiddenExtraKeysError):
        for name in error.extra_fields:
            yield Problem((*path, name), unknown(name, error.cl))
    elif isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from mistakes(inner, (*path, *_steps(inner)))
    else:
        yield Problem(path, "is missing" if isinstance(error, KeyError) else str(error))


def _steps(error: Exception) -> Iterator[str | int]:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            yield RENAMED.get(note.name, note.name)
        elif isinstance(note, IterableValidationNote):
            yield note.index


def unknown(name: str, cls: type) -> str:
    """What to say of a key that a table does not have; perhaps another table does."""
    if hint := meant(name, keys(cls)):
        return f"unknown key{hint}"
    if cls in (MasterSettings, PoolSettings):
        other, where = (
            (PoolSettings, "[pools.NAME]") if cls is MasterSettings else (MasterSettings, "[master]")
        )
        if name in keys(other):
            return f"unknown key here, it belongs in {where}"
    return "unknown key"


def keys(cls: type) -> list[str]:
    """As they are written in the file."""
    names = [RENAMED.get(f.name, f.name) for f in dataclasses.fields(cls)]
    return [n for n in names if not (cls in NAMED and n in NO_KEYS)]
