"""How a line on a shared terminal tells whose it is: ``web.0 | ``, as honcho writes it.

Pure.  Knows nothing of terminals but the codes of their colours.
"""

from __future__ import annotations

# ECMA-48 foreground colours: cyan, yellow, green, magenta, blue, and their bright kin.  Red is for errors.
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def prefix(worker: str, width: int, colour: int | None) -> bytes:
    """What stands before each line of ``worker``; ``colour`` counts through `COLOURS`, None is none."""
    text = f"{worker:<{width}} | "
    if colour is not None:
        text = f"\x1b[{COLOURS[colour % len(COLOURS)]}m{text}\x1b[0m"
    return text.encode()


class Prefixes:
    """The prefixes of all workers known so far, as wide as the longest name; a colour for each."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._width = 0

    def know(self, worker: str) -> None:
        """From now on there is such a worker; a successor in its slot keeps the colour."""
        self._numbers.setdefault(worker, len(self._numbers))
        self._width = max(self._width, len(worker))

    def of(self, worker: str, colour: bool) -> bytes:
        """The prefix of a worker that is known."""
        return prefix(worker, self._width, self._numbers[worker] if colour else None)
