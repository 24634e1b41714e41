"""The state file: what is kept of tasks, in SQLite.

Knows rows and transactions; knows no task and no clock: what a row means is
decided elsewhere.  `load` is for the start, `Store` for the one process that
writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from supervisor.errors import StartError
from supervisor.store import place, schema, sound, words
from supervisor.store.connection import connected, transaction
from supervisor.stored import KEPT_RUNS, Row, RunRow, Stored, TaskRow

LAST_RUN = 2**63 - 1
KEPT_SECONDS = 30 * 86400.0  # the history of a task that was removed

_LAST_RUNS = (  # of those that began
    "SELECT runs.* FROM tasks JOIN runs"
    " ON runs.run = (SELECT max(run) FROM runs AS own"
    " WHERE own.task = tasks.task AND own.outcome IS NOT 'queued' AND own.outcome IS NOT 'skipped')"
)
_LAST_FIRED = _LAST_RUNS.replace("own.task = tasks.task", "own.task = tasks.task AND own.due IS NOT NULL")
_UNFINISHED = "SELECT * FROM runs WHERE outcome IN ('running', 'queued') ORDER BY run"
_HISTORY = "SELECT * FROM runs WHERE task = ? AND run < ? ORDER BY run DESC LIMIT ?"
_PRUNE = (
    "DELETE FROM runs WHERE task = :task AND run <="
    " (SELECT run FROM runs WHERE task = :task ORDER BY run DESC LIMIT 1 OFFSET :kept)"
)
_OLD = "WHERE task IN (SELECT task FROM tasks WHERE state = 'removed' AND changed_at < ?)"


class Store:
    """The open file.  Errors are sqlite3.Error, OSError or StartError; `words.explained` has words for them.

    After an error nothing of the transaction is there, and the next call tries anew.
    """

    def __init__(self, path: str, *, check: bool = False) -> None:
        """``check``: read every page first; sqlite3.DatabaseError if one is damaged."""
        self.path, self._check = path, check
        self._identity: place.Identity | None = None
        self._connection: sqlite3.Connection | None = None
        self._open()

    # -- writing ---------------------------------------------------------------

    def apply(self, rows: Iterable[Row], now: float) -> None:
        """Have all these rows, or none.  ``now``: seconds since the epoch, for what is old enough to go."""
        with self._ready() as connection:
            _write(connection, list(rows), now)

    # -- reading ---------------------------------------------------------------

    def tasks(self) -> list[TaskRow]:
        """The row of each task, removed ones too."""
        with self._ready() as connection:
            return list(_rows(self.path, connection.execute("SELECT * FROM tasks ORDER BY task")))

    def last_runs(self) -> list[RunRow]:
        """The row of the last run of each task that had one; of those that began."""
        with self._ready() as connection:
            return list(_rows(self.path, connection.execute(_LAST_RUNS)))

    def last_fired(self) -> dict[str, float]:
        """For which due time the newest run was that was for one, of each task that had such a run."""
        with self._ready() as connection:
            return {row["task"]: row["due"] for row in _rows(self.path, connection.execute(_LAST_FIRED))}

    def unfinished(self) -> list[RunRow]:
        """The rows of runs whose end was not written."""
        with self._ready() as connection:
            return list(_rows(self.path, connection.execute(_UNFINISHED)))

    def history(self, task: str, limit: int, before: int | None = None) -> list[RunRow]:
        """Its last runs, the newest first; of those ``before`` a run."""
        asked = (task, LAST_RUN if before is None else before, limit)
        with self._ready() as connection:
            return list(_rows(self.path, connection.execute(_HISTORY, asked)))

    def next_run(self) -> int:
        """A number that no run has, nor had before it was pruned."""
        with self._ready() as connection:
            found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'runs'").fetchone()
            return int(found[0]) + 1 if found else 1

    # -- the file --------------------------------------------------------------

    @contextmanager
    def _ready(self) -> Iterator[sqlite3.Connection]:
        """The connection; what went wrong with it is found out by opening the file anew, the next time."""
        connection = self._there()
        try:
            yield connection
        except sqlite3.Error as error:
            if not str(error).startswith(("database or disk is full", "database is locked")):
                self.close()
            raise

    def _there(self) -> sqlite3.Connection:
        if self._connection is None:
            self._open()
        elif (found := place.identity(self.path)) != self._identity:
            self._restore(found)
        assert self._connection is not None
        return self._connection

    def _restore(self, found: place.Identity | None) -> None:
        """The file was removed: what it held can still be read, and is put back as it was."""
        if found is not None:
            advice = "restart the master to use that one, or move it away to keep what this master knows"
            raise StartError(
                f"state file {self.path}: it was replaced by another file while in use; {advice}"
            )
        connection = self._connection
        assert connection is not None
        self._make(lambda new: connection.execute("VACUUM INTO ?", (new,)))
        self.close()
        self._open()

    def _open(self) -> None:
        place.prepare(self.path)
        if not place.exists(self.path):
            self._make(lambda new: connected(new).close())
        place.check(self.path)
        self._identity = place.identity(self.path)
        self._connection = connected(self.path, check=self._check)

    def _make(self, fill: Callable[[str], object]) -> None:
        """Elsewhere first: under its own name it is never half a file, whatever the disk or a kill does."""
        new = f"{self.path}-new"
        place.make(new)
        try:
            fill(new)
            place.put(new, self.path)
        except BaseException:
            place.discard(new)
            raise

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):  # the last of its work is for tidiness: the WAL is kept as it is
                connection.close()


def load(path: str) -> dict[str, Stored]:
    """What is known of each task, in a file that is made if there is none.

    Raises:
        StartError: it cannot be used; says why and what to do.
    """
    try:
        with closing(Store(path, check=True)) as store:
            return _stored(store)
    except (sqlite3.Error, OSError) as error:
        raise StartError(words.explained(path, error)) from error


def _stored(store: Store) -> dict[str, Stored]:
    runs, next_run = {run["task"]: run for run in store.last_runs()}, store.next_run()
    unfinished: dict[str, list[RunRow]] = {}
    for run in store.unfinished():
        unfinished.setdefault(run["task"], []).append(run)
    fired = store.last_fired()
    return {
        name: Stored(row, runs.get(name), next_run, tuple(unfinished.get(name, ())), fired.get(name))
        for row in store.tasks()
        for name in [row["task"]]
    }


# -- rows ----------------------------------------------------------------------


def _write(connection: sqlite3.Connection, rows: list[Row], now: float) -> None:
    with transaction(connection):
        for row in rows:
            _upsert(connection, dict(row))
        tasks = dict.fromkeys(row["task"] for row in rows if "run" in row)
        connection.executemany(_PRUNE, [{"task": task, "kept": KEPT_RUNS} for task in tasks])
        for table in ("runs", "tasks"):
            connection.execute(f"DELETE FROM {table} {_OLD}", (now - KEPT_SECONDS,))  # noqa: S608  # two constants


def _upsert(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    table, key, columns = ("runs", "run", schema.RUN) if "run" in row else ("tasks", "task", schema.TASK)
    if set(row) != set(columns):
        raise ValueError(f"a row of {table} has other columns: {', '.join(row)}")
    connection.execute(schema.upsert(table, key, columns), [_value(row[column]) for column in columns])


def _value(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return json.dumps(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a surrogate pair has no place in UTF-8
    return value


def _rows(path: str, found: Iterable[sqlite3.Row]) -> Iterator[Any]:
    for row in found:
        values = dict(row)
        if wrong := sound.problem(values):
            todo = "put back a copy, or move it away to start anew"
            raise StartError(f"state file {path}: it is damaged: {wrong}; {todo}")
        if "lines" in values:
            values["lines"] = sound.lines(values["lines"])
        yield values
