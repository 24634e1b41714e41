"""Lines that the master makes events of: those of runs of tasks, which have no file of their own.

Bounded, so that nothing that prints can keep the master busy: what comes faster, or
finds the master too slow, is dropped and counted.  Knows nothing of tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from supervisor.allowance import Allowance
from supervisor.inner.lines import harmless
from supervisor.inner.losses import Losses
from supervisor.unix.channel import Channel

RATE = 1 << 20  # bytes a second, of all together
BURST = 4 << 20  # bytes that may come at once
PART = 16 * 1024  # bytes of one message; a longer line has one of its own
MOST_WAITING = 64  # messages that the master has not taken


class Teller:
    """The way to the master."""

    def __init__(self, channel: Channel, losses: Losses, now: Callable[[], float]) -> None:
        self._channel, self._losses, self._now = channel, losses, now
        self._allowance = Allowance(BURST, RATE, now())

    def tell(self, number: int, key: str, block: bytes) -> None:
        """Whole lines of worker ``number``."""
        for lines in parts(block):
            if self._channel.waiting >= MOST_WAITING:
                self._lose(key, lines, "the master did not take them in time")
            elif not self._allowance.take(sum(map(len, lines)), self._now()):
                self._lose(key, lines, f"more than {RATE >> 20} MiB a second")
            else:
                self._channel.send({"said": number, "lines": [harmless(line) for line in lines]})

    def _lose(self, key: str, lines: list[bytes], why: str) -> None:
        self._losses.add(key, self._now(), dropped=len(lines), why=why)


class MasterSink:
    """What one worker prints goes to the master."""

    def __init__(self, teller: Teller, number: int) -> None:
        self.writers: dict[int, str] = {}
        self._teller, self._number = teller, number

    def write(self, worker: str, key: str, block: bytes) -> None:
        """Pass whole lines on."""
        del worker
        self._teller.tell(self._number, key, block)


def parts(block: bytes) -> Iterator[list[bytes]]:
    """The lines of a block, as many at once as one message holds."""
    part: list[bytes] = []
    size = 0
    for line in block.split(b"\n")[:-1]:
        if part and size + len(line) > PART:
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield part
