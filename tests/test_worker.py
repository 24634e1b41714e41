"""The `Worker` by itself: what it sends, and how little of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from supervisor.child.link import MasterLink
from supervisor.worker import LONGEST_TEXT, Worker

CALLS = 100_000


class FakeLink:
    """Notes what is sent; ``room`` says whether the master's queue has any."""

    def __init__(self) -> None:
        self.sent: list[dict[str, object]] = []
        self.pokes, self.room = 0, True

    def send(self, **fields: object) -> bool:
        if self.room:
            self.sent.append(fields)
        return self.room

    def poke(self) -> None:
        self.pokes += 1


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def worker(link: FakeLink) -> Worker:
    return Worker("pool.3", generation=2, options={}, link=link)


def watched(link: FakeLink, watchdog: float = 3600.0) -> Worker:
    return Worker("pool.3", generation=2, options={}, link=link, watchdog=watchdog)


def test_a_pool_may_have_any_name_that_a_pool_can_have(link: FakeLink) -> None:
    worker = Worker("a-b_c.12", generation=1, options={}, link=link)
    assert (worker.pool, worker.slot) == ("a-b_c", 12)


# -- telling ---------------------------------------------------------------------------


def test_a_hot_loop_pokes_once_and_sends_nothing_itself(worker: Worker, link: FakeLink) -> None:
    for number in range(CALLS):
        worker.status(f"job {number}")
        with worker.job():
            worker.beat()
    assert (link.pokes, link.sent) == (1, [])
    assert worker._take_news() == {"X_JOBS": CALLS, "X_IN_FLIGHT": 0, "STATUS": f"job {CALLS - 1}"}


def test_what_is_noted_after_the_news_was_taken_pokes_again(worker: Worker, link: FakeLink) -> None:
    worker.status("one")
    worker._take_news()
    worker.status("two")
    assert link.pokes == 2
    assert worker._take_news() == {"STATUS": "two"}
    assert worker._take_news() == {}


def test_a_hot_loop_beats_once_in_a_part_of_the_interval(link: FakeLink) -> None:
    worker = watched(link)
    for _ in range(CALLS):
        worker.beat()
    assert link.sent == [{"WATCHDOG": 1}]


def test_a_beat_that_found_no_room_is_tried_again(link: FakeLink) -> None:
    worker = watched(link)
    link.room = False
    worker.beat()
    link.room = True
    worker.beat()
    assert link.sent == [{"WATCHDOG": 1}]


def test_readiness_that_found_no_room_is_left_to_the_attendant(worker: Worker, link: FakeLink) -> None:
    link.room = False
    worker.ready()
    assert link.pokes == 1
    assert worker._take_news() == {"READY": 1}
    assert worker._take_news() == {}


def test_readiness_is_sent_at_once(worker: Worker, link: FakeLink) -> None:
    worker.ready()
    assert link.sent == [{"READY": 1}]


class Odd:
    def __str__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("x" * 10_000_000, "x" * LONGEST_TEXT),
        (None, "None"),
        (b"bytes", "b'bytes'"),
        (Odd(), "odd"),
        ("", ""),
    ],
)
def test_a_status_is_a_bounded_text_whatever_is_given(worker: Worker, given: str, told: str) -> None:
    worker.status(given)
    assert worker._take_news() == {"STATUS": told}


def test_a_status_that_cannot_be_shown_is_the_callers_error_and_not_the_attendants(worker: Worker) -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        worker.status(Broken())  # type: ignore[arg-type]
    assert worker._take_news() == {}


def test_jobs_are_counted_over_threads_nested_and_failed(worker: Worker) -> None:
    def work() -> None:
        for _ in range(2000):
            with worker.job(), worker.job():
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with contextlib.suppress(KeyError), worker.job():
        assert worker._take_news() == {"X_JOBS": 16_000, "X_IN_FLIGHT": 1}
        raise KeyError
    assert worker._take_news() == {"X_JOBS": 16_001, "X_IN_FLIGHT": 0}


def test_a_signal_handler_may_tell_while_the_program_is_telling(worker: Worker) -> None:
    """It comes back into the same thread, so a plain lock would hold it for ever."""
    with worker._lock:
        worker.status("from a handler")
        with worker.job():
            pass
    assert worker._take_news()["STATUS"] == "from a handler"


# -- waiting ---------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, -1, 0.0004, 0.02])
def test_wait_is_false_and_not_early_when_nothing_stops(worker: Worker, seconds: float) -> None:
    began = time.monotonic()
    assert worker.wait(seconds) is False
    assert time.monotonic() - began >= seconds


@pytest.mark.parametrize("seconds", [None, 0, 1, 1e7, 1e12, float("inf")])
def test_wait_is_true_at_once_when_stopping(worker: Worker, seconds: float | None) -> None:
    worker._stop("stop")
    assert worker.wait(seconds) is True
    assert (worker.stopping, worker.stop_reason) == (True, "stop")


@pytest.fixture
def stopper() -> Iterator[threading.Event]:
    """Set it, and the thread that waits for it goes on."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("seconds", [None, 60, 1e7, float("inf")])
def test_a_stop_ends_a_wait_in_every_thread(
    worker: Worker, stopper: threading.Event, seconds: float | None
) -> None:
    heard = []

    def wait() -> None:
        stopper.set()
        heard.append(worker.wait(seconds))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    stopper.wait()
    worker._stop("replace")
    for thread in threads:
        thread.join()
    assert (heard, worker.stop_reason) == ([True] * 3, "replace")


def test_waiting_with_a_watchdog_beats_until_its_end(link: FakeLink) -> None:
    assert watched(link, 0.02).wait(0.1) is False
    assert len(link.sent) >= 3


def test_awaiting_with_a_watchdog_beats_too(link: FakeLink) -> None:
    async def run() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(watched(link, 0.02).stopped(), 0.15)

    asyncio.run(run())
    assert len(link.sent) >= 3


# -- the way to a master that does not hear ----------------------------------------------


def test_a_closed_way_to_the_master_is_no_error() -> None:
    """As after the master's death: what is sent counts as sent, and a poke goes nowhere."""
    import socket

    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    link = MasterLink(here, there.fileno())
    there.close()
    assert link.send(READY=1) is True
    here.close()
    assert link.send(READY=1) is True
    link.poke()


def test_a_full_queue_is_an_answer_and_no_wait() -> None:
    import socket

    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there:
        link = MasterLink(here, there.fileno())
        for _ in range(10_000):
            if not link.send(STATUS="x" * 1000):
                return
    raise AssertionError("the queue never filled up")
