"""What is to be stored, what was handed over, and what could not be stored.

A later row of the same key replaces an earlier one.  While the store cannot be
written, rows are kept, the newest of them, and handed over again now and then, in a
stop more often, and what comes new at once; people are told when that begins, when it
is over, and at the end what is lost.  Knows nothing of tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from supervisor.decide.actions import Note
from supervisor.decide.task_actions import Save
from supervisor.stored import Key, Row, key

AGAIN_SECONDS = 30.0  # between two tries while the store cannot be written
LAST_SECONDS = 1.0  # the same in a stop: there is not much time left
MOST_RUNS = 1000  # that are kept while it cannot
MOST_ROWS = 100  # in one message
MOST_OPEN = 64  # messages without an answer


class Ledger:
    """Rows on their way to the store."""

    def __init__(self, tokens: Iterator[int]) -> None:
        self._tokens = tokens
        self._rows: dict[Key, Row] = {}
        self._sent: dict[int, dict[Key, Row]] = {}  # in the order in which they will be written
        self._orders: set[int] = set()  # of those, what is not handed over again
        self._runs = self._lost = 0
        self._again_at: float | None = None  # it could not be written, and is left alone until then
        self._trouble: str | None = None
        self._since = 0.0  # wall time
        self._stopping = False
        self._news: list[Note] = []

    @property
    def unwritten(self) -> bool:
        """Something has not reached the store, and has not just failed to."""
        return bool(self._sent or (self._rows and self._again_at is None))

    @property
    def trouble(self) -> dict[str, Any] | None:
        """Since when and why the store cannot be written, and so many changes wait for it."""
        if self._trouble is None:
            return None
        return {"since": self._since, "reason": self._trouble, "changes": self._waiting()}

    def left(self) -> dict[str, Any] | None:
        """At the end: how much is not known to be stored, and why."""
        lost = self._waiting()
        return {"lost": lost, "reason": self._trouble or "no answer from the disk"} if lost else None

    def _waiting(self) -> int:
        sent = {its_key for rows in self._sent.values() for its_key in rows}
        return len(self._rows.keys() | sent) + self._lost

    def write(self, *rows: Row) -> None:
        """To be stored with the next plan."""
        if self._stopping:
            self._again_at = None
        for row in rows:
            self._put(key(row), row)

    def order(self, rows: Sequence[Row]) -> Save:
        """To be stored at once, or not at all: whoever wants it says it anew."""
        token = next(self._tokens)
        self._orders.add(token)
        self._sent[token] = {key(row): row for row in rows}
        for its_key in self._sent[token]:
            self._take(its_key)
        return Save(token, tuple(rows))

    def retry(self, row: Row) -> None:
        """One that was ordered and is not stored: unless there is a newer one of it by now."""
        self._keep({key(row): row})

    def saved(self, token: int) -> None:
        """Fact: all of it is on the disk."""
        self._orders.discard(token)
        if self._sent.pop(token, None) is not None and self._trouble is not None:
            fields = {"reason": f"it could not: {self._trouble}", "lost": self._lost}
            self._news.append(Note("task.stored", None, fields))
            self._trouble, self._lost, self._again_at = None, 0, None

    def stop(self) -> None:
        """What is not stored soon never will be."""
        self._stopping, self._again_at = True, None

    def unsaved(self, token: int, why: str, now: float, wall: float) -> None:
        """Fact: nothing of it is."""
        rows = self._sent.pop(token, None)
        if rows is None:
            return
        if token not in self._orders:
            self._keep(rows)
        self._orders.discard(token)
        self._again_at = now + (LAST_SECONDS if self._stopping else AGAIN_SECONDS)
        if self._trouble is None:
            self._since = wall
            self._news.append(Note("task.unsaved", None, {"reason": why}))
        self._trouble = why

    def deadline(self) -> float | None:
        """When to try again."""
        return self._again_at if self._rows else None

    def plan(self, now: float) -> Iterator[Save | Note]:
        """Hand over what there is."""
        yield from self._news
        self._news.clear()
        if self._again_at is not None and now < self._again_at:
            return
        self._again_at = None
        most = MOST_OPEN if self._trouble is None else 1  # to see whether it can be written again
        while self._rows and len(self._sent) < most:
            some = dict(islice(self._rows.items(), MOST_ROWS))
            for its_key in some:
                self._take(its_key)
            token = next(self._tokens)
            self._sent[token] = some
            yield Save(token, tuple(some.values()))

    def _keep(self, rows: dict[Key, Row]) -> None:
        """What is newer, or on its way, holds."""
        newer = self._rows.keys() | {its_key for sent in self._sent.values() for its_key in sent}
        for its_key in rows.keys() - newer:
            self._put(its_key, rows[its_key])

    def _put(self, its_key: Key, row: Row) -> None:
        self._runs += its_key[0] == "run" and its_key not in self._rows
        self._rows[its_key] = row
        if self._runs > MOST_RUNS:
            self._take(next(old for old in self._rows if old[0] == "run"))
            self._lost += 1

    def _take(self, its_key: Key) -> None:
        if self._rows.pop(its_key, None) is not None:
            self._runs -= its_key[0] == "run"
