"""What a worker's message means: sd_notify assignments to facts about its pool.

Nothing a worker sends is trusted beyond its own slot: numbers are checked for
their range, texts are cut, and what is unknown is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.decide.pool import Pool
from supervisor.exits import LONGEST_ERROR

MOST = 10**15
LONGEST_TEXT = 200
LONGEST_EXTENSION = 86_400.0  # seconds


def hear(pool: Pool, id: int, message: Mapping[str, str], now: float) -> None:
    """Pass one message on as facts.  What it tells comes before what it brings about."""
    text = message.get("STATUS")
    error = message.get("X_ERROR")
    jobs, in_flight = _number(message.get("X_JOBS")), _number(message.get("X_IN_FLIGHT"))
    if any(value is not None for value in (text, error, jobs, in_flight)):
        pool.told(
            id,
            jobs,
            in_flight,
            None if text is None else _plain(text),
            None if error is None else _plain(error, LONGEST_ERROR),
        )
    if message.get("WATCHDOG") == "1":
        pool.beat(id, now)
    extension = _number(message.get("EXTEND_TIMEOUT_USEC"))
    if extension is not None:
        pool.extended(id, min(extension / 1e6, LONGEST_EXTENSION), now)
    if message.get("READY") == "1":
        pool.ready(id, now)
    if message.get("STOPPING") == "1":
        pool.acknowledged(id, now)


def _plain(text: str, most: int = LONGEST_TEXT) -> str:
    """Bounded, and with nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text[:most])


def _number(text: str | None) -> int | None:
    """A count from 0 up; None for anything else."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > len(str(MOST)):
        return None
    return int(text)
