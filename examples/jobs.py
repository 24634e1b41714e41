"""A job queue in one SQLite file: claim, finish, release, take back.

Knows jobs, results and which lives hold claims; nothing of supervision or of
what a job does.  The rule it keeps: a job's result and its new state are one
transaction, so a death at any moment leaves a job either finished or not, never
half.  A result is never overwritten: a job that is finished again gets a second
row, and the view `duplicates` shows it.  A job that was purged leaves its result,
and its number is never used again.

A *life* is one run of one worker.  It holds a flock on a file of its own beside
the database as long as it lives; the kernel drops the lock with the process, so
"is the holder of this claim dead?" has an exact answer that no reused pid can
forge.  (The worker's slot alone would nearly do, for the supervisor never has
two workers in one slot.  But when the master is killed, its workers still finish
while the next master starts its own; and a slot that was scaled away never comes
back to release anything.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

BUSY_TIMEOUT = 30.0  # seconds; SQLite allows one writer at a time, the others wait

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, -- never the number of a job that was purged
        path BLOB NOT NULL UNIQUE, -- bytes: a file's name need not be text
        state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'claimed', 'finished')),
        claimed_by TEXT,
        claimed_at REAL,
        CHECK ((state = 'claimed') = (claimed_by IS NOT NULL)))""",
    "CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, claimed_by)",
    """CREATE TABLE IF NOT EXISTS results (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL, -- not unique: see the module's text; its row may have been purged
        file BLOB NOT NULL, -- the job's path
        digest TEXT,
        error TEXT,
        worker TEXT NOT NULL,
        finished_at REAL NOT NULL,
        CHECK ((digest IS NULL) <> (error IS NULL)))""",
    "CREATE INDEX IF NOT EXISTS results_by_job ON results (job)",
    """CREATE VIEW IF NOT EXISTS duplicates AS
        SELECT job, count(*) AS times FROM results GROUP BY job HAVING times > 1""",
)

WAITING = "SELECT id, path FROM jobs WHERE state = 'waiting' LIMIT ?"
CLAIM = "UPDATE jobs SET state = 'claimed', claimed_by = ?, claimed_at = ? WHERE id = ?"
RELEASE = """UPDATE jobs SET state = 'waiting', claimed_by = NULL, claimed_at = NULL
    WHERE state = 'claimed' AND claimed_by = ?"""
FINISH = "UPDATE jobs SET state = 'finished', claimed_by = NULL WHERE id = ?"
RESULT = "INSERT INTO results (job, file, digest, error, worker, finished_at) VALUES (?, ?, ?, ?, ?, ?)"
RESULTS = "SELECT count(DISTINCT job), count(*), count(error) FROM results"
PURGE = """DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE state = 'finished'
    AND NOT EXISTS (SELECT 1 FROM results WHERE job = jobs.id AND finished_at >= ?) LIMIT ?)"""
BYTES = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
STEPS = 10_000  # of SQLite's virtual machine between two looks at `stopping`: a few milliseconds at most


@dataclass(frozen=True)
class Job:
    """A claimed file, and the row that stands for it."""

    id: int
    path: bytes


