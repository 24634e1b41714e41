"""A connection to the state file: how it is opened, what makes a commit last.

What was committed outlives kill -9 and a power loss:

- WAL: a commit is one append and one fsync(2), and nobody who reads holds it up;
- synchronous = EXTRA: also where the file system knows no shared memory, so that SQLite
  falls back to a rollback journal, whose removal must then reach the disk as well.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from supervisor.errors import StartError
from supervisor.store import schema

PATIENCE = 2.0  # seconds for another program to finish its transaction


def connected(path: str, *, check: bool = False) -> sqlite3.Connection:
    """The file, in the newest version and proven to be writable; close it yourself.

    ``check``: every page is looked at before anything is written; sqlite3.DatabaseError if one is damaged.
    """
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        _refuse_strangers(connection, path)
        if check:
            _refuse_damaged(connection)
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA journal_mode = WAL")
        with transaction(connection):
            schema.migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_strangers(connection: sqlite3.Connection, path: str) -> None:
    """Before anything in it is changed."""
    found = schema.version(connection)
    if found > schema.VERSION:
        raise StartError(
            f"state file {path}: it is of a newer version of supervisord-lite (format {found}, this one "
            f"knows {schema.VERSION}); use that version, or move the file away to start anew"
        )
    if found < 0:
        raise StartError(f"state file {path}: it holds the tables of another program; move it away")


def _refuse_damaged(connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError("database disk image is malformed")
    if schema.version(connection) == schema.VERSION:
        for table, columns in (("tasks", schema.TASK), ("runs", schema.RUN)):
            connection.execute(f"SELECT {', '.join(columns)} FROM {table} LIMIT 0")  # noqa: S608  # constants


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have ended it already
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise
