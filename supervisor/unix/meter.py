"""The master's side of the meter: asks what processes hold, hears the answers.

The reading itself waits for the kernel, so it is done by a process of its own,
see `inner.meter`.  Knows the messages; who is to be measured, and what follows,
is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from supervisor.unix.dialogue import Dialogue
from supervisor.unix.loop import Loop


class Meter:
    """At most one question at a time."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._dialogue: Dialogue | None = None
        self._open = False  # a question has no answer yet

    def connect(self) -> int:
        """Make a new channel; the end that the meter is to have.  OSError: no descriptors."""
        self.close()
        self._dialogue = Dialogue(self._loop, "meter")
        return self._dialogue.theirs

    def sealed(self) -> None:
        """The meter is forked, or it could not be."""
        if self._dialogue:
            self._dialogue.sealed()

    def ask(self, pids: Iterable[int]) -> None:
        """Ask for the memory of ``pids``; nothing while the last question is open, or nobody is there."""
        if self._dialogue and not self._open:
            self._open = self._dialogue.send(list(pids))

    def answers(self) -> dict[int, int]:
        """Bytes (PSS) by pid, as far as they have come; who is gone is not among them."""
        sizes: dict[int, int] = {}
        for message in self._dialogue.received() if self._dialogue else ():
            self._open = False
            sizes |= _read(message)
        return sizes

    def close(self) -> None:
        """End of file tells the meter to leave."""
        if self._dialogue:
            self._dialogue.close()
        self._dialogue, self._open = None, False


def _read(message: Any) -> dict[int, int]:
    """JSON knows only texts as keys."""
    pairs = message.items() if isinstance(message, dict) else ()
    return {int(pid): size for pid, size in pairs}
