"""The example's tasks: what they remove, what they keep, and how they leave when a stop comes."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from examples import jobs, upkeep
from examples.jobs import Queue

if TYPE_CHECKING:
    from supervisor import Worker

NOW = 1_800_000_000.0
DAY = 86400.0


@dataclass
class FakeWorker:
    """What a task uses of a `Worker`."""

    options: dict[str, Any]
    stop_when: Callable[[], bool] = lambda: False
    said: list[str] = field(default_factory=list)

    @property
    def stopping(self) -> bool:
        return self.stop_when()

    def status(self, text: str) -> None:
        self.said.append(text)


def purge(database: str, stop_when: Callable[[], bool] = lambda: False, **options: Any) -> None:
    upkeep.purge(cast("Worker", FakeWorker({"database": database, **options}, stop_when)))


def vacuum(database: str, stop_when: Callable[[], bool] = lambda: False) -> None:
    upkeep.vacuum(cast("Worker", FakeWorker({"database": database}, stop_when)))


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "queue" / "jobs.sqlite")


@pytest.fixture
def queue(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """A queue in which it is `NOW`."""
    monkeypatch.setattr("time.time", lambda: NOW)
    with contextlib.closing(Queue(database, "checksum.0")) as queue:
        yield queue


def finish(queue: Queue, *names: str, days_ago: float, monkeypatch: pytest.MonkeyPatch) -> None:
    queue.add([name.encode() for name in names])
    with monkeypatch.context() as then:
        then.setattr("time.time", lambda: NOW - days_ago * DAY)
        for job in queue.claim(len(names)):
            queue.finish(job, digest="0")


def ask(database: str, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return [row[0] for row in connection.execute(sql)]


def test_only_what_was_finished_long_ago_is_removed(
    database: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(queue, "old", days_ago=8, monkeypatch=monkeypatch)
    finish(queue, "new", days_ago=6, monkeypatch=monkeypatch)
    queue.add([b"claimed", b"waiting"])
    queue.claim(1)
    purge(database)
    assert ask(database, "SELECT path FROM jobs ORDER BY id") == [b"new", b"claimed", b"waiting"]
    purge(database, days=5)
    assert ask(database, "SELECT path FROM jobs ORDER BY id") == [b"claimed", b"waiting"]


def test_results_are_kept_and_counted(
    database: str, queue: Queue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A result names its file by itself, so it needs no job."""
    finish(queue, "a", "b", days_ago=8, monkeypatch=monkeypatch)
    before = queue.counts()
    purge(database)
    assert capsys.readouterr().out == "2 jobs removed\n"
    assert ask(database, "SELECT count(*) FROM jobs") == [0]
    assert ask(database, "SELECT file FROM results ORDER BY id") == [b"a", b"b"]
    assert queue.counts() == before


def test_a_file_that_is_fed_again_is_a_new_job_and_no_duplicate(
    database: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a purged job, also of the last one, is not used again."""
    finish(queue, "a", days_ago=8, monkeypatch=monkeypatch)
    purge(database)
    finish(queue, "a", days_ago=0, monkeypatch=monkeypatch)
    counts = queue.counts()
    assert (counts["finished"], counts["results"], counts["duplicates"]) == (2, 2, [])


def test_a_job_that_was_finished_again_lately_is_not_old(
    database: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.add([b"a"])
    [job] = queue.claim(1)
    for when in (NOW - 8 * DAY, NOW):
        with monkeypatch.context() as then:
            then.setattr("time.time", lambda when=when: when)
            queue.finish(job, digest="0")
    purge(database)
    assert ask(database, "SELECT path FROM jobs") == [b"a"]


def test_a_purge_is_many_short_transactions_and_a_stop_comes_between_two(
    database: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "AT_ONCE", 2)
    finish(queue, *"abcde", days_ago=8, monkeypatch=monkeypatch)
    looks = itertools.count()
    purge(database, lambda: next(looks) >= 2)
    assert ask(database, "SELECT count(*) FROM jobs") == [1]
    purge(database)
    assert ask(database, "SELECT count(*) FROM jobs") == [0]


def test_nothing_to_purge_is_nothing_to_say(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    purge(database)
    assert capsys.readouterr().out == ""


def filled(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(queue, *(f"{n}-{'x' * 500}" for n in range(2000)), days_ago=8, monkeypatch=monkeypatch)
    assert queue.purge(NOW, 2000) == 2000


def test_a_vacuum_makes_the_file_small_again_beside_a_worker_and_says_so(
    database: str, queue: Queue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker's connection stays open meanwhile, and goes on."""
    filled(queue, monkeypatch)
    before = ask(database, "PRAGMA page_count")[0]
    vacuum(database)
    saved = int(capsys.readouterr().out.split()[0])
    after = ask(database, "PRAGMA page_count")[0]
    assert saved == (before - after) * ask(database, "PRAGMA page_size")[0] > 0
    assert queue.add([b"next"]) == 1


def test_a_stop_ends_a_vacuum_in_its_middle_and_all_is_as_it_was(
    database: str, queue: Queue, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(queue, monkeypatch)
    monkeypatch.setattr(jobs, "STEPS", 100)
    before, looks = ask(database, "PRAGMA page_count"), itertools.count()
    vacuum(database, lambda: next(looks) >= 5)
    assert next(looks) > 5
    assert capsys.readouterr().out == ""
    assert ask(database, "PRAGMA page_count") == before
    assert ask(database, "PRAGMA integrity_check") == ["ok"]
    assert queue.counts()["results"] == 2000


def test_what_goes_wrong_with_a_vacuum_is_raised(
    database: str, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here another program writes, and no stop explains it."""
    monkeypatch.setattr(jobs, "BUSY_TIMEOUT", 0.01)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as writer:
        task = Queue(database)
        writer.execute("BEGIN IMMEDIATE")
        with contextlib.closing(task), pytest.raises(sqlite3.OperationalError, match="locked"):
            task.vacuum(lambda: False)
