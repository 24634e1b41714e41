"""The pipes that workers write their output to, and the way to the process that drains them.

The master makes the pipes and holds their reading ends, so that the death of
the drainer (`inner.output`) breaks no worker: what is written meanwhile waits
in the pipe, and a new drainer gets every pipe again.  Never blocks, decides
nothing, and reads no output itself.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from supervisor.settings import Output
from supervisor.unix.channel import Channel, Message
from supervisor.unix.loop import Loop
from supervisor.unix.sinks import Sink, Terminal

TERMINAL, INHERITED = "terminal", "the master's own output"  # keys of losses of nobody's file


@dataclass(frozen=True)
class Said:
    """Whole lines that the worker with that number wrote, without control characters."""

    number: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Last:
    """What the worker with that number wrote last: a few lines of text without control characters."""

    number: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Lost:
    """Output that could not be kept, since the last time; also told with zeros when a file has a problem."""

    key: str  # "pools.web.stdout", "tasks.nightly.stdout", or `TERMINAL`
    dropped: int  # whole lines
    cut: int  # lines of which only the beginning was kept
    why: str  # "cannot write FILE: No space left on device", or empty

    def __str__(self) -> str:
        parts = [self.why] if self.why else []
        parts += [f"{self.dropped} line{'s' * (self.dropped != 1)} dropped"] if self.dropped else []
        parts += [f"{self.cut} overlong line{'s' * (self.cut != 1)} cut"] if self.cut else []
        return f"{self.key}: {'; '.join(parts)}"


@dataclass(frozen=True)
class _Pipe:
    """One that is held: its reading end, and what a drainer has to know."""

    fd: int
    take: Message


class Drains:
    """Every pipe that still has a writer or something in it, and one drainer at a time.

    A worker goes through `begin`, the fork, `sealed` and, when it is dead, `gone`;
    so does one whose fork failed.  The loop reports the channel as ``"drain"``:
    call `seen` then.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._channel: Channel | None = None
        self._pipes: dict[int, _Pipe] = {}
        self._made = 0
        self._rests: int | None = None  # a file in memory, where drainers note what they have in hand
        self._slots: list[int] = []  # parts of it that nobody uses
        self._writing: dict[int, list[int]] = {}  # by number: the writing ends, until sealed
        self._known: set[int] = set()  # numbers whose last lines were not told
        self._asked: dict[int, None] = {}  # of these, in order, those that are dead
        self._refused: list[int] = []  # pipes for which the drainer had no descriptor left

    # -- workers ---------------------------------------------------------------

    def begin(
        self, number: int, worker: str, stdout: Sink | None, stderr: Sink | None
    ) -> tuple[int | None, int | None]:
        """The descriptors that worker ``number`` is to have as 1 and 2; None: those it inherits.

        Equal sinks share one pipe, and both are the same descriptor.  On OSError
        (EMFILE, ENFILE) nothing was made.
        """
        sinks = {"stdout": stdout, "stderr": None if stderr == stdout else stderr}
        ends = _pipes([stream for stream, sink in sinks.items() if sink])
        for stream, (reading, _) in ends.items():
            self._hold(reading, number, worker, stream, sinks[stream])
        if ends:
            self._known.add(number)
            self._writing[number] = [writing for _, writing in ends.values()]
        out = ends["stdout"][1] if stdout else None
        return out, (out if stderr == stdout else ends["stderr"][1] if stderr else None)

    def _hold(self, fd: int, number: int, worker: str, stream: str, sink: Sink | None) -> None:
        self._made += 1
        name = worker.rpartition(".")[0]
        key = f"{name}.{stream}" if "." in name else f"pools.{name}.{stream}"
        slot = self._slots.pop() if self._slots else len(self._pipes)
        take: Message = {"take": self._made, "number": number, "worker": worker, "key": key, "slot": slot}
        if isinstance(sink, Output):
            take |= {"file": sink.file, "max_size": sink.max_size, "keep": sink.keep}
        elif isinstance(sink, Terminal):
            take["terminal"] = sink.fd
        elif sink is not None:
            take["told"] = True
        self._pipes[self._made] = _Pipe(fd, take)
        self._send(take, fd)

    def sealed(self, number: int) -> None:
        """The worker was forked, or could not be: only then can its pipes ever end."""
        for fd in self._writing.pop(number, ()):
            os.close(fd)

    def gone(self, number: int) -> bool:
        """The worker is dead: have all that is there read; true if a `Last` will come, by `seen`.

        It comes also where a helper of the worker keeps the pipe open, and, if
        the drainer is dead, from the next one.
        """
        if number in self._known and number not in self._asked:
            self._asked[number] = None
            self._send({"gone": number})
        return number in self._known

    # -- the drainer -----------------------------------------------------------

    def connect(self) -> int:
        """For a new drainer: its end of a new channel, over which it gets all that is held.

        Call `connected` after the fork.  An older drainer must be dead: two would tear lines apart.
        OSError (EMFILE) changes nothing.
        """
        if self._rests is None:
            self._rests = os.memfd_create("unfinished-lines")
        channel, theirs = Channel.to_child(self._loop, "drain")
        self._disconnect()
        self._channel = channel
        self._refused.clear()
        self._send({"rests": True}, self._rests)
        for pipe in self._pipes.values():
            self._send(pipe.take, pipe.fd)
        for number in self._asked:
            self._send({"gone": number})
        return theirs

    def connected(self) -> None:
        """The drainer was forked, or could not be: close its end here."""
        if self._channel:
            self._channel.sealed()

    def seen(self) -> list[Said | Last | Lost]:
        """What the drainer told; also sends on what found no room before."""
        channel = self._channel
        if channel is None:
            return []
        channel.flush()
        told = [answer for message in channel.messages() if (answer := self._read(message))]
        if channel.closed:
            self._disconnect()
        return told

    def reopen(self) -> None:
        """Have all files opened anew, after they were moved away."""
        self._send({"reopen": True})

    def close(self) -> None:
        """At the master's end: let go of everything."""
        self._disconnect()
        for number in list(self._writing):
            self.sealed(number)
        for id in list(self._pipes):
            self._let_go(id)
        if self._rests is not None:
            os.close(self._rests)
            self._rests = None

    def _send(self, message: Message, fd: int | None = None) -> None:
        if self._channel:  # else it is told by `connect`
            self._channel.send(message, () if fd is None else (fd,))

    def _disconnect(self) -> None:
        if self._channel:
            self._channel.close()
            self._channel = None

    def _read(self, message: Message) -> Said | Last | Lost | None:
        match message:
            case {"said": int(number), "lines": list(lines)}:
                return Said(number, tuple(map(str, lines)))
            case {"closed": int(id)}:
                self._let_go(id)
                self._try_refused()
            case {"refused": int(id)}:
                self._refused.append(id)
            case {"last": int(number), "lines": list(lines)}:
                return self._answered(number, lines)
            case {"lost": str(key), "dropped": int(dropped), "cut": int(cut), "why": str(why)}:
                return Lost(key, dropped, cut, why)
        return None

    def _answered(self, number: int, lines: list[object]) -> Last | None:
        if number not in self._asked:
            return None
        del self._asked[number]
        self._known.discard(number)
        return Last(number, tuple(str(line) for line in lines))

    def _let_go(self, id: int) -> None:
        pipe = self._pipes.pop(id, None)
        if pipe:
            os.close(pipe.fd)
            self._slots.append(pipe.take["slot"])

    def _try_refused(self) -> None:
        """The drainer has closed a descriptor, so it has room for another."""
        refused, self._refused = self._refused, []
        for id in refused:
            if id in self._pipes:
                self._send(self._pipes[id].take, self._pipes[id].fd)


def _pipes(streams: list[str]) -> dict[str, tuple[int, int]]:
    """A pipe for each of these, or none at all."""
    with contextlib.ExitStack() as undo:
        ends = {}
        for stream in streams:
            ends[stream] = os.pipe2(os.O_CLOEXEC)
            for fd in ends[stream]:
                undo.callback(os.close, fd)
            _open_to_all(*ends[stream])
        undo.pop_all()
    return ends


def _open_to_all(reading: int, writing: int) -> None:
    """Only the reading end must not block: each end has a file description of its own (pipe(7)).

    A program that became another user opens /dev/stdout anew (nginx's log files): of a pipe that is
    root's, mode 0600, it could not.  Only who may look into a process finds its descriptors, proc(5).
    """
    os.set_blocking(reading, False)
    os.fchmod(writing, 0o622)
