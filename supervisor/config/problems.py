"""Mistakes in a configuration: where each is, what it is, and how a person reads it.

Knows keys, the order of the file and how a value is shown safely: what a file
says may hold newlines and escape sequences, and an error line never does.
Knows nothing of what makes a configuration right.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

KeyPath = tuple["str | int", ...]

HUGE = 1e18
KINDS: dict[type, str] = {dict: "a table", list: "an array"}
DEEPEST_ORDERED = 6  # tables below the deepest key that the reader knows keep the order they came in


class Problem(NamedTuple):
    """One mistake; an empty `path` means the file as a whole."""

    path: KeyPath
    text: str


def clean(text: str) -> str:
    """The same text without anything that moves a terminal's cursor or ends a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def line(file: str, problem: Problem) -> str:
    where = dotted(problem.path)
    return clean(f"{file}: {where}: {problem.text}" if where else f"{file}: {problem.text}")


def dotted(path: KeyPath) -> str:
    """``pools.web.sockets[1]``; a name that TOML would have to quote is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + key(part)
    return text


def key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) else shown(name)


def shown(value: Any) -> str:
    """A value as an error names it: short, on one line, in TOML's words."""
    if isinstance(value, str):
        return _short.repr(str(value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        # int() refuses to write thousands of digits, and nobody wants to read them
        return repr(value) if not abs(value) >= HUGE else "a huge number"
    return KINDS.get(type(value), "a date or time")


_short = reprlib.Repr()
_short.maxstring = 70


def meant(word: str, known: Iterable[str]) -> str:
    """``, did you mean 'workers'?`` or nothing."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f", did you mean {close[0]!r}?" if close else ""


def lines(file: str, problems: Iterable[Problem], document: Mapping[str, Any]) -> list[str]:
    """In the order of the file, each once."""
    order = _order(document)
    return [line(file, p) for p in sorted(dict.fromkeys(problems), key=lambda p: _place(p.path, order))]


def _order(document: Mapping[str, Any]) -> dict[KeyPath, int]:
    order: dict[KeyPath, int] = {(): 0}

    def walk(table: Any, path: KeyPath) -> None:
        if not isinstance(table, dict) or len(path) >= DEEPEST_ORDERED:
            return
        for name, value in table.items():
            order[(*path, name)] = len(order)
            walk(value, (*path, name))

    walk(document, ())
    return order


def _place(path: KeyPath, order: Mapping[KeyPath, int]) -> tuple[int, int]:
    """A key that is missing, or an element of an array, comes right after what should hold it."""
    known = len(path)
    while path[:known] not in order:
        known -= 1
    return order[path[:known]], len(path) - known
