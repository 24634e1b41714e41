"""How much somebody may say: so much at once, and so much more with every second.

Pure: it is told the time.
"""

from __future__ import annotations


class Allowance:
    """What is left of it; at first all."""

    def __init__(self, at_once: float, a_second: float, now: float) -> None:
        self._most, self._rate = at_once, a_second
        self._left, self._at = at_once, now

    def take(self, amount: float, now: float) -> bool:
        """Whether so much may be said, too; what may not takes nothing away."""
        self._left = min(self._most, self._left + self._rate * max(0.0, now - self._at))
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True
