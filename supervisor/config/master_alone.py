"""``[master]`` of a file with mistakes elsewhere: so that a command finds the master that runs.

A person edits the file, mistypes, and asks for the status.  What is read here
is only to find a socket; a start or a reload never uses it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tomli

from supervisor.config import files, tables
from supervisor.config.expand import expand
from supervisor.config.problems import Problem
from supervisor.settings import MasterSettings

# From its header to the line that begins the next table, or the end.
TABLE = re.compile(r"^[ \t]*\[master\][^\n]*\n(?:(?![ \t]*\[)[^\n]*\n?)*", re.MULTILINE)


def read(path: str, environ: Mapping[str, str]) -> MasterSettings | None:
    """None where the table itself is wrong or cannot be told apart, or the file cannot be read at all."""
    problems: list[Problem] = []
    try:
        table = expand(_table(files.read(path, "configuration")), environ, (), problems)
    except (files.UnusableError, ValueError, RecursionError):
        return None
    found = tables.master(table, path, environ, problems) if isinstance(table, dict) else None
    return None if problems else found


def _table(text: str) -> Any:
    """ValueError, RecursionError: what tomli raises."""
    try:
        return tomli.loads(text).get("master", {})
    except (ValueError, RecursionError):  # the whole is no TOML; the text of the table alone may be
        alone = TABLE.search(text)
        if alone is None and "master" not in text:
            return {}
        return tomli.loads(alone[0])["master"] if alone else None
