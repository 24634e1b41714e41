"""The master's side of the meter: asks what processes hold, hears the answers.

The reading itself waits for the kernel, so it is done by a process of its own,
see `inner.meter`.  Knows the messages; who is to be measured, and what follows,
is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.unix.channel import Channel, Message
from supervisor.unix.loop import Loop


class Meter:
    """One question at a time; what is asked meanwhile is the next one."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._channel: Channel | None = None
        self._wanted: set[int] = set()  # to be asked about
        self._asked: set[int] = set()  # in the question that has no answer yet

    def connect(self) -> int:
        """Make a new channel; the end that the meter is to have.  OSError: no descriptors."""
        channel, theirs = Channel.to_child(self._loop, "meter")
        self.close()
        self._channel = channel
        self._ask()
        return theirs

    def sealed(self) -> None:
        """The meter is forked, or it could not be."""
        if self._channel:
            self._channel.sealed()

    def ask(self, pids: Iterable[int]) -> None:
        """Ask for the memory of ``pids``; where nobody is there, the next meter is asked."""
        self._wanted.update(pids)
        self._ask()

    def _ask(self) -> None:
        if self._channel and self._wanted and not self._asked:
            self._channel.send({"pids": sorted(self._wanted)})
            self._asked, self._wanted = self._wanted, set()

    def answers(self) -> dict[int, int]:
        """Bytes (PSS) by pid, as far as they have come; who is gone is not among them."""
        if self._channel is None:
            return {}
        self._channel.flush()
        sizes: dict[int, int] = {}
        for message in self._channel.messages():
            self._asked = set()
            sizes |= _read(message)
        self._ask()
        return sizes

    def close(self) -> None:
        """End of file tells the meter to leave."""
        if self._channel:
            self._channel.close()
        self._channel = None
        self._wanted, self._asked = self._wanted | self._asked, set()


def _read(message: Message) -> dict[int, int]:
    """JSON knows only texts as keys."""
    return {int(pid): size for pid, size in message.items()}
