"""What a request becomes: a wish of the decision core, or a refusal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.control.protocol import INVALID_PARAMS, REFUSED, Later, Refusal
from supervisor.control.requests import Requests


def requests(life: object) -> Requests:
    known: Any = life
    return Requests(known, dict, lambda: 5.0)


def test_a_reload_is_answered_with_its_number_which_its_events_will_carry() -> None:
    asked: list[object] = []

    def renew(reason: str, by: str | None) -> int:
        asked.append((reason, by))
        return 3

    assert requests(SimpleNamespace(stop=None, renew=renew)).answer("reload", {}, 0) == {"reload": 3}
    assert asked == [("SIGHUP", "command")]


def test_nothing_is_reloaded_while_it_stops() -> None:
    with pytest.raises(Refusal, match="stopping already") as refused:
        requests(SimpleNamespace(stop=object())).answer("reload", {}, 0)
    assert refused.value.code == REFUSED


# -- tasks ---------------------------------------------------------------------


class Orders:
    """Notes what is commanded of tasks."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **more: self.heard.append((name, (given, more)))


def with_tasks(orders: Orders, *, remembers: bool = True) -> Requests:
    return requests(SimpleNamespace(everybody=SimpleNamespace(remembers=remembers), tasks=orders))


def test_what_is_commanded_of_tasks_is_answered_later_and_by_whom_is_told() -> None:
    """Each answer has a number of its own."""
    orders = Orders()
    asked = with_tasks(orders)
    params = {"names": ["a"], "all": False, "for": 60, "reason": "disk"}
    assert asked.answer("tasks.pause", params, 1000) == Later(1)
    assert asked.answer("tasks.run", {"name": "a"}, 0) == Later(2)
    pause = ((Later(1), ["a"]), {"all": False, "seconds": 60, "reason": "disk", "by": "uid 1000"})
    assert orders.heard == [("pause", pause), ("run", ((Later(2), "a", "root"), {}))]


@pytest.mark.parametrize("names", [([], False), (["a"], True)])
@pytest.mark.parametrize("method", ["tasks.pause", "tasks.resume"])
def test_either_names_or_all_are_given(method: str, names: tuple[list[str], bool]) -> None:
    given, every = names
    with pytest.raises(Refusal, match="either 'names'") as refused:
        with_tasks(Orders()).answer(method, {"names": given, "all": every, "for": None, "reason": None}, 0)
    assert refused.value.code == INVALID_PARAMS


def test_a_list_of_tasks_asks_for_nothing_else() -> None:
    """The whole picture reads /proc for each worker."""

    def picture() -> dict[str, Any]:
        raise AssertionError

    life: Any = SimpleNamespace(tasks=SimpleNamespace(list=lambda: {"a": {"state": "paused", "since": 0.5}}))
    found: Any = Requests(life, picture, lambda: 5.0).answer("tasks.list", {}, 0)
    assert found["a"]["state"] == "paused"
    assert found["a"]["since"].startswith(("1970-01-01T", "1969-12-31T"))


def test_without_tasks_there_is_nothing_to_command() -> None:
    with pytest.raises(Refusal, match="there are no tasks") as refused:
        with_tasks(Orders(), remembers=False).answer("tasks.history", {"name": "a", "limit": 1}, 0)
    assert refused.value.code == REFUSED
