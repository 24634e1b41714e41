"""At most one deadline a key, the earliest first, and no memory of those that were replaced."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from supervisor.decide.deadlines import Deadlines

TIMES = st.integers(0, 9).map(float)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 5), TIMES),
        st.tuples(st.just("drop"), st.integers(0, 5)),
        st.tuples(st.just("due"), TIMES),
    )
)


def test_a_new_deadline_replaces_the_old_one_sooner_or_later() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 5.0)
    deadlines.set("a", 9.0)
    assert deadlines.earliest() == 9.0
    deadlines.set("a", 2.0)
    assert (deadlines.earliest(), deadlines.get("a"), len(deadlines)) == (2.0, 2.0, 1)


def test_a_deadline_is_due_at_its_very_time_and_only_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 5.0)
    assert deadlines.due(4.999) == []
    assert deadlines.due(5.0) == ["a"]
    assert deadlines.due(5.0) == []
    assert deadlines.earliest() is None


def test_one_that_was_dropped_never_comes_due() -> None:
    deadlines: Deadlines[int] = Deadlines()
    deadlines.set(1, 5.0)
    deadlines.drop(1)
    deadlines.drop(2)
    assert (deadlines.earliest(), deadlines.due(10.0), len(deadlines)) == (None, [], 0)


def test_what_is_due_comes_in_the_order_of_time() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, time in (("late", 3.0), ("first", 1.0), ("second", 2.0), ("not yet", 4.0)):
        deadlines.set(key, time)
    assert deadlines.due(3.0) == ["first", "second", "late"]


def test_what_was_replaced_a_million_times_does_not_stay_in_memory() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("first", 0.0)  # never due, so nothing behind it can be passed over
    for time in range(1, 10_000):
        deadlines.set("again", float(time))
    assert len(deadlines._heap) < 200


@hypothesis_settings(max_examples=100, deadline=None, database=None)
@given(STEPS)
def test_it_does_what_a_plain_dict_would_do(steps: list[tuple[Any, ...]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, float] = {}
    for step in steps:
        match step:
            case ("set", key, time):
                deadlines.set(key, time)
                model[key] = time
            case ("drop", key):
                deadlines.drop(key)
                model.pop(key, None)
            case (_, now):
                due = deadlines.due(now)
                assert [model[key] for key in due] == sorted(t for t in model.values() if t <= now)
                for key in due:
                    del model[key]
        assert deadlines.earliest() == min(model.values(), default=None)
        assert len(deadlines) == len(model)
