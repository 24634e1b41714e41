"""Where the lines of workers end up: files and terminals, each open once, shared by all who write there.

Those of runs of tasks go to the master, see `telling`.  Knows which stream writes to
which of them and adds up what they lose; knows nothing of pipes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from supervisor.inner.losses import Losses
from supervisor.inner.prefix import Prefixes
from supervisor.inner.telling import MasterSink, Teller
from supervisor.log import choose_colour
from supervisor.unix.drains import INHERITED, TERMINAL
from supervisor.unix.loop import WRITE, Loop
from supervisor.unix.output import Output
from supervisor.unix.rotation import RotatingFile


class FileSink:
    """One file; two pools that name the same path share it."""

    def __init__(self, file: RotatingFile, losses: Losses, loop: Loop) -> None:
        self.file, self._losses, self._loop = file, losses, loop
        self.writers: dict[int, str] = {}  # the streams that write here, and their keys
        self._sizes: dict[int, tuple[int, int]] = {}  # of those that want it to rotate: max_size and keep

    def enter(self, id: int, max_size: int | None, keep: int) -> None:
        """A stream that writes here says how the file is to rotate."""
        if max_size is not None:
            self._sizes[id] = max_size, keep
        self._agree()

    def leave(self, id: int) -> None:
        """It is at its end."""
        self._sizes.pop(id, None)
        self._agree()

    def _agree(self) -> None:
        """The last one counts; who does not care, as stderr beside a stdout that rotates, has no say."""
        sizes = list(self._sizes.values())
        self.file.max_size, self.file.keep = sizes[-1] if sizes else (None, self.file.keep)

    def write(self, worker: str, key: str, block: bytes) -> None:
        """Append whole lines."""
        del worker
        dropped = self.file.write(block)
        if dropped or self.file.problem:
            self.tell(key, dropped)

    def tell(self, key: str, dropped: int = 0) -> None:
        """Note the file's problem, if there is one."""
        self._losses.add(key, self._loop.now(), dropped=dropped, why=self.file.problem)


class TerminalSink:
    """A terminal; while it is stopped (^S) or slow, lines wait, and beyond a bound they are dropped.

    Or a file that the master has as its stdout or stderr: there nobody's name is put before a line.
    """

    def __init__(self, loop: Loop, fd: int, prefixes: Prefixes, losses: Losses) -> None:
        self.writers: dict[int, str] = {}
        self._loop, self._fd, self._prefixes, self._losses = loop, fd, prefixes, losses
        self._output, self._is_terminal = Output(fd), os.isatty(fd)
        self._colour = choose_colour(fd, os.environ)
        self._watched: int | None = None

    def write(self, worker: str, key: str, block: bytes) -> None:
        """Write whole lines, each behind the worker's name."""
        del key
        prefix = self._prefixes.of(worker, self._colour) if self._is_terminal else b""
        for line in block.split(b"\n")[:-1]:
            self._output.write(b"%b%b\n" % (prefix, line))
        self._look()

    def flush(self) -> None:
        """There is room."""
        self._output.flush()
        self._look()

    def finish(self, seconds: float) -> None:
        """Wait for room, at most so long."""
        self._output.finish(seconds)
        self._look()

    def _look(self) -> None:
        """Wait for room while lines wait; say what was lost once they flow again."""
        wants = self._output.wants()
        if self._watched is not None and wants is None:
            self._loop.forget(self._watched)
        elif self._watched is None and wants is not None:
            self._loop.watch(wants, "terminal", self._fd, WRITE)
        self._watched = wants
        if dropped := self._output.take_dropped():
            why = "the terminal did not take them in time" if self._is_terminal else "the disk took no more"
            self._losses.add(
                TERMINAL if self._is_terminal else INHERITED, self._loop.now(), dropped=dropped, why=why
            )


Sink = FileSink | TerminalSink | MasterSink


class Sinks:
    """All of them."""

    def __init__(self, loop: Loop, losses: Losses, teller: Teller) -> None:
        self._loop, self._losses, self._teller = loop, losses, teller
        self._prefixes = Prefixes()
        self._files: dict[str, FileSink] = {}
        self._terminals: dict[int, TerminalSink] = {}

    def enter(self, id: int, take: Mapping[str, object]) -> Sink | None:
        """Where the stream ``id`` is to go, by what the master says of it; None for nonsense."""
        match take:
            case {"key": str(key), "worker": str(worker), "terminal": int(fd)}:
                self._prefixes.know(worker)
                sink: Sink = self._terminal(fd)
            case {"key": str(key), "number": int(number), "told": True}:
                sink = MasterSink(self._teller, number)
            case {"key": str(key), "file": str(path), "max_size": int() | None as size, "keep": int(keep)}:
                sink = self._file(path)
                sink.enter(id, size, keep)
                sink.tell(key)
            case _:
                return None
        sink.writers[id] = key
        return sink

    def leave(self, id: int, sink: Sink) -> None:
        """The stream is at its end; a file that nobody writes to is closed."""
        del sink.writers[id]
        if isinstance(sink, FileSink):
            sink.leave(id)
            if not sink.writers:
                sink.file.close()
                del self._files[sink.file.path]

    def flush(self, fd: int) -> None:
        """The terminal ``fd`` has room."""
        self._terminals[fd].flush()

    def reopen(self) -> None:
        """Open all files anew, after they were moved away."""
        for sink in self._files.values():
            sink.file.reopen()
            sink.tell(next(iter(sink.writers.values())))

    def finish(self, seconds: float) -> None:
        """At the end: have the terminals take what waits, each in at most so long."""
        for sink in self._terminals.values():
            sink.finish(seconds)

    def _file(self, path: str) -> FileSink:
        if path not in self._files:
            self._files[path] = FileSink(RotatingFile(path), self._losses, self._loop)
        return self._files[path]

    def _terminal(self, fd: int) -> TerminalSink:
        if fd not in self._terminals:
            self._terminals[fd] = TerminalSink(self._loop, fd, self._prefixes, self._losses)
        return self._terminals[fd]
