"""What an exit means, how long its slot waits, and when a pool gives up."""

from __future__ import annotations

import pytest
from bodies import pool
from hypothesis import given
from hypothesis import strategies as st

from supervisor.decide.restarts import Breaker, History, Verdict, backoff, judge
from supervisor.exits import End
from supervisor.settings import Backoff, Seconds

P, FAIL, FIN = Verdict.PLANNED, Verdict.FAILURE, Verdict.FINISHED
EARLY, LATE = 9.99, 10.0
DONE, REPLACE, BROKEN, KILLED = End(code=0), End(code=4), End(code=1), End(signal=9)
NO_FORK = End(error="fork: Resource temporarily unavailable")
BACKOFF = Backoff(Seconds(1.0), Seconds(30.0), Seconds(10.0))


def never() -> float:
    return 0.0


@pytest.mark.parametrize(
    ("restart", "end", "early", "late"),
    [
        ("always", DONE, FAIL, P),
        ("always", REPLACE, P, P),
        ("always", BROKEN, FAIL, FAIL),
        ("always", KILLED, FAIL, FAIL),
        ("always", NO_FORK, FAIL, FAIL),
        ("on-failure", DONE, FIN, FIN),
        ("on-failure", REPLACE, P, P),
        ("on-failure", BROKEN, FAIL, FAIL),
        ("on-failure", KILLED, FAIL, FAIL),
        ("on-failure", NO_FORK, FAIL, FAIL),
        ("never", DONE, FIN, FIN),
        ("never", REPLACE, FIN, FIN),
        ("never", BROKEN, FIN, FIN),
        ("never", KILLED, FIN, FIN),
        ("never", NO_FORK, FAIL, FAIL),  # it has not had its one life yet
    ],
)
def test_what_an_unasked_exit_means(restart: str, end: End, early: Verdict, late: Verdict) -> None:
    settings = pool(restart=restart)
    assert judge(end, EARLY, asked=False, settings=settings) is early
    assert judge(end, LATE, asked=False, settings=settings) is late


@pytest.mark.parametrize("restart", ["always", "on-failure", "never"])
@pytest.mark.parametrize("end", [DONE, REPLACE, BROKEN, KILLED])
def test_whoever_was_asked_to_leave_left_as_planned(restart: str, end: End) -> None:
    assert judge(end, 0.0, asked=True, settings=pool(restart=restart)) is P


def test_backoff_doubles_from_its_first_value_to_its_cap() -> None:
    assert [backoff(n, BACKOFF, never) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True))
def test_jitter_shortens_a_backoff_by_a_quarter_at_most(failures: int, random: float) -> None:
    whole = backoff(failures, BACKOFF, never)
    assert 0.75 * whole <= backoff(failures, BACKOFF, lambda: random) <= whole <= BACKOFF.max


def test_the_first_early_replace_me_is_taken_at_its_word_and_later_ones_wait() -> None:
    history = History()
    assert [history.delay(P, EARLY, BACKOFF, never) for _ in range(4)] == [0, 1, 2, 4]


def test_one_life_that_lasted_forgets_the_short_ones() -> None:
    for verdict in (P, FAIL):
        history = History()
        short = [history.delay(verdict, EARLY, BACKOFF, never) for _ in range(3)]
        assert history.delay(verdict, LATE, BACKOFF, never) == 0.0
        assert [history.delay(verdict, EARLY, BACKOFF, never) for _ in range(3)] == short


def test_failures_and_replacements_are_counted_apart() -> None:
    history = History()
    assert [history.delay(v, EARLY, BACKOFF, never) for v in (FAIL, P, FAIL, P)] == [1, 0, 2, 1]


def test_the_breaker_opens_with_one_failure_too_many_within_its_time() -> None:
    breaker = Breaker(2, 60.0)
    assert [breaker.failed(t) for t in (0.0, 1.0, 59.9)] == [False, False, True]


def test_failures_that_are_long_ago_do_not_count() -> None:
    breaker = Breaker(2, 60.0)
    assert [breaker.failed(t) for t in (0.0, 1.0, 60.0, 61.0, 62.0)] == [False] * 4 + [True]


def test_having_opened_the_breaker_counts_from_the_beginning() -> None:
    breaker = Breaker(1, 60.0)
    assert [breaker.failed(0.0) for _ in range(4)] == [False, True, False, True]


def test_without_max_restarts_the_breaker_never_opens_and_remembers_nothing() -> None:
    breaker = Breaker(None, 60.0)
    assert not any(breaker.failed(float(t)) for t in range(1000))
    assert not breaker.failures


def test_max_restarts_zero_gives_up_at_the_first_failure() -> None:
    assert Breaker(0, 60.0).failed(5.0)
