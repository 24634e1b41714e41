"""The kernel's word that the wall clock was set."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest

from supervisor.unix.clock import ClockWatch


@pytest.fixture
def watch() -> Iterator[ClockWatch]:
    found = ClockWatch()
    yield found
    found.close()


def readable(watch: ClockWatch, seconds: float = 0.0) -> bool:
    return bool(select.select([watch.fd], [], [], seconds)[0])


def set_to_what_it_is() -> None:
    """Setting the clock is told whatever it is set to; to the present time it harms nobody."""
    try:
        time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))
    except PermissionError:
        pytest.skip("only root may set the clock")


def test_nothing_is_told_while_the_clock_only_runs(watch: ClockWatch) -> None:
    assert watch.fd >= 0
    assert not readable(watch)


def test_each_setting_is_told_once(watch: ClockWatch) -> None:
    for _ in range(2):
        set_to_what_it_is()
        assert readable(watch, 10)
        watch.seen()
        assert not readable(watch)


def test_reading_without_news_does_not_block(watch: ClockWatch) -> None:
    watch.seen()
    assert not readable(watch)


def test_closing_twice_harms_nothing(watch: ClockWatch) -> None:
    watch.close()
    watch.close()
    assert watch.fd == -1
