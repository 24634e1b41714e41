"""The master's side of template processes: asks for workers, hears their pids.

::

    master: {"number": 7, "slot": 2, "fds": ["stdout"]} + descriptors -> template
    template: {"number": 7, "pid": 4711} or {"number": 7, "error": "cannot fork: ..."}

A request ends in exactly one answer, whatever dies when.  At the time of its
answer a worker is already the master's child, and it has not begun: it begins
when its template knows that the answer was sent.  Knows sockets and messages; when
a template or a worker is to be started is decided elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from supervisor.exits import LONGEST_ERROR
from supervisor.unix.channel import Channel, Message, close_all
from supervisor.unix.loop import Loop

GONE = "its template process is gone"

Answer = tuple[int, int | str]  # number, and the pid or why there is none


@dataclass
class _Template:
    channel: Channel
    asked: set[int] = field(default_factory=set)  # numbers without an answer


class Templates:
    """One channel for each template process."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._by_key: dict[str, _Template] = {}
        self._answers: list[Answer] = []

    def connect(self, key: str) -> int:
        """Make a new channel for ``key``; the end that the template is to have.  OSError: no descriptors."""
        self.forget(key)
        channel, theirs = Channel.to_child(self._loop, "template")
        self._by_key[key] = _Template(channel)
        return theirs

    def sealed(self, key: str) -> None:
        """The template is forked, or it could not be."""
        self._by_key[key].channel.sealed()

    def request(self, key: str, number: int, slot: int, stdout: int | None, stderr: int | None) -> None:
        """Ask for a worker.  Never blocks; the descriptors may be closed at once."""
        template = self._by_key.get(key)
        if template is None:
            self._answers.append((number, GONE))
            return
        streams = {"stdout": stdout, "stderr": stderr}
        given = {name: fd for name, fd in streams.items() if fd is not None}
        try:
            copies = _copies(given.values())
        except OSError as error:  # EMFILE
            self._answers.append((number, f"cannot ask its template: {error.strerror}"))
            return
        template.asked.add(number)
        template.channel.send({"number": number, "slot": slot, "fds": [*given]}, copies, ours=True)

    def answers(self) -> list[Answer]:
        """What has come since the last time, from all templates."""
        for template in self._by_key.values():
            template.channel.flush()
            self._take(template, template.channel.messages())
        answers, self._answers = self._answers, []
        return answers

    def _take(self, template: _Template, messages: Iterable[Message]) -> None:
        """The application's code runs in a template: nothing that comes from there is trusted."""
        for message in messages:
            answer = _read(message)
            if answer and answer[0] in template.asked:
                template.asked.discard(answer[0])
                self._answers.append(answer)

    def closed(self, key: str) -> list[tuple[int, str]]:
        """The template is dead: the requests that will never have an answer.

        Answers that came before its death are still in `answers`.
        """
        template = self._by_key.pop(key, None)
        if template is None:
            return []
        self._take(template, template.channel.last())
        template.channel.close()
        return [(number, GONE) for number in sorted(template.asked)]

    def forget(self, key: str) -> None:
        """Let the template go: end of file tells it to leave.  `answers` tells of open requests."""
        self._answers += self.closed(key)


def _read(message: Message) -> Answer | None:
    match message:
        case {"number": int(number), "pid": int(pid)} if pid > 1:
            return number, pid
        case {"number": int(number), "error": str(error)}:
            return number, error[:LONGEST_ERROR]
    return None


def _copies(fds: Iterable[int]) -> tuple[int, ...]:
    """Descriptors of our own; all or none."""
    copies: list[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(fd))  # noqa: PERF401  # a comprehension would lose those made before the error
    except OSError:
        close_all(copies)
        raise
    return tuple(copies)
