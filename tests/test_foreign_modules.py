"""Which modules that the master's hooks brought in a worker imports anew."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader

import pytest

from supervisor.child.birth import foreign_modules, forget_modules


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> frozenset[str]:
    """What importing the hooks of a shop would have brought in."""
    loaders = {
        "shop": SourceFileLoader,
        "shop.hooks": SourceFileLoader,
        "fast": SourceFileLoader,
        "fast.core": ExtensionFileLoader,
        "fast.words": SourceFileLoader,
        "bare": None,
    }
    for name, loader in loaders.items():
        module = types.ModuleType(name)
        module.__spec__ = ModuleSpec(name, loader(name, f"/nowhere/{name}") if loader else None)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sys.modules["bare"], "__spec__", None)
    return frozenset({*loaders, "json.tool", "supervisor.log", "email"})


def test_the_programs_own_modules_are_forgotten_and_those_of_others_kept(brought: frozenset[str]) -> None:
    """Kept: the standard library, this package, and packages with a compiled part."""
    assert foreign_modules(brought) == {"shop", "shop.hooks", "bare"}


def test_a_module_that_took_itself_out_again_is_no_error(brought: frozenset[str]) -> None:
    """A lazy loader may: what was there after the import is gone when we look."""
    assert "vanished" in foreign_modules(brought | {"vanished"})


def test_nothing_brought_is_nothing_to_forget() -> None:
    assert foreign_modules(frozenset()) == frozenset()


def test_forgotten_modules_are_gone_and_absent_ones_no_error(brought: frozenset[str]) -> None:
    forget_modules(["shop", "shop.hooks", "never.there"])
    assert not {"shop", "shop.hooks"} & set(sys.modules)
    assert "fast.core" in sys.modules
