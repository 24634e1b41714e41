"""From tables to settings: cattrs with this project's units.

Knows which value belongs to which type, and how to get the settings out of a
table that has mistakes in it.  How they are told is in `mistakes`, what keys
have to do with each other in `rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, get_origin

from cattrs import Converter
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, override

from supervisor.config import cpus, units
from supervisor.config.expand import plain
from supervisor.config.mistakes import NAMED, mistakes
from supervisor.config.problems import KeyPath, Problem, shown
from supervisor.settings import (
    Backoff,
    Bytes,
    Hooks,
    HttpSettings,
    MasterSettings,
    Mode,
    Output,
    PoolSettings,
    Reference,
    Seconds,
    SocketSettings,
    TaskSettings,
)

T = TypeVar("T")

TABLES = (Backoff, Hooks, Output, MasterSettings, PoolSettings, SocketSettings, TaskSettings, HttpSettings)
UNITS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (Seconds, units.duration),
    (Bytes, units.size),
    (Mode, units.mode),
    (Reference, units.reference),
)
STRICT: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, units.text),  # cattrs itself would make "3" of 3
    (int, units.number),
    (bool, units.boolean),
)


def structure(
    cls: type[T],
    table: Mapping[str, Any],
    path: KeyPath,
    problems: list[Problem],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> T | None:
    """The settings, without the keys that are wrong; None where a key is missing that must be there.

    So the rules see all the rest of a table that has a mistake in it.
    """
    written = dict(table)
    if cls in NAMED and written.pop("name", None) is not None:
        problems.append(Problem((*path, "name"), "unknown key: the table's own name is the name"))
    try:
        return converter().structure({**defaults, **written}, cls)
    except BaseValidationError as error:
        found = list(mistakes(error, path))
    problems += found
    wrong = {p.path[len(path)] for p in found if len(p.path) > len(path)}
    right = {k: v for k, v in written.items() if k not in wrong}
    try:
        return converter().structure({**defaults, **right}, cls)
    except BaseValidationError:
        return None


@cache
def converter() -> Converter:
    made = Converter(forbid_extra_keys=True, detailed_validation=True)
    made.register_structure_hook_func(_is_generic(Literal), _literal)
    made.register_structure_hook_func(_is_generic(tuple), _list_with(made))
    made.register_structure_hook_func(lambda t: t == Mapping[str, Any], _options)
    made.register_structure_hook_func(lambda t: t == Mapping[str, str], _environment_with(made))
    made.register_structure_hook_func(lambda t: t == tuple[Reference, ...], _hooks_with(made))
    for kind, read in UNITS:
        made.register_structure_hook_func(_is(kind), _ignoring_type(read))
    for primitive, read in STRICT:
        made.register_structure_hook(primitive, _ignoring_type(read))
    for cls in TABLES:
        made.register_structure_hook(cls, _table_with(made, cls))
    return made


def _is(kind: Any) -> Callable[[Any], bool]:
    return lambda t: t is kind


def _is_generic(origin: Any) -> Callable[[Any], bool]:
    return lambda t: get_origin(t) is origin


def _ignoring_type(read: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: read(value)


def _overrides(made: Converter, cls: type) -> dict[str, Any]:
    """The keys whose type does not say how they are written."""

    def read(how: Callable[[Any], Any]) -> Any:
        return override(struct_hook=_ignoring_type(how))

    outputs = override(struct_hook=_output_with(made))
    by_class: dict[type, dict[str, Any]] = {
        Hooks: {"modules": override(rename="import", struct_hook=_modules_with(made))},
        MasterSettings: {"name": read(units.name)},
        SocketSettings: {"bind": read(units.bind)},
        HttpSettings: {"bind": read(units.bind)},
        TaskSettings: {"zone": override(omit=True)},
        PoolSettings: {
            "workers": read(_workers),
            "surge": read(units.surge),
            "user": read(units.account),
            "group": read(units.account),
            "stop_signal": read(units.stop_signal),
            "limits": override(struct_hook=_limits),
            "stdout": outputs,
            "stderr": outputs,
        },
    }
    return by_class.get(cls, {})


def _table_with(made: Converter, cls: type[T]) -> Callable[[Any, Any], T]:
    fields = make_dict_structure_fn(
        cls,
        made,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        **_overrides(made, cls),
    )

    def read(value: Any, _: Any) -> T:
        return fields(_a_table(value), cls)

    return read


def _a_table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected a table, not {shown(value)}")
    return value


def _list_with(made: Converter) -> Callable[[Any, Any], tuple[Any, ...]]:
    def read(value: Any, kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise TypeError(f"expected an array, not {shown(value)}")
        element: Any = get_args(kind)[0]
        return tuple(made.structure(value, list[element]))

    return read


def _hooks_with(made: Converter) -> Callable[[Any, Any], tuple[Any, ...]]:
    def read(value: Any, _: Any) -> tuple[Any, ...]:
        if isinstance(value, list):
            return tuple(made.structure(value, list[Reference]))
        return (units.reference(value),)

    return read


def _modules_with(made: Converter) -> Callable[[Any, Any], tuple[str, ...]]:
    def read(value: Any, _: Any) -> tuple[str, ...]:
        names = made.structure(value if isinstance(value, list) else [value], list[str])
        return tuple(units.module(name) for name in names)

    return read


def _environment_with(made: Converter) -> Callable[[Any, Any], dict[str, str]]:
    def read(value: Any, _: Any) -> dict[str, str]:
        for name in _a_table(value):
            units.variable(name)
        return made.structure(value, dict[str, str])

    return read


def _output_with(made: Converter) -> Callable[[Any, Any], Any]:
    def read(value: Any, _: Any) -> Any:
        if isinstance(value, dict):
            return made.structure(value, Output)
        return value if value in {"inherit", "null"} else Output(file=units.text(value))

    return read


def _literal(value: Any, kind: Any) -> str:
    return units.choice(value, get_args(kind))


def _options(value: Any, _: Any) -> dict[str, Any]:
    return _a_table(plain(value))


def _workers(value: Any) -> int:
    if value == "auto":
        return cpus.usable()
    try:
        return units.number(value)
    except TypeError:
        raise TypeError(f'expected a number or "auto", not {shown(value)}') from None


def _limits(value: Any, _: Any) -> dict[str, int]:
    return {name: units.limit(name, limit) for name, limit in _a_table(value).items()}
