"""Following what was asked for: the events as they come, and now and then a look at the status.

The events are subscribed to before the request is sent, so nothing is missed.
Knows no request and not when one is done: see `ends`, `states` and `reload`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from supervisor.cli.progress import Screen
from supervisor.cli.stream import Stream, streamed
from supervisor.cli.watch import interruptible
from supervisor.control.client import Client, Event

Status = dict[str, Any]

REFRESH = 0.2  # seconds between two looks at the status that somebody sees, or that decide
SILENCE = 10.0  # between two that only find out whether the master still turns


class Following:
    """One request, its events and the screen on which they are shown."""

    def __init__(self, client: Client, stream: Stream, screen: Screen) -> None:
        self._client, self._stream, self.screen = client, stream, screen
        self.pid = stream.pid  # of the master
        self.began = time.monotonic()

    def ask(self, method: str, **params: object) -> Any:
        """The result of the request."""
        return self._client.call(method, **params)

    def status(self) -> Status:
        return self._client.status()

    def news(self, every: float) -> Iterator[Event | None]:
        """Each event, and None when it is time to look at the status: now, then ``every`` so many seconds.

        Raises:
            EOFError: the master has left.
        """
        look_at = 0.0
        while True:
            left = look_at - time.monotonic()
            event = self._stream.next(timeout=left) if left > 0 else None
            if event is not None:
                self.screen.note(event)
            elif left > 0:
                continue  # it is time now
            else:
                look_at = time.monotonic() + every
            yield event

    def since(self) -> float:
        """For how many seconds this is being followed."""
        return time.monotonic() - self.began


@contextmanager
def following(client: Client, see: str = "status") -> Iterator[Following]:
    """Nothing that happens from here on is missed, or it is said."""
    with shown(see) as screen, streamed(client) as stream:
        yield Following(client, stream, screen)


@contextmanager
def shown(see: str = "status") -> Iterator[Screen]:
    """Progress, until it is over or Ctrl-C ends the following, and nothing else; ``see`` shows more then."""
    screen = Screen()
    try:
        with interruptible():
            yield screen
    except KeyboardInterrupt:
        screen.say(f"no longer followed, it goes on; see 'supervisord-lite {see}'")
        # The caller, a shell script perhaps, is to see what it was: signal(7), "die of it".
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        screen.clear()
