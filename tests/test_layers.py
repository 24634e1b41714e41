"""The layers of the design, held by the imports themselves.

A module may import only what stands below its own layer, or in its own
package; `decide` and `unix` never meet but in `master`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "supervisor"

WORDS = {"settings", "exits", "errors", "stored", "streams"}
DECIDE = {"decide"}
UNIX = {"unix"}
PARTS = {"child", "worker", "hooks", "control", "store", "log", "status", "config", "check", "inner"}
PARTS |= {"allowance", "announcer", "calendar", "hook_thread", "messages", "sentences", "service"}
SHELL = {"master", "boot"}
DOORS = {"cli", "web", "__main__"}

BELOW: dict[str, set[str]] = {}
for layer, below in (
    (WORDS, set()),
    (DECIDE, WORDS),
    (UNIX, WORDS),
    (PARTS, WORDS | DECIDE | UNIX | PARTS),
    (SHELL, WORDS | DECIDE | UNIX | PARTS | SHELL),
    (DOORS, WORDS | PARTS | SHELL | DOORS | UNIX),
):
    BELOW.update(dict.fromkeys(layer, layer | below))
BELOW["__init__"] = {"hooks", "worker"}  # what users import

JOINS_DECIDE_AND_UNIX = {"master"}


def imported(path: Path) -> set[str]:
    """The first-level modules of this package that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module == "supervisor":
                names |= {alias.name for alias in node.names if alias.name[0].islower()}
            elif module.startswith("supervisor."):
                names.add(module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("supervisor.")}
    return names


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])
def test_a_module_imports_only_what_stands_below_it(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert imported(path) <= BELOW[own] | {own}


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])
def test_only_the_master_joins_decide_and_unix(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if {"decide", "unix"} <= imported(path):
        assert own in JOINS_DECIDE_AND_UNIX


def test_the_decision_core_does_no_io_and_reads_no_clock() -> None:
    forbidden = {
        "os",
        "sys",
        "time",
        "socket",
        "signal",
        "select",
        "threading",
        "subprocess",
        "logging",
        "datetime",
    }
    for path in (ROOT / "decide").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: set[str] = set()
            if isinstance(node, ast.Import):
                names = {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            assert not names & forbidden, f"{path.name} imports {names & forbidden}"
