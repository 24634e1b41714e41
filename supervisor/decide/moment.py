"""One moment of the master's life at which its own hooks run, one after another.

Knows which hook runs and until when; a hook that hangs is left behind.  Knows
nothing of threads or of what the hooks are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from supervisor.decide.actions import Action, Note, Run


@dataclass
class Moment:
    """``count`` hooks, each within ``timeout`` seconds."""

    name: str
    timeout: float
    count: int = 0
    next: int = 0
    until: float | None = None  # when the hook that runs now is left behind
    since: float = 0.0  # when it began
    fatal: bool = False  # one that fails is the last one to run
    skipped: bool = False  # none begins any more, though the count may be learnt later
    failed: str | None = None

    @property
    def running(self) -> bool:
        """A hook is at work."""
        return self.until is not None

    @property
    def done(self) -> bool:
        """Nothing runs and nothing is left to run."""
        return not self.running and not self._left

    @property
    def _left(self) -> bool:
        return self.next < self.count and not (self.skipped or (self.fatal and self.failed is not None))

    def ended(self, index: int, error: str | None) -> None:
        """Fact: that hook returned, or raised ``error``."""
        if self.running and index == self.next - 1:  # else it was left behind earlier
            self.until = None
            self.failed = error if self.failed is None else self.failed

    def skip(self) -> None:
        """Run none of those that have not begun."""
        self.skipped = True

    def abandon(self) -> None:
        """Leave behind the one that runs, too."""
        self.skip()
        self.until = None

    def plan(self, now: float, latest: float | None = None) -> Iterator[Action]:
        """Start the next hook, or leave a late one behind; none runs beyond ``latest``."""
        if self.until is not None and latest is not None:
            self.until = min(self.until, latest)
        if self.until is not None and now >= self.until:
            seconds, self.until = (
                round(self.until - self.since, 3),
                None,
            )  # less than its timeout near a deadline
            self.failed = "it did not return in time" if self.failed is None else self.failed
            yield Note("hook.timeout", None, {"hook": self.name, "index": self.next - 1, "seconds": seconds})
        if self.until is None and self._left and (latest is None or now < latest):
            self.until = now + self.timeout if latest is None else min(now + self.timeout, latest)
            self.since = now
            self.next += 1
            yield Run(self.name, self.next - 1)
