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
    """One question at a time; what is asked meanwhile is the next one."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._dialogue: Dialogue | None = None
        self._wanted: set[int] = set()  # to be asked about
        self._asked: set[int] = set()  # in the question that has no answer yet

    def connect(self) -> int:
        """Make a new channel; the end that the meter is to have.  OSError: no descriptors."""
        dialogue = Dialogue(self._loop, "meter")
        self.close()
        self._dialogue = dialogue
        self._ask()
        return dialogue.theirs

    def sealed(self) -> None:
        """The meter is forked, or it could not be."""
        if self._dialogue:
            self._dialogue.sealed()

    def ask(self, pids: Iterable[int]) -> None:
        """Ask for the memory of ``pids``; where nobody is there, the next meter is asked."""
        self._wanted.update(pids)
        self._ask()

    def _ask(self) -> None:
        if self._dialogue and self._wanted and not self._asked and self._dialogue.send(sorted(self._wanted)):
            self._asked, self._wanted = self._wanted, set()

    def answers(self) -> dict[int, int]:
        """Bytes (PSS) by pid, as far as they have come; who is gone is not among them."""
        sizes: dict[int, int] = {}
        for message in self._dialogue.received() if self._dialogue else ():
            self._asked = set()
            sizes |= _read(message)
        self._ask()
        return sizes

    def close(self) -> None:
        """End of file tells the meter to leave."""
        if self._dialogue:
            self._dialogue.close()
        self._dialogue = None
        self._wanted, self._asked = self._wanted | self._asked, set()


def _read(message: Any) -> dict[int, int]:
    """JSON knows only texts as keys."""
    pairs = message.items() if isinstance(message, dict) else ()
    return {int(pid): size for pid, size in pairs}
