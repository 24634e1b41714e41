"""The example's job and its command: what a consumer does with files, a stop, and mistakes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from examples import checksum
from examples.checksum_command import main
from examples.jobs import Queue

if TYPE_CHECKING:
    from supervisor import Worker

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "queue" / "jobs.sqlite")


@pytest.fixture
def queue(database: str) -> Iterator[Queue]:
    queue = Queue(database, "checksum.0")
    yield queue
    queue.close()


def names(count: int) -> list[bytes]:
    return [b"/file/%d" % n for n in range(count)]


@dataclass
class FakeWorker:
    """What the consumer uses of a `Worker`; it is asked to stop when `stop_when` says so."""

    options: dict[str, Any]
    stop_when: Callable[[FakeWorker], bool] = lambda worker: worker.waits > 0
    id: str = "checksum.0"
    quiet: bool = False
    waits: int = 0
    jobs: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def stopping(self) -> bool:
        return self.stop_when(self)

    def status(self, text: str) -> None:
        self.said.append(text)

    def wait(self, seconds: float) -> bool:
        self.waits += 1
        return self.stopping

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        self.jobs += 1
        yield


def consume(worker: FakeWorker) -> None:
    """A worker's life as the supervisor leads it: the target, then the exit hook."""
    as_given = cast("Worker", worker)
    checksum.run(as_given)
    checksum.close_queue(as_given)


def results(database: str) -> list[tuple[bytes, str | None, str | None]]:
    with contextlib.closing(sqlite3.connect(database)) as reader:
        rows = reader.execute(
            "SELECT path, digest, error FROM results JOIN jobs ON jobs.id = job ORDER BY path"
        )
        return rows.fetchall()


# The job


def test_a_worker_works_the_queue_off_and_then_waits(database: str, queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"x" * (2 * checksum.CHUNK + 1))
    queue.add([bytes(tmp_path / "a"), bytes(tmp_path / "b")])
    worker = FakeWorker({"database": database})
    consume(worker)
    assert (worker.jobs, worker.waits, worker.said[-1]) == (2, 1, "waiting for files")
    assert results(database) == [
        (bytes(file), hashlib.sha256(file.read_bytes()).hexdigest(), None)
        for file in (tmp_path / "a", tmp_path / "b")
    ]


def test_a_stop_in_the_middle_of_a_batch_puts_the_rest_back(database: str, queue: Queue) -> None:
    queue.add(names(20))
    worker = FakeWorker({"database": database}, stop_when=lambda worker: worker.jobs == 3)
    consume(worker)
    counts = queue.counts()
    assert (counts["finished"], counts["claimed"], counts["waiting"]) == (3, 0, 17)


def test_a_worker_begins_by_taking_back_what_a_killed_one_held(database: str, queue: Queue) -> None:
    """Not only once the queue is empty: a stop may come before that."""
    queue.add(names(5))
    killed = Queue(database, "checksum.1")
    killed.claim(5)
    os.close(killed._lock or -1)  # what the kernel does when a process dies
    consume(FakeWorker({"database": database}, stop_when=lambda worker: True))
    assert queue.counts()["waiting"] == 5
    killed._database.close()


def test_a_quiet_worker_claims_nothing(database: str, queue: Queue) -> None:
    queue.add(names(3))
    consume(FakeWorker({"database": database}, quiet=True))
    assert queue.counts()["waiting"] == 3


def test_a_large_file_in_hand_is_released_when_a_stop_comes(
    database: str, queue: Queue, tmp_path: Path
) -> None:
    with open(tmp_path / "large", "wb") as large:
        large.truncate(3 * checksum.CHUNK)
    queue.add([bytes(tmp_path / "large")])
    consume(FakeWorker({"database": database}, stop_when=lambda worker: worker.jobs == 1))
    counts = queue.counts()
    assert (counts["waiting"], counts["results"]) == (1, 0)


def test_a_small_file_in_hand_is_finished_when_a_stop_comes(
    database: str, queue: Queue, tmp_path: Path
) -> None:
    (tmp_path / "small").write_bytes(b"little")
    queue.add([bytes(tmp_path / "small")])
    consume(FakeWorker({"database": database}, stop_when=lambda worker: worker.jobs == 1))
    assert queue.counts()["finished"] == 1


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (make_nothing, "No such file or directory"),
        (make_fifo, "not a regular file any more"),
        (make_folder, "Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_finished_job_with_an_error(
    database: str, queue: Queue, tmp_path: Path, make: Callable[[Path], None], error: str
) -> None:
    odd = tmp_path / "odd"
    make(odd)
    queue.add([bytes(odd)])
    consume(FakeWorker({"database": database}))
    assert results(database) == [(bytes(odd), None, error)]
    assert queue.counts()["errors"] == 1


def test_a_name_that_is_no_text_is_a_file_like_any_other(database: str, queue: Queue, tmp_path: Path) -> None:
    odd = bytes(tmp_path) + b"/\xff\n"
    with open(odd, "wb"):
        queue.add([odd])
    consume(FakeWorker({"database": database}))
    assert results(database) == [(odd, hashlib.sha256().hexdigest(), None)]


# The command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "one").write_text("1")
    (folder / "below" / "two").write_text("2")
    (folder / "link").symlink_to("one")
    os.mkfifo(folder / "fifo")
    return folder


def report(database: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    main(["report", "--database", database, "--json"])
    counts: dict[str, Any] = json.loads(capsys.readouterr().out)
    return counts


def test_feed_queues_the_regular_files_below_a_folder_once(
    folder: Path, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["feed", str(folder), "--database", database])
    assert capsys.readouterr().out == "2 files queued, 0 were known already\n"
    main(["feed", str(folder), "--database", database])
    assert capsys.readouterr().out == "0 files queued, 2 were known already\n"
    assert report(database, capsys)["waiting"] == 2


def test_feed_leaves_out_the_files_of_the_queue_itself(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker that opened and closed them would drop the locks SQLite holds on them."""
    database = str(folder / "own.sqlite")
    with contextlib.closing(Queue(database, "checksum.0")):  # holds a life's file and a write-ahead log
        main(["feed", str(folder), "--database", database])
        assert report(database, capsys)["waiting"] == 2


def test_report_in_words_counts_and_names_duplicates(
    database: str, queue: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.add(names(2))
    [job] = queue.claim(1)
    queue.finish(job, digest="0")
    queue.finish(job, digest="0")
    main(["report", "--database", database])
    words = capsys.readouterr().out
    assert [line.split() for line in words.splitlines()] == [
        ["waiting", "1"], ["claimed", "0"], ["finished", "1"], ["errors", "0"], ["duplicates", "1"],
        ["job", str(job.id), "was", "finished", "2", "times"], ["by", "checksum.0", "2"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line", ["feed MISSING --database D", "report --database D", "report --database TEXT"]
)
def test_a_command_that_cannot_work_says_so_in_one_line_and_exits_1(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TEXT").write_text("this is no database, but long enough to be looked at " * 20)
    with pytest.raises(SystemExit) as left:
        main(line.split())
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("checksum: ")
    assert said.count("\n") == 1


def test_the_module_runs_as_a_command(folder: Path, database: str) -> None:
    command = [sys.executable, "-m", "examples.checksum", "feed", str(folder), "--database", database]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "2 files queued, 0 were known already\n"
