"""The rows of tasks as they were last written, so that only what has changed is.

Knows what the state file was told; knows nothing of what a row means.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from supervisor.decide.actions import Note
from supervisor.decide.ledger import Ledger
from supervisor.decide.recall import REMOVED, cut_short, removed, told
from supervisor.stored import Stored, TaskRow


class Register:
    """Those of all tasks, also of some that were removed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rows: dict[str, TaskRow] = {}

    def learn(self, stored: Mapping[str, Stored]) -> Iterator[Note]:
        """What the state file holds; the runs that were cut short are told of."""
        self._rows |= {name: one.task for name, one in stored.items()}
        for row in cut_short(stored.values()):
            self._ledger.write(row)
            yield told(row)

    def keep(self, row: TaskRow) -> None:
        """It stands so."""
        if row != self._rows.get(row["task"]):
            self._rows[row["task"]] = row
            self._ledger.write(row)

    def written(self, name: str, row: TaskRow | None) -> None:
        """Somebody else has written it; None where it is not known what."""
        self._rows.pop(name, None)
        if row is not None:
            self._rows[name] = row

    def forget(self, row: TaskRow, wall: float) -> None:
        """The task is no longer configured."""
        self._rows.pop(row["task"], None)
        if row["state"] != REMOVED:
            self._ledger.write(removed(row, wall))
