"""The keeper of the state file: writes what the master has decided of tasks, and reads their history.

The target of the inner pool ``@store``, and the only writer.  A disk may block
or fail, and SQLite may wait for a lock: the master must not.  All that has come
meanwhile is one transaction.  Each message is answered, whatever happens: what
could not be stored is said to be so, with the reason, and the next one is tried
anew.

``{"save": token, "rows": [...], "more": bool}`` -> ``{"saved": token}``
``{"history": token, "task": name, "limit": count, "before": run}`` -> ``{"found": token, "rows": [...],
"whole": count}``, of which the first so many are whole, where not all that was asked for is there;
or, to either, ``{"failed": token, "why": text}``
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from supervisor.store import Store, words
from supervisor.unix.channel import Channel, Message
from supervisor.unix.loop import Loop
from supervisor.worker import Worker

ROOM = 60_000  # bytes of rows in one answer
LAST_SECONDS = 0.25  # for the master to take the last answers


def run(worker: Worker) -> None:
    """Keep the file ``worker.options["path"]`` until a stop; then first what has come before it."""
    Keeper(worker).run()


class Keeper:
    """Everything that the process holds."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._loop = worker, Loop()
        self._path: str = worker.options["path"]
        self._store: Store | None = None  # not open yet, or it could not be opened
        self._parts: dict[int, list[Any]] = {}  # of saves that have not come whole
        self._channel = Channel(self._loop, worker.sockets["channel"], "channel")
        self._loop.watch(worker.fileno(), "stop")

    def run(self) -> None:
        """The whole life."""
        while not self._worker.stopping and not self._channel.closed:
            self._loop.poll(None)
            self._work()
        while self._work():
            pass
        self._channel.finish(LAST_SECONDS)
        self._channel.close()
        if self._store:
            self._store.close()

    def _work(self) -> bool:
        """Answer all that has come; false if that was nothing."""
        self._channel.flush()
        messages = self._channel.messages()
        self._save([token for message in messages if (token := self._collected(message)) is not None])
        for message in messages:
            self._answer(message)
        return bool(messages)

    # -- saving ----------------------------------------------------------------

    def _collected(self, message: Message) -> int | None:
        """The number of a save that has come whole now."""
        match message:
            case {"save": int(token), "rows": list(rows), "more": bool(more)}:
                self._parts.setdefault(token, []).extend(rows)
                return None if more else token
        return None

    def _save(self, tokens: list[int]) -> None:
        rows = [row for token in tokens for row in self._parts.pop(token)]
        if not tokens:
            return
        try:
            self._opened().apply(rows, time.time())
            answers: list[Message] = [{"saved": token} for token in tokens]
        except Exception as error:  # whatever it is, the master must know that nothing was stored
            why = words.explained(self._path, error)
            answers = [{"failed": token, "why": why} for token in tokens]
        for answer in answers:
            self._channel.send(answer)

    # -- reading ---------------------------------------------------------------

    def _answer(self, message: Message) -> None:
        match message:
            case {"history": int(token), "task": str(task), "limit": int(limit), "before": before}:
                self._channel.send(self._history(token, task, limit, before))

    def _history(self, token: int, task: str, limit: int, before: int | None) -> Message:
        try:
            rows = self._opened().history(task, limit, before)
            found, whole = fitting(rows)
            return {"found": token, "rows": found, "whole": whole if whole < len(rows) else None}
        except Exception as error:  # as above
            return {"failed": token, "why": words.explained(self._path, error)}

    def _opened(self) -> Store:
        self._store = self._store or Store(self._path)
        return self._store


def fitting(rows: Iterable[Any]) -> tuple[list[Any], int]:
    """As many of them as have room; and how many, from the first, with the lines that they printed."""
    left, found, whole = ROOM, [], 0
    for row in rows:
        bare = {**row, "lines": []}
        left -= _size(bare)
        if left < 0:
            break
        found.append((row, bare))
    for row, bare in found:
        left -= _size(row["lines"])
        if left < 0:
            break
        bare["lines"] = row["lines"]
        whole += 1
    return [bare for _, bare in found], whole


def _size(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":"))) + 1
