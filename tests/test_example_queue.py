"""The example's queue under real processes and real kills.

The processes below use it as workers do, without a supervisor: what is shown
here must hold whoever kills them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.jobs import Job, Queue

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parent.parent

CLAIMER = """
import sys
from examples.jobs import Queue
queue = Queue(sys.argv[1], sys.argv[2])
jobs = queue.claim(int(sys.argv[3]))
print(len(jobs), flush=True)
sys.stdin.read()
"""

CONSUMER = """
import sys
from examples.jobs import Queue
queue = Queue(sys.argv[1], sys.argv[2])
queue.take_back()
print("up", flush=True)
while jobs := queue.claim(8):
    for job in jobs:
        queue.finish(job, digest="0")
queue.close()
"""


@contextlib.contextmanager
def running(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of the queue, killed at the end whatever happened."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


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


def test_processes_that_claim_at_once_share_the_jobs_and_finish_each_once(
    database: str, queue: Queue
) -> None:
    queue.add(names(2000))
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(running(CONSUMER, database, f"checksum.{n}")) for n in range(4)]
        assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    counts = queue.counts()
    assert (counts["finished"], counts["results"], counts["duplicates"]) == (2000, 2000, [])


def test_consumers_killed_in_full_run_leave_each_job_finished_exactly_once(
    database: str, queue: Queue
) -> None:
    queue.add(names(4000))
    kills = 0
    while queue.counts()["waiting"] > 0:
        with running(CONSUMER, database, "checksum.1") as process:
            assert first_line(process) == "up"
            while queue.counts()["claimed"] == 0 and process.poll() is None:
                pass
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        queue.take_back()
    counts = queue.counts()
    assert kills > 0
    assert (counts["finished"], counts["results"], counts["duplicates"]) == (4000, 4000, [])


def test_the_claims_of_a_killed_process_are_taken_back(database: str, queue: Queue) -> None:
    queue.add(names(10))
    with running(CLAIMER, database, "checksum.1", 7) as process:
        assert first_line(process) == "7"
        process.kill()
        process.wait()
    assert queue.take_back() == 7
    assert queue.counts()["waiting"] == 10


def test_the_claims_of_a_living_process_are_left_to_it_also_when_it_is_stopped(
    database: str, queue: Queue
) -> None:
    queue.add(names(10))
    with running(CLAIMER, database, "checksum.1", 7) as process:
        assert first_line(process) == "7"
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert queue.take_back() == 0
        assert queue.counts()["claimed"] == 7


def test_two_lives_of_one_slot_are_told_apart(database: str, queue: Queue) -> None:
    """After the master was killed, its worker may still finish while the next master's starts."""
    queue.add(names(10))
    with running(CLAIMER, database, "checksum.0", 4) as process:
        assert first_line(process) == "4"
        assert len(queue.claim(3)) == 3
        assert queue.release() == 3
        assert queue.counts()["claimed"] == 4


def test_a_dead_life_leaves_no_file_behind(database: str, queue: Queue) -> None:
    with running(CLAIMER, database, "checksum.1", 1) as process:
        assert first_line(process) == "0"
    process.wait()
    lives = Path(f"{database}-lives")
    assert len(list(lives.iterdir())) == 2
    queue.take_back()
    assert [life.name.startswith("checksum.0-") for life in lives.iterdir()] == [True]


def test_a_claim_whose_file_somebody_removed_is_taken_back(database: str, queue: Queue) -> None:
    queue.add(names(1))
    with running(CLAIMER, database, "checksum.1", 1) as process:
        assert first_line(process) == "1"
    for life in Path(f"{database}-lives").glob("checksum.1-*"):
        life.unlink()
    assert queue.take_back() == 1


def test_release_puts_back_what_is_not_finished_and_only_that(queue: Queue) -> None:
    queue.add(names(5))
    first = queue.claim(3)[0]
    queue.finish(first, digest="0")
    assert queue.release() == 2
    counts = queue.counts()
    assert (counts["waiting"], counts["claimed"], counts["finished"]) == (4, 0, 1)


def test_closing_a_queue_releases_its_claims(database: str, queue: Queue) -> None:
    queue.add(names(5))
    other = Queue(database, "checksum.1")
    other.claim(5)
    other.close()
    assert queue.counts()["waiting"] == 5


def test_a_job_finished_again_is_a_second_visible_row(queue: Queue) -> None:
    queue.add(names(1))
    [job] = queue.claim(1)
    queue.finish(job, digest="0")
    queue.finish(job, digest="0")
    counts = queue.counts()
    assert (counts["finished"], counts["results"]) == (1, 2)
    assert counts["duplicates"] == [{"job": job.id, "times": 2}]


def test_a_result_that_cannot_be_written_leaves_the_job_claimed(queue: Queue) -> None:
    """Result and state are one transaction: here the first half fails (neither digest nor error)."""
    queue.add(names(1))
    [job] = queue.claim(1)
    with pytest.raises(sqlite3.IntegrityError):
        queue.finish(job)
    counts = queue.counts()
    assert (counts["claimed"], counts["results"]) == (1, 0)


def test_a_queue_may_be_opened_for_the_first_time_by_many_at_once(database: str) -> None:
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(running(CONSUMER, database, f"checksum.{n}")) for n in range(8)]
        assert [process.wait(60) for process in processes] == [0] * 8


def test_adding_a_file_twice_makes_one_job(queue: Queue) -> None:
    assert queue.add(names(3)) == 3
    assert queue.add(names(4)) == 1


def test_a_claim_waits_for_another_writer_and_does_not_fail(database: str, queue: Queue) -> None:
    queue.add(names(1))
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        claimed: list[Job] = []

        def claim() -> None:
            mine = Queue(database, "checksum.1")
            claimed.extend(mine.claim(1))
            mine.finish(claimed[0], digest="0")
            mine.close()

        thread = threading.Thread(target=claim)
        thread.start()
        writer.execute("INSERT INTO jobs (path) VALUES (x'2f')")
        writer.execute("COMMIT")
        thread.join()
    assert len(claimed) == 1
