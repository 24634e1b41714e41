"""Questions to the history that wait for their answers.

Knows who asked and until when an answer is waited for; nothing of what is in it.
A store that is silent is asked only so much: it keeps what nobody waits for any more.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

from supervisor.decide.deadlines import Deadlines
from supervisor.decide.ledger import ANSWER_SECONDS
from supervisor.decide.task_actions import Ask, Reply

MOST_OPEN = 256  # that the store has not answered


class Questions:
    """By their token."""

    def __init__(self, tokens: Iterator[int]) -> None:
        self._tokens = tokens
        self._asked: dict[int, Hashable] = {}
        self._open: set[int] = set()  # these, and those that were given up
        self._until: Deadlines[int] = Deadlines()
        self._news: list[Ask | Reply] = []

    def ask(self, request: Hashable, question: Mapping[str, Any], now: float) -> None:
        """The last ``limit`` runs of a ``task``, wherever it is now; of those ``before`` a run."""
        if len(self._open) >= MOST_OPEN:
            why = f"the history cannot be read: {MOST_OPEN} questions have no answer yet"
            self._news.append(Reply(request, error=why))
            return
        token = next(self._tokens)
        self._open.add(token)
        self._asked[token] = request
        self._until.set(token, now + ANSWER_SECONDS)
        self._news.append(Ask(token, question))

    def answered(self, token: int, rows: Iterable[Mapping[str, Any]], whole: int | None = None) -> None:
        """Fact: what the history holds; where an answer has no room for all, so many runs of it are whole."""
        self._open.discard(token)
        left_out = {} if whole is None else {"whole": whole}
        self._reply(token, {"runs": [*rows], **left_out}, None)

    def failed(self, token: int, why: str) -> None:
        """Fact: it cannot be read."""
        self._open.discard(token)
        self._give_up(token, why)

    def deadline(self) -> float | None:
        """When one has waited too long."""
        return self._until.earliest()

    def plan(self, now: float) -> list[Ask | Reply]:
        """What to ask and to answer."""
        for token in self._until.due(now):
            self._give_up(token, f"no answer within {ANSWER_SECONDS:g} s")
        news, self._news = self._news, []
        return news

    def _give_up(self, token: int, why: str) -> None:
        self._reply(token, None, f"the history cannot be read: {why}")

    def _reply(self, token: int, result: Mapping[str, Any] | None, error: str | None) -> None:
        if token in self._asked:
            self._until.drop(token)
            self._news.append(Reply(self._asked.pop(token), result, error))