class Queue:
    """One connection to the queue; with a worker's name, also a life that can hold claims."""

    def __init__(self, path: str, worker: str | None = None) -> None:
        self._lives = f"{path}-lives"
        os.makedirs(self._lives, exist_ok=True)  # and with it the database's own folder
        self._worker = worker
        self._lock: int | None = None
        with self._alone():
            self._database = connect(path)
            if worker is not None:
                self._lock, file = tempfile.mkstemp(prefix=f"{worker}-", dir=self._lives)
                self._life = os.path.basename(file)
                fcntl.flock(self._lock, fcntl.LOCK_EX)

    def add(self, paths: Iterable[bytes]) -> int:
        """Put files into the queue; those it knows already are left as they are."""
        with self._transaction():
            before = self._database.total_changes
            self._database.executemany("INSERT OR IGNORE INTO jobs (path) VALUES (?)", [(p,) for p in paths])
            return self._database.total_changes - before

    def claim(self, limit: int) -> list[Job]:
        """Take up to so many waiting jobs for this life; none when nothing waits."""
        if not self._database.execute(WAITING, (1,)).fetchone():
            return []  # looked at without the write lock, so that idle workers hinder nobody
        with self._transaction():
            jobs = [Job(*row) for row in self._database.execute(WAITING, (limit,))]
            self._database.executemany(CLAIM, [(self._life, time.time(), job.id) for job in jobs])
        return jobs

    def finish(self, job: Job, *, digest: str | None = None, error: str | None = None) -> None:
        """Record the result and close the job, both or neither."""
        with self._transaction():
            self._database.execute(RESULT, (job.id, job.path, digest, error, self._worker, time.time()))
            self._database.execute(FINISH, (job.id,))

    def release(self) -> int:
        """Put back every job that this life holds and has not finished."""
        with self._transaction():
            return self._database.execute(RELEASE, (self._life,)).rowcount

    def take_back(self) -> int:
        """Put back the jobs of lives that ended without doing so themselves."""
        with self._alone():
            dead = [life for life in self._known_lives() if not self._lives_on(life)]
            if not dead:
                return 0
            with self._transaction():
                back = sum(self._database.execute(RELEASE, (life,)).rowcount for life in dead)
            for life in dead:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._lives, life))
        return back

    def purge(self, before: float, limit: int) -> int:
        """Remove up to so many jobs that were finished before then; their results stay."""
        with self._transaction():
            return self._database.execute(PURGE, (before, limit)).rowcount

    def vacuum(self, stopping: Callable[[], bool]) -> int | None:
        """Write the file anew without gaps; bytes saved, or None when a stop came first: all is as it was."""
        before = self._bytes()
        self._database.set_progress_handler(stopping, STEPS)
        try:
            self._database.execute("VACUUM")
        except sqlite3.OperationalError:
            if stopping():
                return None
            raise
        finally:
            self._database.set_progress_handler(None, 0)
        return before - self._bytes()

    def _bytes(self) -> int:
        return int(self._database.execute(BYTES).fetchone()[0])

    def counts(self) -> dict[str, Any]:
        """How the queue stands, read at one moment."""
        with self._transaction("BEGIN"):
            states = dict(self._database.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
            finished, results, errors = self._database.execute(RESULTS).fetchone()
            duplicates = self._database.execute("SELECT job, times FROM duplicates ORDER BY job").fetchall()
            workers = dict(self._database.execute("SELECT worker, count(*) FROM results GROUP BY worker"))
        return {
            **{state: states.get(state, 0) for state in ("waiting", "claimed")},
            "finished": finished,  # purged ones too
            "results": results,
            "errors": errors,
            "duplicates": [{"job": job, "times": times} for job, times in duplicates],
            "workers": workers,
        }

    def close(self) -> None:
        """Release what is held and end this life."""
        if self._lock is not None:
            self.release()
            os.unlink(os.path.join(self._lives, self._life))
            os.close(self._lock)
            self._lock = None
        self._database.close()

    def _known_lives(self) -> set[str]:
        holders = self._database.execute("SELECT DISTINCT claimed_by FROM jobs WHERE state = 'claimed'")
        return {life for (life,) in holders} | set(os.listdir(self._lives))

    def _lives_on(self, life: str) -> bool:
        try:
            file = os.open(os.path.join(self._lives, life), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time: nobody judges a life between its file and its lock."""
        folder = os.open(self._lives, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        # IMMEDIATE takes the write lock at the start, where the busy timeout works;
        # a read that turns into a write later fails at once instead of waiting.
        self._database.execute(begin)
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def connect(path: str) -> sqlite3.Connection:
    """Open the database, made on first use.

    WAL lets readers go on beside the one writer.  synchronous=NORMAL: a commit
    survives the death of any process; after a power cut the last few may be
    gone, whole, and their jobs are done again.
    """
    # Used by one thread at a time, but a hook that closes it may run in another than the target.
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        for statement in SCHEMA:
            database.execute(statement)
    except sqlite3.Error:  # no database, or not to be written
        database.close()
        raise
    return database
