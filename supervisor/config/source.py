"""From a path to a TOML document, or one line that says why not.

Knows TOML's syntax; not one key.
"""

from __future__ import annotations

from typing import Any

import tomli

from supervisor.config.files import UnusableError, read
from supervisor.config.problems import Problem, line, shown
from supervisor.errors import ConfigError


def load(path: str) -> dict[str, Any]:
    """Raises `ConfigError` with one line."""
    init = f"; 'supervisord-lite init {shown(path)[1:-1]}' writes one to start from"
    try:
        return _parsed(read(path, "configuration", init))
    except UnusableError as reason:
        raise ConfigError([line(path, Problem((), str(reason)))]) from None


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except RecursionError:
        raise UnusableError("arrays or tables are nested too deeply") from None
    except ValueError as error:  # also what int() says of a number with thousands of digits
        raise UnusableError(f"not valid TOML: {error}") from None
