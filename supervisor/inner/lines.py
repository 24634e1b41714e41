"""Bytes as they come to whole lines of bounded length, and the last of them as text.

Pure: knows no pipes and no files.  Costs by the chunk, not by the line, and
holds a bounded number of bytes, whatever comes.
"""

from __future__ import annotations

import re

LONGEST = 16 * 1024  # bytes of a line with its newline
CUT = b"...[cut]"  # how a line ends whose rest was longer
LAST_LINES, LAST_BYTES = 20, 4 * 1024

_COLOURS = re.compile("\x1b\\[[0-9;]*[A-Za-z]")


class Lines:
    """One stream, cut into lines."""

    def __init__(self) -> None:
        self.rest = b""  # the beginning of a line whose end has not come
        self.cut = 0  # lines that were cut, ever
        self.skipping = False  # the rest of such a line is still coming

    def feed(self, chunk: bytes) -> bytes:
        """The lines that are whole by now, each at most `LONGEST` and with its newline."""
        if self.skipping:
            start = chunk.find(b"\n") + 1
            if not start:
                return b""
            self.skipping, chunk = False, chunk[start:]
        data = self.rest + chunk
        end = data.rfind(b"\n") + 1
        block, self.rest = data[:end], data[end:]
        if len(block) > LONGEST:
            block = self._bounded(block)
        if len(self.rest) >= LONGEST:
            block += self._shortened(self.rest) + b"\n"
            self.rest, self.skipping = b"", True
        return block

    def end(self) -> bytes:
        """Nothing more will come: what is left, with the newline that it lacks."""
        left, self.rest, self.skipping = self.rest, b"", False
        return left + b"\n" if left else b""

    def _bounded(self, block: bytes) -> bytes:
        lines = block.split(b"\n")
        if max(map(len, lines)) < LONGEST:
            return block
        return b"\n".join(self._shortened(line) if len(line) >= LONGEST else line for line in lines)

    def _shortened(self, line: bytes) -> bytes:
        self.cut += 1
        return line[: LONGEST - len(CUT) - 1] + CUT


class Tail:
    """The last lines of one worker, whichever stream they came by."""

    def __init__(self) -> None:
        self._data = b""

    def add(self, block: bytes) -> None:
        """Whole lines that were read just now."""
        self._data = (
            (self._data + block)[-LAST_BYTES - 1 :] if len(block) <= LAST_BYTES else block[-LAST_BYTES - 1 :]
        )

    def lines(self, rests: tuple[bytes, ...] = ()) -> list[str]:
        """As harmless text, `LAST_BYTES` at most; ``rests`` are lines that have no end yet."""
        data = self._data + b"".join(rest + b"\n" for rest in rests if rest)
        lines = data[-LAST_BYTES - 1 :].rstrip(b"\n").split(b"\n")
        if len(data) > LAST_BYTES and len(lines) > 1:
            del lines[0]  # its beginning is missing
        return [harmless(line) for line in lines[-LAST_LINES:]] if lines != [b""] else []


def harmless(line: bytes) -> str:
    """One line as text: nothing that a terminal would obey; colours are left out."""
    text = _COLOURS.sub("", line.decode("utf-8", "replace")).expandtabs()
    return "".join(c if c.isprintable() else " " for c in text).rstrip()
