"""What is to be stored, what was handed over, and what could not be stored.

A later row of the same key replaces an earlier one.  While the store cannot be
written, rows are kept, the newest of them, and handed over again now and then, in a
stop more often, and what comes new at once; one that is silent is told nothing more
until it answers.  People are told when that begins, when it is over, and at the end
what is lost.  Knows nothing of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
ANSWER_SECONDS = 10.0  # what has no answer then will have none
SILENCE = f"the disk gave no answer within {ANSWER_SECONDS:g} s"


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
        self._until: float | None = None  # it owes an answer
        self._silent = False  # and that time has passed
        self._hurried: set[Key] = set()
        self._news: list[Note] = []

    def silent(self, now: float) -> bool:
        """It has not answered for so long that it is told nothing more."""
        return self._silent or self._is_late(now)

    def unwritten(self, now: float) -> bool:
        """Something has not reached the store, which has not just failed and is not silent."""
        return bool(self._sent or (self._rows and self._again_at is None)) and not self.silent(now)

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

    def at_once(self, row: Row, now: float) -> Save:
        """The same, and whoever wants it waits for the answer."""
        return self._hand_over({key(row): row}, now)

    def order(self, rows: Sequence[Row], now: float) -> Save:
        """To be stored at once, or not at all: whoever wants it says it anew."""
        save = self._hand_over({key(row): row for row in rows}, now)
        self._orders.add(save.token)
        return save

    def hurry(self, keys: Iterable[Key]) -> None:
        """What was ordered of these may still become true: what is to be stored of them follows at once."""
        self._hurried.update(keys)

    def saved(self, token: int, now: float) -> None:
        """Fact: all of it is on the disk."""
        self._orders.discard(token)
        if self._answered(token, now) is not None and self._trouble is not None:
            fields = {"reason": f"it could not: {self._trouble}", "lost": self._lost}
            self._news.append(Note("task.stored", None, fields))
            self._trouble, self._lost, self._again_at = None, 0, None

    def stop(self) -> None:
        """What is not stored soon never will be."""
        self._stopping, self._again_at = True, None

    def unsaved(self, token: int, why: str, now: float, wall: float) -> None:
        """Fact: nothing of it is."""
        rows = self._answered(token, now)
        if rows is None:
            return
        if token not in self._orders:
            self._keep(rows)
        self._orders.discard(token)
        self._again_at = now + (LAST_SECONDS if self._stopping else AGAIN_SECONDS)
        self._fails(why, wall)

    def deadline(self) -> float | None:
        """When to try again, or to have waited long enough."""
        times = (self._again_at if self._rows else None, self._until)
        return min((t for t in times if t is not None), default=None)

    def plan(self, now: float, wall: float) -> Iterator[Save | Note]:
        """Hand over what there is."""
        if self._is_late(now):
            self._until, self._silent = None, True
            self._fails(SILENCE, wall)
        yield from self._news
        self._news.clear()
        if hurried := {its_key: self._rows[its_key] for its_key in self._rows.keys() & self._hurried}:
            yield self._hand_over(hurried, now)
        self._hurried.clear()
        if self._again_at is not None and now < self._again_at:
            return
        self._again_at = None
        most = MOST_OPEN if self._trouble is None else 1  # to see whether it can be written again
        while self._rows and len(self._sent) < most:
            yield self._hand_over(dict(islice(self._rows.items(), MOST_ROWS)), now)

    def _hand_over(self, rows: dict[Key, Row], now: float) -> Save:
        for its_key in rows:
            self._take(its_key)
        if not self._sent:
            self._until = now + ANSWER_SECONDS
        token = next(self._tokens)
        self._sent[token] = rows
        return Save(token, tuple(rows.values()))

    def _answered(self, token: int, now: float) -> dict[Key, Row] | None:
        """The rows of this message; whoever answers one may take as long for the next."""
        rows = self._sent.pop(token, None)
        if rows is not None:
            self._until = now + ANSWER_SECONDS if self._sent else None
            self._silent = False
        return rows

    def _is_late(self, now: float) -> bool:
        return self._until is not None and now >= self._until

    def _fails(self, why: str, wall: float) -> None:
        if self._trouble is None:
            self._since = wall
            self._news.append(Note("task.unsaved", None, {"reason": why}))
        self._trouble = why

    def _keep(self, rows: dict[Key, Row]) -> None:
        """What is newer, or on its way, holds."""
        newer = self._rows.keys() | {its_key for sent in self._sent.values() for its_key in sent}
        kept = {its_key: row for its_key, row in rows.items() if its_key not in newer}
        self._runs += sum(what == "run" for what, _ in kept)
        self._rows = kept | self._rows
        self._lose()

    def _put(self, its_key: Key, row: Row) -> None:
        """The row of a run stands behind all others: those that ended last are lost last."""
        if its_key[0] == "run":
            self._take(its_key)
            self._runs += 1
        self._rows[its_key] = row
        self._lose()

    def _lose(self) -> None:
        """Of too many runs those of which nothing has been heard for longest."""
        while self._runs > MOST_RUNS:
            self._take(next(old for old in self._rows if old[0] == "run"))
            self._lost += 1

    def _take(self, its_key: Key) -> None:
        if self._rows.pop(its_key, None) is not None:
            self._runs -= its_key[0] == "run"
