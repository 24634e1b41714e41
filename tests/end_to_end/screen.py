"""A terminal of its own for a program under test: what it shows, and keys that are pressed."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import sys

from program import PATIENCE

# Become the session of that terminal, then the program.
OWNING = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
BEFORE = (sys.executable, "-c", OWNING)
CTRL_C, CTRL_Q, CTRL_S = b"\x03", b"\x11", b"\x13"


class Screen:
    """Both ends of it."""

    def __init__(self) -> None:
        self.here, self.there = pty.openpty()
        self._got = b""

    def press(self, key: bytes) -> None:
        """One key, as a person does."""
        os.write(self.here, key)

    def lines(self) -> list[str]:
        """What was shown so far, whole lines without colours."""
        text = self._got.decode("utf-8", "replace").replace("\r\n", "\n")
        return re.sub("\x1b\\[[0-9;]*m", "", text).split("\n")[:-1]

    def wait_for(self, text: str) -> str:
        """The first line with that in it, shown or to come."""
        while not (found := next((line for line in self.lines() if text in line), None)):
            assert self._look(PATIENCE), f"no {text!r} was shown: {self.lines()}"
        return found

    def rest(self) -> list[str]:
        """All lines, once nobody holds the terminal any more."""
        self._leave()
        while self._look(PATIENCE):
            pass
        return self.lines()

    def _look(self, seconds: float) -> bool:
        if not select.select([self.here], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):  # EIO: nobody is at the other end
            self._got += (more := os.read(self.here, 1 << 16))
            return bool(more)
        return False

    def _leave(self) -> None:
        if self.there >= 0:
            os.close(self.there)
            self.there = -1

    def close(self) -> None:
        """Both ends, as when its window is closed."""
        self._leave()
        if self.here >= 0:
            os.close(self.here)
            self.here = -1
