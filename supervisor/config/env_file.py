"""``env_file``: variables in a file, one ``NAME=value`` a line.

The syntax is a part of systemd's ``EnvironmentFile=``: whatever is accepted
means the same there.  Lines that are empty or begin with ``#`` or ``;`` say
nothing; a value may stand in single or double quotes; a backslash takes the
special meaning from the next character, but for in single quotes.  Nothing is
expanded, and no value goes beyond its line.
"""

from __future__ import annotations

import re

from supervisor.config import files, units

_LINE = re.compile(r"([^\s=]+)\s*=\s*(.*)", re.DOTALL)
_QUOTED = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)\"""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED_IN_QUOTES = re.compile(r'\\(["\\`$])')


def read(path: str) -> dict[str, str]:
    """The variables; ValueError with the words, which name the file and the line."""
    try:
        text = files.read(path, "file of variables")
    except files.UnusableError as error:
        raise ValueError(f"{path}: {error}") from None
    return parse(text, path)


def parse(text: str, path: str) -> dict[str, str]:
    """The same of a text; of a name that stands twice, the last one holds."""
    found = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and line.strip()[0] not in "#;":
            try:
                name, value = _pair(line.strip())
                units.variable(name)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from None
            found[name] = value
    return found


def _pair(line: str) -> tuple[str, str]:
    if line.startswith("export "):
        raise ValueError("expected KEY=VALUE; this is no shell script, take 'export' away")
    parts = _LINE.fullmatch(line)
    if parts is None:
        raise ValueError("expected KEY=VALUE")
    return parts[1], _value(parts[2])


def _value(written: str) -> str:
    if written[:1] in {"'", '"'}:
        quoted = _QUOTED.match(written)
        if quoted is None:
            raise ValueError(f"the quote {written[0]} is not closed in its line")
        if quoted.end() < len(written):
            raise ValueError("expected nothing after the closing quote")
        return quoted[1] if quoted[1] is not None else _ESCAPED_IN_QUOTES.sub(r"\1", quoted[2])
    if re.search(r"(?<!\\)(?:\\\\)*\\$", written):
        raise ValueError("a value ends with its line: write it in one, without the backslash at the end")
    return _ESCAPED.sub(r"\1", written)
