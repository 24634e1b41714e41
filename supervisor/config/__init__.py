"""From a TOML file to `Settings`, with every mistake in it at once.

The steps, a module each: `source` (a file to TOML), `expand` (``${VAR}``), `tables`
(section by section) with `shape` (types) and `mistakes` (its errors), `units` (single values), `rules`
(ranges, and keys among each other) and `env_file`, `accounts` (users and groups), `zones` (time zones),
`unbuilt` (what this version lacks), `problems` (where and in which words).  Runs before the master or beside
it, never in it, so it may import what it likes.  Creates and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from supervisor.config import paths, source, tables, unbuilt
from supervisor.config.accounts import accounts
from supervisor.config.advice import warnings
from supervisor.config.expand import expand
from supervisor.config.problems import Problem, lines
from supervisor.config.shape import structure
from supervisor.errors import ConfigError
from supervisor.settings import Hooks, Settings

__all__ = ["read", "template", "understand", "warnings"]


def read(path: str, environ: Mapping[str, str]) -> Settings:
    """Raises `ConfigError` with all problems; `path` stands in them as it was given."""
    return understand(source.load(path), path, environ)


def understand(document: Mapping[str, Any], path: str, environ: Mapping[str, str]) -> Settings:
    """The same for a document that is already parsed."""
    unset: list[Problem] = []
    problems: list[Problem] = []
    expanded = expand(document, environ, (), unset)
    settings = _settings(expanded, path, environ, problems)
    problems += unbuilt.problems(expanded)
    as_written = {problem.path for problem in unset}  # their values say nothing yet
    problems = unset + [problem for problem in problems if problem.path not in as_written]
    if problems:
        raise ConfigError(lines(path, problems, document))
    return settings


def template() -> str:
    """What ``supervisord-lite init`` writes."""
    return resources.files(__name__).joinpath("template.toml").read_text(encoding="utf-8")


def _settings(
    document: dict[str, Any], path: str, environ: Mapping[str, str], problems: list[Problem]
) -> Settings:
    found = tables.sections(document, problems)
    folder = paths.folder_of(path)
    master = tables.master(found.get("master", {}), path, environ, problems)
    pools = tables.pools(found, master, folder, problems)
    return Settings(
        file=path,
        path=paths.of_file(path),
        master=master,
        pools=pools,
        hooks=structure(Hooks, found.get("hooks", {}), ("hooks",), problems) or Hooks(),
        sockets=tables.sockets(found.get("sockets", {}), master, folder, problems),
        tasks=tables.tasks(found.get("tasks", {}), environ, problems),
        http=tables.http(found["http"], folder, problems) if "http" in found else None,
        accounts=accounts(pools, problems),
    )
