"""What could not be kept, added up and told now and then.

Pure: the time is an argument.  A disk that is full for a day must not flood the
log: each key is told at once, and then with growing pauses, once a minute at last.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two tellings of one key


@dataclass
class Loss:
    """Of one key, since it was last told."""

    dropped: int = 0
    cut: int = 0
    why: str = ""
    news: bool = False
    due: float = 0.0
    pause: float = 0.0


class Losses:
    """The losses of all keys."""

    def __init__(self) -> None:
        self._by_key: dict[str, Loss] = {}

    def add(self, key: str, now: float, *, dropped: int = 0, cut: int = 0, why: str = "") -> None:
        """Something was lost, or went wrong; nothing if all of it is empty."""
        if not (dropped or cut or why):
            return
        loss = self._by_key.setdefault(key, Loss())
        if not loss.news and now >= loss.due + loss.pause:
            loss.pause = 0.0  # it was well for long enough: the next telling is at once
            loss.due = now
        loss.dropped += dropped
        loss.cut += cut
        loss.why, loss.news = why or loss.why, True

    def deadline(self) -> float | None:
        """When something is to be told; None while there is nothing."""
        return min((loss.due for loss in self._by_key.values() if loss.news), default=None)

    def take(self, now: float | None) -> list[dict[str, object]]:
        """What is due; all of it without a time."""
        return [
            self._told(key, loss, now)
            for key, loss in self._by_key.items()
            if loss.news and (now is None or loss.due <= now)
        ]

    def _told(self, key: str, loss: Loss, now: float | None) -> dict[str, object]:
        message = {"lost": key, "dropped": loss.dropped, "cut": loss.cut, "why": loss.why}
        pause = min(max(FIRST_PAUSE, loss.pause * 2), LONGEST_PAUSE)
        self._by_key[key] = Loss(due=(now or 0.0) + pause, pause=pause)
        return message
