"""What the contract has and this version does not: said when used, never passed over.

These keys are read and validated like all others.  Whoever builds one takes it
out of the tables here; nothing else knows of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from supervisor.config.problems import Problem

SECTIONS = {
    "http": "leave the section out",
}


def problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    for section, instead in SECTIONS.items():
        if document.get(section):
            yield Problem((section,), _words(instead))


def _words(instead: str) -> str:
    return f"not built yet in this version, {instead}"
