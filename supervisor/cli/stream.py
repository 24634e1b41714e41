"""The events of one master, also for who reads them too slowly.

The master drops a stream that piles up unread, at times without a word. So the end of a stream does
not tell that the master has left: whether it has is found out by following it anew.
Knows nothing of what the events mean.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from supervisor import log
from supervisor.control.client import Client, ControlError, Event, LeftError, NoMasterError

DROPPED = "stream.dropped"


class Stream:
    """Every event of the master that was there first; where some were left out, a `DROPPED` stands."""

    def __init__(self, client: Client, stack: ExitStack) -> None:
        self._client, self._stack = client, stack
        self._events = stack.enter_context(client.events())
        self.pid = self._events.pid
        self._last: object = None

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None if none came within ``timeout`` seconds.

        Raises:
            EOFError: the master has left.
        """
        try:
            event = self._events.next(timeout)
        except EOFError:
            if self._last == "master.exiting":
                raise
            event = {"event": DROPPED}
        if event is not None and event.get("event") == DROPPED:
            self._follow_anew()
            event = log.make(DROPPED, wall=time.time())
        if event is not None:
            self._last = event.get("event")
        return event

    def _follow_anew(self) -> None:
        self._stack.close()
        try:
            self._events = self._stack.enter_context(self._client.events())
        except (NoMasterError, LeftError):
            raise EOFError from None
        if self._events.pid != self.pid:  # its successor
            raise EOFError


@contextmanager
def streamed(client: Client) -> Iterator[Stream]:
    """Once entered, nothing is missed, or it is said."""
    with ExitStack() as stack:
        yield Stream(client, stack)


def left() -> ControlError:
    """What to say when the master has left and nobody asked it to."""
    return ControlError("the master left meanwhile; its log says why")
