"""How hooks are declared, in which order they are called, and that one which raises is contained."""

from __future__ import annotations

import types

import pytest

import supervisor
from supervisor import hooks
from supervisor.hooks import GOING_DOWN, MASTER_MOMENTS, WORKER_MOMENTS, Hooks, call, load, resolve

MOMENTS = (*MASTER_MOMENTS, *WORKER_MOMENTS)


def first(_: object) -> None: ...


def second(_: object) -> None: ...


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of a program, importable as ``shop``."""
    module = types.ModuleType("shop")
    monkeypatch.setitem(__import__("sys").modules, "shop", module)
    return module


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_moment_has_a_decorator_that_leaves_the_function_as_it_is(
    moment: str, shop: types.ModuleType
) -> None:
    def hook(_: object) -> str:
        return "called"

    assert getattr(supervisor, moment)(hook) is hook
    shop.hook = hook  # type: ignore[attr-defined]
    declared = Hooks()
    declared.collect(shop)
    assert [name for name in MOMENTS if declared.at(name)] == [moment]
    assert hook(None) == "called"


@pytest.mark.parametrize("moment", MOMENTS)
def test_hooks_are_called_as_declared_going_up_and_reversed_going_down(moment: str) -> None:
    declared = Hooks()
    declared.add(moment, first)
    declared.add(moment, second)
    order = [second, first] if moment in GOING_DOWN else [first, second]
    assert declared.at(moment) == order


def test_what_goes_down_is_what_stops_and_exits() -> None:
    assert {m for m in MOMENTS if m.endswith(("stop", "exit"))} == set(GOING_DOWN)


def test_a_function_counts_once_for_a_moment_however_often_it_is_found(shop: types.ModuleType) -> None:
    """Named in the configuration, decorated, and imported by a second name: still one hook."""
    shop.hook = shop.alias = supervisor.on_stop(supervisor.on_exit(first))  # type: ignore[attr-defined]
    try:
        declared = load({"on_stop": ("shop:hook",)}, ["shop", "shop"])
        assert (declared.at("on_stop"), declared.at("on_exit")) == ([first], [first])
    finally:
        del first.__supervisor_hooks__  # type: ignore[attr-defined]


def test_what_the_configuration_names_comes_before_what_is_decorated(shop: types.ModuleType) -> None:
    shop.named = second  # type: ignore[attr-defined]
    shop.decorated = supervisor.on_start(lambda _: None)  # type: ignore[attr-defined]
    assert load({"on_start": ("shop:named",)}, ["shop"]).at("on_start") == [second, shop.decorated]


def test_things_in_a_module_that_look_marked_by_chance_are_no_hooks(shop: types.ModuleType) -> None:
    """A mock answers to every attribute; only a tuple of moments on a callable is a mark."""

    class Answers:
        def __getattr__(self, name: str) -> object:
            return self

        def __call__(self) -> None: ...

    shop.mock, shop.text, shop.nothing = Answers(), "on_stop", None  # type: ignore[attr-defined]
    declared = Hooks()
    declared.collect(shop)
    assert not any(declared.at(moment) for moment in MOMENTS)


def test_a_reference_may_go_through_classes_and_objects(shop: types.ModuleType) -> None:
    class Outer:
        class Inner:
            def method(self) -> str:
                return "here"

        inner = Inner()

    shop.Outer = Outer  # type: ignore[attr-defined]
    assert resolve("shop:Outer.inner.method")() == "here"


@pytest.mark.parametrize(
    ("reference", "error"), [("no_such_shop:x", ImportError), ("shop:x", AttributeError)]
)
def test_a_reference_that_leads_nowhere_is_an_import_error(
    shop: types.ModuleType, reference: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        resolve(reference)


@pytest.mark.parametrize("raised", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError])
def test_whatever_a_hook_raises_ends_the_hook_alone(raised: type[BaseException]) -> None:
    def hook(_: object) -> None:
        raise raised("this")

    error = call(hook, None)
    assert error is not None
    assert raised.__name__ in error
    assert "in hook" in error


def test_a_hook_is_given_its_context_and_what_it_returns_is_ignored() -> None:
    given: list[object] = []
    assert call(given.append, "context") is None
    assert call(lambda _: "returned", None) is None
    assert given == ["context"]


@pytest.mark.parametrize("stream", [None, "closed"])
def test_a_stdout_that_is_gone_fails_no_hook(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, stream: str | None
) -> None:
    with open(f"{tmp_path}/out", "w") as closed:
        pass
    monkeypatch.setattr("sys.stdout", closed if stream else None)
    assert call(lambda _: None, None) is None


def test_a_hook_without_a_name_has_one_for_people() -> None:
    assert hooks.name_of(first) == f"{__name__}:first"
    assert ":" in hooks.name_of(__import__("functools").partial(first))
