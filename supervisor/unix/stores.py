"""The master's side of the state file: has rows stored, hears whether they are.

The writing is done by a process of its own, see `inner.store`, since disks block.
If that dies, all that it has not answered is said to the next one: a row replaces
the one with its key, so it does not matter whether it was stored already.
Knows the messages; what is to be stored, and what follows, is decided elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.stored import Row
from supervisor.unix.channel import Channel, Message
from supervisor.unix.loop import Loop

ROOM = 48_000  # bytes of rows in one message; all of them go through one by one, see `channel.LONGEST`


@dataclass(frozen=True)
class Saved:
    """The rows of this save outlive whatever happens now."""

    token: int


@dataclass(frozen=True)
class Failed:
    """Nothing of this save was stored, or this question has no answer; ``why`` says what to do."""

    token: int
    why: str


@dataclass(frozen=True)
class Found:
    """What was asked for; where that is not all of it, so many, from the first, are whole."""

    token: int
    rows: list[Any]
    whole: int | None = None


Answer = Saved | Failed | Found


class Stores:
    """One writer at a time.  The loop reports its channel as ``"store"``: call `answers` then."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._channel: Channel | None = None
        self._open: dict[int, list[Message]] = {}  # in order, by token: what has no answer yet

    # -- the process -----------------------------------------------------------

    def connect(self) -> int:
        """For a new writer: its end of a new channel.  The older one must be dead.  OSError: EMFILE."""
        channel, theirs = Channel.to_child(self._loop, "store")
        self.close()
        self._channel = channel
        for messages in self._open.values():
            self._send(messages)
        return theirs

    def sealed(self) -> None:
        """The writer is forked, or it could not be: close its end here."""
        if self._channel:
            self._channel.sealed()

    def close(self) -> None:
        """End of file tells the writer to leave, once it has written what it was told."""
        if self._channel:
            self._channel.close()
            self._channel = None

    # -- saying ----------------------------------------------------------------

    def save(self, token: int, rows: Iterable[Row]) -> None:
        """Have these rows stored, all or none; ``token`` comes back as `Saved` or `Failed`."""
        parts = list(_parts(rows))
        last = len(parts) - 1
        self._say(token, [{"save": token, "rows": part, "more": n < last} for n, part in enumerate(parts)])

    def ask(self, token: int, question: Mapping[str, Any]) -> None:
        """Ask for the last ``limit`` runs of a ``task`` (``before`` one), newest first.

        `Found` or `Failed` comes back.
        """
        self._say(token, [{"history": token, "before": None, **question}])

    @property
    def waiting(self) -> int:
        """So many saves and questions have no answer yet."""
        return len(self._open)

    def _say(self, token: int, messages: list[Message]) -> None:
        self._open[token] = messages
        self._send(messages)

    def _send(self, messages: list[Message]) -> None:
        for message in messages if self._channel else ():  # else they are said by `connect`
            assert self._channel
            self._channel.send(message)

    # -- hearing ---------------------------------------------------------------

    def answers(self) -> list[Answer]:
        """What has come; also sends on what found no room before."""
        channel = self._channel
        if channel is None:
            return []
        channel.flush()
        found = []
        for message in channel.messages():
            answer = _read(message)
            if answer and self._open.pop(answer.token, None) is not None:
                found.append(answer)
        if channel.closed:
            self.close()
        return found


def _read(message: Message) -> Answer | None:
    match message:
        case {"saved": int(token)}:
            return Saved(token)
        case {"failed": int(token), "why": str(why)}:
            return Failed(token, why)
        case {"found": int(token), "rows": list(rows), "whole": int() | None as whole}:
            return Found(token, rows, whole)
    return None


def _parts(rows: Iterable[Row]) -> Iterator[list[Mapping[str, Any]]]:
    """As many rows at once as one message holds; at least one part, for it wants an answer."""
    part: list[Mapping[str, Any]] = []
    left = ROOM
    for row in rows:
        size = _size(row)
        slim = row if size <= ROOM else _cut(row)
        size = min(size, ROOM)
        if size > left:
            yield part
            part, left = [], ROOM
        part.append(slim)
        left -= size
    yield part


def _cut(row: Row) -> Mapping[str, Any]:
    """A row that no message holds would never be answered: shortened, it is better than none."""
    found: Mapping[str, Any] = dict(row)
    return {k: [] if k == "lines" else v[:1000] if isinstance(v, str) else v for k, v in found.items()}


def _size(row: Row) -> int:
    return len(json.dumps(row, separators=(",", ":"))) + 1
