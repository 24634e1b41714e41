"""The tables of the state file, and how an older one becomes a newer one.

Knows SQL and the version that stands in the file (PRAGMA user_version).  A step,
once released, is never changed: a new one is added behind it.  Knows no errors
and no rows.
"""

from __future__ import annotations

import sqlite3

TASK = (
    "task",
    "state",
    "reason",
    "error",
    "by",
    "paused_until",
    "failures",
    "anchor",
    "last_due",
    "schedule",
    "changed_at",
)
RUN = ("run", "task", "by", "due", "started_at", "seconds", "outcome", "code", "signal", "reason", "lines")

# STEPS[n] leads from version n to n + 1.  AUTOINCREMENT: no number of a run that was pruned comes again.
STEPS = (
    """
    CREATE TABLE tasks (
        task TEXT PRIMARY KEY, state TEXT NOT NULL, reason TEXT, error TEXT, by TEXT, paused_until REAL,
        failures INTEGER, anchor REAL, last_due REAL, schedule TEXT, changed_at REAL
    );
    CREATE TABLE runs (
        run INTEGER PRIMARY KEY AUTOINCREMENT, task TEXT NOT NULL, by TEXT, due REAL, started_at REAL,
        seconds REAL, outcome TEXT, code INTEGER, signal TEXT, reason TEXT, lines TEXT
    );
    CREATE INDEX runs_of_a_task ON runs (task, run);
    """,
)
VERSION = len(STEPS)


def version(connection: sqlite3.Connection) -> int:
    """The version of the file; 0 for one without tables, -1 for one with the tables of somebody else."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found:
        return int(found)
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return -1 if tables else 0


def migrate(connection: sqlite3.Connection) -> None:
    """Make it the newest version, in the transaction that is open.

    The version is written also where it is right already: so every open proves that writing works.
    """
    for step in STEPS[version(connection) :]:
        for statement in step.split(";"):  # executescript() would commit
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def upsert(table: str, key: str, columns: tuple[str, ...]) -> str:
    """One row, whether it was there or not."""
    changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
    names, marks = ", ".join(columns), ", ".join("?" for _ in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET {changes}"  # noqa: S608  # all from the constants above
