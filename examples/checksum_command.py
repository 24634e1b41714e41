"""The command beside the checksum worker: feed the queue, report on it.

Knows what a person types and reads; the queue itself is `examples.jobs`.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

from examples.checksum import DATABASE
from examples.jobs import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

AT_ONCE = 1000  # files put in by one transaction, so that workers get their turn in between


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a failure is one line and exit status 1."""
    given = parser().parse_args(arguments)
    try:
        given.command(given)
    except (OSError, sqlite3.Error) as error:
        fail(f"{given.database}: {error}; is it a queue that you may write to?")


def parser() -> argparse.ArgumentParser:
    """Read ``feed FOLDER`` and ``report [--json]``."""
    whole = argparse.ArgumentParser(
        prog="python -m examples.checksum", description="A queue of files to checksum."
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    feed_command = commands.add_parser("feed", help="put every file below a folder into the queue")
    feed_command.add_argument("folder", metavar="FOLDER")
    feed_command.set_defaults(command=feed)
    report_command = commands.add_parser("report", help="say how the queue stands")
    report_command.add_argument("--json", action="store_true", help="for programs")
    report_command.set_defaults(command=report)
    for command in (feed_command, report_command):
        command.add_argument("--database", metavar="PATH", default=DATABASE, help="default: %(default)s")
    return whole


def feed(given: argparse.Namespace) -> None:
    """Queue all regular files of a tree; files that are queued already are left alone."""
    folder = os.path.realpath(given.folder)
    if not os.path.isdir(folder):
        fail(f"{given.folder}: no such folder; name one whose files are to be checksummed")
    files = files_below(folder, os.path.realpath(given.database))
    seen = added = 0
    with closing(Queue(given.database)) as queue:
        while some := list(islice(files, AT_ONCE)):
            seen += len(some)
            added += queue.add(some)
    print(f"{added} files queued, {seen - added} were known already")


def files_below(folder: str, database: str) -> Iterator[bytes]:
    """Yield paths of regular files, without links, and without the queue's own files.

    Those would be worse than useless: closing any second descriptor of a file
    drops the locks that SQLite holds on it in this process (fcntl(2)).
    """
    own = os.fsencode(database)
    beside = own + b"-"  # -wal, -shm, -lives
    for place, _, names in os.walk(os.fsencode(folder), onerror=skipped):
        for name in names:
            path = os.path.join(place, name)
            ours = path == own or path.startswith(beside)
            if not ours and os.path.isfile(path) and not os.path.islink(path):
                yield path


def skipped(error: OSError) -> None:
    """Tell of a folder that cannot be listed; the others are fed all the same."""
    print(f"checksum: skipped {os.fsdecode(error.filename)}: {error.strerror}", file=sys.stderr)


def report(given: argparse.Namespace) -> None:
    """Print the counts, and every job that was finished more than once."""
    if not os.path.exists(given.database):
        fail(f"{given.database}: no such queue; make one with: python -m examples.checksum feed FOLDER")
    with closing(Queue(given.database)) as queue:
        counts = queue.counts()
    print(json.dumps(counts) if given.json else in_words(counts))


def in_words(counts: dict[str, Any]) -> str:
    """Lay the counts out for a person."""
    lines = [f"{word:<12}{counts[word]:>9}" for word in ("waiting", "claimed", "finished", "errors")]
    lines.append(f"{'duplicates':<12}{len(counts['duplicates']):>9}")
    lines += [f"  job {each['job']} was finished {each['times']} times" for each in counts["duplicates"]]
    lines += [f"  by {worker:<18}{done:>9}" for worker, done in sorted(counts["workers"].items())]
    return "\n".join(lines)


def fail(message: str) -> NoReturn:
    """Leave with one line that says what to do."""
    print(f"checksum: {message}", file=sys.stderr)
    sys.exit(1)
