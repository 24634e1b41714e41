"""The main job on real input: files to checksum, through stops, rolling restarts and kills.

What is asserted is in the result table, which nobody but the workers writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from program import PATIENCE, Program, become_subreaper, check_no_child_left

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
JOBS = 20_000
# What a service manager does with Restart= and RestartForceExitStatus=4 5.
OUTER_LOOP = 'while "$@"; status=$?; [ $status = 4 ] || [ $status = 5 ]; do :; done; exit $status'

Start = Callable[..., Program]


class Shop:
    """A folder of tiny files, a queue, and masters that work it off, one after the other."""

    def __init__(self, folder: Path, start: Start, jobs: int) -> None:
        self._start = start
        self.database = str(folder / "queue" / "jobs.sqlite")
        self.digests = make_files(folder / "files", jobs)
        feed = ["feed", str(folder / "files"), "--database", self.database]
        assert checksum(*feed) == f"{jobs} files queued, 0 were known already\n"

    def open(self) -> Program:
        """Start a master under an outer loop that starts the next one where the status asks for it."""
        config = f"""
            [pools.checksum]
            target = "examples.checksum:run"
            workers = 4
            options = {{ database = "{self.database}" }}
            backoff = {{ initial = "1ms", max = "10ms" }}
        """
        loop = ["sh", "-c", OUTER_LOOP, "sh"]
        return self._start("", config, master=f'pythonpath = ["{ROOT}"]', before=loop).ready()

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.database, timeout=PATIENCE)) as database:
            return database.execute(sql).fetchall()

    def count(self, what: str) -> int:
        return int(self.ask(f"SELECT count(*) FROM {what}")[0][0])

    def wait_for(self, results: int, one: Program) -> None:
        """Until so many results are there, or the master is gone, which is a failure."""
        left = os.pidfd_open(one.process.pid)
        try:
            while self.count("results") < results:
                gone = select.select([left], [], [], 0.01)[0]
                assert not gone, f"it left too early\n{one.log()}"
        finally:
            os.close(left)

    def check_clean(self) -> None:
        """Nobody is left with a claim, and no job was done twice."""
        assert self.count("jobs WHERE state = 'claimed'") == 0
        assert self.count("duplicates") == 0
        assert self.count("results") == self.count("jobs WHERE state = 'finished'")

    def check_done(self) -> None:
        """Every file has exactly one result, the right one."""
        self.check_clean()
        found = self.ask("SELECT path, digest FROM results JOIN jobs ON jobs.id = job")
        assert len(found) == len(self.digests)
        assert dict(found) == self.digests


def checksum(*arguments: str) -> str:
    command = [sys.executable, "-m", "examples.checksum", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def make_files(folder: Path, count: int) -> dict[bytes, str]:
    """So many files, all different: their names and digests."""
    digests = {}
    for number in range(count):
        place = f"{folder}/{number // 1000}"
        if number % 1000 == 0:
            os.makedirs(place)
        path, content = f"{place}/{number}.txt", b"%d\n" % number
        with open(path, "wb") as file:
            file.write(content)
        digests[path.encode()] = hashlib.sha256(content).hexdigest()
    return digests


@pytest.fixture
def shop(tmp_path: Path, program: Start) -> Shop:
    return Shop(tmp_path, program, JOBS)


@pytest.mark.long
def test_clean_stops_neither_lose_a_job_nor_do_one_twice(shop: Shop) -> None:
    """USR2 again and again under an outer loop, TERM and a new start: each job is done exactly once."""
    one = shop.open()
    for results in range(1000, 9000, 1000):
        shop.wait_for(results, one)
        mark = one.mark()
        one.signal(signal.SIGUSR2)
        report = one.wait_for("stop.report", since=mark)
        assert (report["status"], [w["code"] for w in report["workers"]]) == (4, [4] * 4)
        one.wait_for("master.ready", since=mark)
    for results in (10_000, 12_000, 14_000):
        shop.wait_for(results, one)
        one.signal(signal.SIGTERM)
        one.wait(0)
        shop.check_clean()
        one = shop.open()
    shop.wait_for(JOBS, one)
    one.signal(signal.SIGTERM)
    one.wait(0)
    shop.check_done()


@pytest.mark.long
def test_kills_neither_lose_a_job_nor_leave_half_of_one(shop: Shop) -> None:
    """kill -9 of random workers, of all of them, and of the master: the jobs in hand are done again."""
    dice = random.Random(7)
    one = shop.open()
    for results in range(500, 15_000, 500):
        shop.wait_for(results, one)
        mark = one.mark()
        victims = {f"checksum.{dice.randrange(4)}" for _ in range(dice.choice((1, 1, 2, 4)))}
        for name in victims:
            os.kill(one.worker(name), signal.SIGKILL)
        for name in victims:
            one.wait_for("worker.failed", since=mark, worker=name, signal="SIGKILL")
            one.wait_for("worker.ready", since=mark, worker=name)
    orphans = [one.worker(f"checksum.{slot}") for slot in range(4)]
    one.signal(signal.SIGKILL)
    one.wait(128 + signal.SIGKILL)
    one = shop.open()  # while the orphans may still be at work
    assert [os.waitpid(pid, 0)[1] for pid in orphans] == [0] * 4
    shop.wait_for(JOBS, one)
    one.signal(signal.SIGTERM)
    one.wait(0)
    shop.check_done()


# -- the reference configuration ------------------------------------------------------


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """The files of the repository, and no others, in a folder of their own."""
    become_subreaper()
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    for name in map(os.fsdecode, filter(None, listed.split(b"\0"))):
        if (ROOT / name).is_file():
            (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "clone" / name)
    yield tmp_path / "clone"
    check_no_child_left()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository to take the files from")
def test_the_example_runs_as_it_is_from_a_fresh_clone(clone: Path) -> None:
    """Feed, start, report: three commands, and the working tree is as clean as before."""
    (clone.parent / "files").mkdir()
    for number in range(20):
        (clone.parent / "files" / str(number)).write_text(str(number))

    def python(*arguments: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(clone)}
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(
            command, cwd=clone, env=env, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True
        ).stdout

    assert python("examples.checksum", "feed", "../files").startswith("20 files queued")
    config = ("-c", "config.example.toml")
    env = {**os.environ, "PYTHONPATH": str(clone)}
    master = subprocess.Popen([sys.executable, "-m", "supervisor", "start", *config], cwd=clone, env=env)
    try:
        database = clone / ".run" / "checksum.sqlite"
        while finished(database) < 20:
            assert master.poll() is None
        assert "checksum.1" in python("supervisor", "status", *config)
    finally:
        master.terminate()
    assert master.wait(PATIENCE) == 0
    words = " ".join(python("examples.checksum", "report").split())
    assert words.startswith("waiting 0 claimed 0 finished 20 errors 0 duplicates 0")
    assert {p.name for p in clone.iterdir()} - {p.name for p in ROOT.iterdir()} <= {".run"}


def finished(database: Path) -> int:
    with contextlib.closing(sqlite3.connect(database, timeout=PATIENCE)) as connection:
        return int(connection.execute("SELECT count(*) FROM results").fetchone()[0])
