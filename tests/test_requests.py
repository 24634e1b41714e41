"""What a request becomes: a wish of the decision core, or a refusal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.control.protocol import REFUSED, Refusal
from supervisor.control.requests import Requests


def requests(life: object) -> Requests:
    known: Any = life
    return Requests(known, dict, lambda: 5.0)


def test_a_reload_is_answered_with_its_number_which_its_events_will_carry() -> None:
    asked: list[object] = []

    def renew(reason: str, now: float, by: str | None) -> int:
        asked.append((reason, now, by))
        return 3

    assert requests(SimpleNamespace(stop=None, renew=renew)).answer("reload", {}, 0) == {"reload": 3}
    assert asked == [("SIGHUP", 5.0, "command")]


def test_nothing_is_reloaded_while_it_stops() -> None:
    with pytest.raises(Refusal, match="stopping already") as refused:
        requests(SimpleNamespace(stop=object())).answer("reload", {}, 0)
    assert refused.value.code == REFUSED
