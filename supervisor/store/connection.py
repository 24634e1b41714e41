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


def connected(path: str) -> sqlite3.Connection:
    """The file, in the newest version and proven to be writable; close it yourself."""
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        _refuse_strangers(connection, path)
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
