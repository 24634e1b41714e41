"""Which places may be filled: the lowest first, each by one worker, none forgotten."""

from __future__ import annotations

import pytest

from supervisor.decide.slots import Slots


@pytest.fixture
def slots() -> Slots:
    slots = Slots()
    slots.resize(3)
    return slots


def fill(slots: Slots, now: float = 0.0, most: int = 99) -> list[int]:
    filled = []
    for index in slots.vacancies(now, most):
        slots.hold(index, 100 + index)
        filled.append(index)
    return filled


def test_vacancies_are_taken_from_the_lowest_and_once(slots: Slots) -> None:
    assert fill(slots, most=2) == [0, 1]
    assert fill(slots) == [2]
    assert fill(slots) == []


def test_no_vacancy_is_lost_when_none_may_be_taken(slots: Slots) -> None:
    assert fill(slots, most=0) == []
    assert fill(slots, most=-1) == []
    assert fill(slots) == [0, 1, 2]


def test_a_slot_in_backoff_is_filled_when_its_time_has_come(slots: Slots) -> None:
    fill(slots)
    slots.vacated(1, 101, finished=False, retry_at=5.0)
    assert (slots.deadline(), slots.retry_at(1), fill(slots, 4.9)) == (5.0, 5.0, [])
    assert fill(slots, 5.0) == [1]
    assert (slots.deadline(), slots.retry_at(1)) == (None, None)


def test_a_vacated_slot_without_backoff_is_filled_at_once(slots: Slots) -> None:
    fill(slots)
    slots.vacated(2, 102, finished=False, retry_at=None)
    slots.vacated(0, 100, finished=False, retry_at=None)
    assert fill(slots) == [0, 2]


def test_a_finished_slot_is_never_filled_again(slots: Slots) -> None:
    fill(slots)
    slots.vacated(0, 100, finished=True, retry_at=None)
    slots.revive()
    assert (slots.finished, fill(slots, 1e9)) == (1, [])


def test_shrinking_names_the_workers_beyond_and_forgets_their_finished_slots(slots: Slots) -> None:
    fill(slots)
    slots.vacated(2, 102, finished=True, retry_at=None)
    assert slots.resize(1) == [101]
    assert slots.finished == 0
    assert [index for index, _ in slots] == [0, 1], "slot 1 stays until its worker is gone"
    slots.vacated(1, 101, finished=True, retry_at=None)
    assert ([index for index, _ in slots], slots.finished) == ([0], 0)


def test_growing_over_a_slot_whose_worker_still_leaves_waits_for_it(slots: Slots) -> None:
    fill(slots)
    slots.resize(2)
    slots.resize(4)
    assert fill(slots) == [3]
    slots.vacated(2, 102, finished=False, retry_at=None)
    assert fill(slots) == [2]


def test_a_backoff_ends_with_its_slot(slots: Slots) -> None:
    fill(slots)
    slots.vacated(2, 102, finished=False, retry_at=5.0)
    slots.resize(2)
    assert slots.deadline() is None
    slots.resize(3)
    assert fill(slots, 0.0) == [2]


def test_reviving_ends_every_backoff_and_forgets_what_the_slots_went_through(slots: Slots) -> None:
    fill(slots)
    slots[0].history.failures = 7
    slots.vacated(0, 100, finished=False, retry_at=5.0)
    slots.revive()
    assert (slots.deadline(), fill(slots), slots[0].history.failures) == (None, [0], 0)


def test_the_first_life_in_a_slot_is_no_restart_and_each_heir_is_one(slots: Slots) -> None:
    assert slots[0].restarts == 0
    assert slots.hold(0, 100).restarts == 0
    assert slots.inherit(0, 200).restarts == 1


# -- heirs -------------------------------------------------------------------------


def members(slots: Slots, index: int = 0) -> tuple[int | None, int | None, set[int]]:
    slot = slots[index]
    return slot.worker, slot.heir, slot.former


def test_an_heir_takes_over_and_the_one_before_stays_until_it_is_gone(slots: Slots) -> None:
    fill(slots)
    slots.inherit(0, 200)
    assert (members(slots), slots.heirs, slots.formers) == ((100, 200, set()), 1, 0)
    assert slots.relieve(0) == 100
    assert (members(slots), slots.heirs, slots.formers) == ((200, None, {100}), 0, 1)
    assert not slots.vacated(0, 100, finished=False, retry_at=5.0)
    assert (members(slots), slots.heirs, slots.formers) == ((200, None, set()), 0, 0)
    assert (slots.deadline(), fill(slots)) == (None, []), "its end opens no place"


def test_where_the_holder_goes_first_its_heir_holds_the_slot(slots: Slots) -> None:
    fill(slots)
    slots.inherit(0, 200)
    assert slots.vacated(0, 100, finished=False, retry_at=5.0)
    assert (members(slots), slots.heirs, slots.formers, fill(slots, 9.0)) == ((200, None, set()), 0, 0, [])


def test_an_heir_that_goes_leaves_the_holder_where_it_is(slots: Slots) -> None:
    fill(slots)
    slots.inherit(0, 200)
    assert not slots.vacated(0, 200, finished=False, retry_at=5.0)
    assert (members(slots), slots.heirs, slots.deadline()) == ((100, None, set()), 0, None)


def test_an_heir_that_is_not_to_take_over_leaves_like_one_that_was_relieved(slots: Slots) -> None:
    fill(slots)
    slots.inherit(0, 200)
    assert slots.disown(0) == 200
    assert (members(slots), slots.heirs, slots.formers) == ((100, None, {200}), 0, 1)
    assert slots.disown(0) is None
    slots.vacated(0, 200, finished=False, retry_at=None)
    assert (members(slots), slots.formers, fill(slots)) == ((100, None, set()), 0, [])


def test_shrinking_names_the_heirs_beyond_too_and_the_slot_stays_until_the_last_is_gone(slots: Slots) -> None:
    fill(slots)
    slots.inherit(2, 200)
    slots.relieve(2)
    slots.inherit(2, 300)
    assert slots.resize(2) == [200, 300]
    for gone in (200, 300):
        slots.vacated(2, gone, finished=False, retry_at=None)
    assert [index for index, _ in slots] == [0, 1, 2]
    slots.vacated(2, 102, finished=False, retry_at=None)
    assert [index for index, _ in slots] == [0, 1]
