"""``${VAR}`` and ``${VAR:-default}`` in the strings of a document.

As in the shell, the default stands in for a variable that is unset or empty.
``$${`` is a plain ``${``.  Knows nothing of keys; keys themselves are not expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from supervisor.config.problems import KeyPath, Problem

DEEPEST = 64

_PLACE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})?")


class Expanded(str):
    """A string that a variable gave: it may stand for a number or a boolean too.

    The one subclass here, as a mark: ``workers = "3"`` is a mistake and
    ``workers = "${WORKERS}"`` is the only way to write what it means.
    """

    __slots__ = ()


def expand(value: Any, environ: Mapping[str, str], path: KeyPath, problems: list[Problem]) -> Any:
    """A copy with every string expanded; what cannot be is left as written and reported."""
    if len(path) > DEEPEST:
        problems.append(Problem(path[:4], f"is nested deeper than {DEEPEST} levels"))
        return ""
    match value:
        case str():
            return _expanded(value, environ, path, problems)
        case dict():
            return {k: expand(v, environ, (*path, k), problems) for k, v in value.items()}
        case list():
            return [expand(v, environ, (*path, i), problems) for i, v in enumerate(value)]
    return value


def _expanded(text: str, environ: Mapping[str, str], path: KeyPath, problems: list[Problem]) -> str:
    if "${" not in text:
        return text
    try:
        result = _PLACE.sub(lambda place: _value(place, environ), text)
    except LookupError as error:
        problems.append(Problem(path, str(error.args[0])))
        return text
    return Expanded(result) if any(p["name"] for p in _PLACE.finditer(text)) else result


def _value(place: re.Match[str], environ: Mapping[str, str]) -> str:
    name, default = place["name"], place["default"]
    if place[0] == "$${":
        return "${"
    if name is None:
        raise LookupError(
            "'${' needs a name and a '}', as in ${VAR} or ${VAR:-default}; '$${' is a plain '${'"
        )
    if default is None and name not in environ:
        raise LookupError(
            f"the environment variable {name} is not set; set it or write a default, ${{{name}:-default}}"
        )
    return environ[name] if default is None else environ.get(name) or default[2:]


def bare(value: Any) -> Any:
    """What an expanded string means where a number or a boolean is wanted."""
    if not isinstance(value, Expanded):
        return value
    if value in {"true", "false"}:
        return value == "true"
    if re.fullmatch(r"-?[0-9]{1,18}", value):
        return int(value)
    return float(value) if re.fullmatch(r"-?[0-9]{1,18}\.[0-9]{1,18}", value) else str(value)


def plain(value: Any) -> Any:
    """Without the mark, for what goes to user code as it is."""
    match value:
        case Expanded():
            return str(value)
        case dict():
            return {k: plain(v) for k, v in value.items()}
        case list():
            return [plain(v) for v in value]
    return value
