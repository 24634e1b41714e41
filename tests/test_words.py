"""What workers may say in the log, how much of it, and in whose name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supervisor.master.words import AT_ONCE, Words

WHO = {"worker": "a.0", "pool": "a"}


class Log:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.words = Words(self.tell)

    def tell(self, event: str, level: str | None = None, **fields: Any) -> None:
        self.told.append({"event": event, "level": level, **fields})

    def hear(self, now: float = 0.0, worker: int = 1, **said: Any) -> None:
        self.words.hear(worker, WHO, json.dumps(said), now)


def test_a_workers_event_is_told_in_the_name_that_the_master_knows() -> None:
    log = Log()
    log.hear(event="worker.error", level="warning", reason="broken", worker="b.9", code=7)
    assert log.told == [{"event": "worker.error", "level": "warning", "reason": "broken", **WHO}]


@pytest.mark.parametrize(
    "said",
    [
        {"event": "master.exiting", "level": "info"},
        {"event": ["worker.error"], "level": "error"},
        {"level": "error"},
        {"event": "worker.error"},
    ],
)
def test_what_is_not_its_own_to_say_is_passed_over(said: dict[str, Any]) -> None:
    log = Log()
    log.hear(**said)
    assert log.told == []


def test_a_field_of_another_kind_is_left_out_and_a_strange_level_is_the_events_own() -> None:
    log = Log()
    log.hear(event="hook.timeout", level="shout", hook=["x"], seconds=5)
    assert log.told == [{"event": "hook.timeout", "level": None, "seconds": 5, **WHO}]


def test_a_flood_is_cut_and_counted_and_ebbs_away() -> None:
    """So many at once, one a second from then on; the others are not held responsible."""
    log, most = Log(), int(AT_ONCE)
    for number in range(most + 10):
        log.hear(event="worker.error", level="error", reason=str(number))
    log.hear(event="worker.error", level="error", reason="other", worker=2)
    assert [one["reason"] for one in log.told] == [*map(str, range(most)), "other"]
    log.hear(1.0, event="worker.error", level="error", reason="later")
    assert log.told[-2:] == [
        {"event": "worker.flooded", "level": None, "count": 10, **WHO},
        {"event": "worker.error", "level": "error", "reason": "later", **WHO},
    ]


def test_what_was_left_out_is_told_when_the_worker_is_gone() -> None:
    log = Log()
    for _ in range(int(AT_ONCE) + 1):
        log.hear(event="worker.error", level="error", reason="x")
    log.words.forget(1)
    assert log.told[-1] == {"event": "worker.flooded", "level": None, "count": 1, **WHO}
    log.words.forget(1)
    assert len(log.told) == AT_ONCE + 1
