"""The documentation as data: fenced blocks, tables, headings and links of its pages.

A fenced block whose first line is ``# NAME`` (or ``// NAME``) is that file.  The files under one
heading make one program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:#|//) ([\w.]+\.(?:py|toml|sh|conf|js))\n")


class Block(NamedTuple):
    """One fenced block."""

    page: Path
    heading: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is."""
        found = FILE.match(self.text)
        return found[1] if found else None


def text(page: str | Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str | Path) -> str:
    """Without what is in fences."""
    return FENCE.sub("", text(page))


def headings(page: str | Path) -> list[str]:
    return [line.lstrip("# ") for line in prose(page).splitlines() if line.startswith("#")]


def blocks() -> Iterator[Block]:
    for page in PAGES:
        whole = text(page)
        for found in FENCE.finditer(whole):
            above = [h[1] for h in re.finditer(r"^##+ (.*)$", whole[: found.start()], re.MULTILINE)]
            yield Block(page, above[-1] if above else "", found[1], found[2])


def programs() -> dict[str, dict[str, str]]:
    """By page and heading: the files that are written under it, if a program is among them."""
    return {f"{page}: {heading}": files for (page, heading), files in _files().items() if "app.py" in files}


def recipe(heading: str) -> dict[str, str]:
    """The files of one recipe for a program that is not ours."""
    return _files()["programs.md", heading]


def _files() -> dict[tuple[str, str], dict[str, str]]:
    found = {}
    for place, some in groupby(blocks(), lambda b: (b.page.name, b.heading)):
        found[place] = {block.file: block.text for block in some if block.file}
    return found


def table(page: str | Path, heading: str, number: int = 0) -> list[list[str]]:
    """The cells of a table below a heading, without its first row; backticks are left out."""
    section = re.split(rf"^##+ {re.escape(heading)}$", text(page), flags=re.MULTILINE)[1]
    section = re.split(r"^##+ ", section, flags=re.MULTILINE)[0]
    whole = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[number]
    rows = [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in whole.splitlines()]
    return rows[2:]


def column(page: str | Path, heading: str, number: int = 0) -> list[str]:
    """The first cells of a table."""
    return [row[0] for row in table(page, heading, number)]


def commands() -> Iterator[str]:
    """What follows ``supervisord-lite`` in shell blocks and in inline code."""
    for block in blocks():
        if block.language in ("console", "sh"):
            yield from re.findall(r"supervisord-lite +([a-z][^&|;\n]*)", block.text)
    for page in PAGES:
        for code in re.findall(r"`([^`\n]+)`", prose(page)):
            yield from re.findall(r"^supervisord-lite +([a-z][^&|;,]*)", code)


def anchor(heading: str) -> str:
    """As code forges make it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
