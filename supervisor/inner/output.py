"""The drainer: reads what workers write to stdout and stderr, and puts it where it belongs.

The target of the inner pool ``@output``.  One epoll, no wakeups while nothing
is written.  The master hands it the reading ends of the workers' pipes (see
`unix.drains`) and keeps its own copies: if this process dies, the next one
goes on where it was, also within a line (see `inner.rests`).  Lost or torn is at
most the one chunk that was on its way from a pipe to its file when SIGKILL came.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass, field

from supervisor.inner.lines import Lines, Tail
from supervisor.inner.losses import Losses
from supervisor.inner.rests import Rests
from supervisor.inner.sinks import Sink, Sinks
from supervisor.inner.telling import Teller
from supervisor.unix.channel import Channel, Message
from supervisor.unix.loop import Loop, Seen
from supervisor.worker import Worker

CHUNK = 64 * 1024  # what a pipe holds, if nobody changed it: pipe(7)
ROUNDS = 32  # chunks that are read from one pipe in a row; more than the largest pipe holds (1 MiB)
LAST_SECONDS = 0.25  # for each slow terminal, and for the master, to take the last words


def run(worker: Worker) -> None:
    """Drain until asked to stop; then once more all that is there."""
    drainer = Drainer(worker)
    worker.ready()  # not earlier: who is told to stop before its target is called does nothing any more
    drainer.run()


@dataclass
class Source:
    """One worker, dead or alive, by the number that the master gave it."""

    worker: str
    tail: Tail = field(default_factory=Tail)
    streams: dict[int, Stream] = field(default_factory=dict)
    told: bool = False  # its last lines were told: what comes now is a helper's that outlived it


@dataclass
class Stream:
    """One pipe."""

    id: int
    fd: int
    number: int
    key: str  # "pools.web.stdout"
    slot: int  # where its unfinished line is noted
    sink: Sink
    lines: Lines = field(default_factory=Lines)
    noted: bool = False  # there is something in its slot


class Drainer:
    """Everything that the process holds."""

    def __init__(self, worker: Worker) -> None:
        _allow_many_files()
        self._worker, self._parent = worker, os.getppid()
        self._loop, self._losses = Loop(), Losses()
        self._channel = Channel(self._loop, worker.sockets["channel"], "channel")
        teller = Teller(self._channel, self._losses, self._loop.now)
        self._sinks = Sinks(self._loop, self._losses, teller)
        self._streams: dict[int, Stream] = {}
        self._sources: dict[int, Source] = {}
        self._rests: Rests | None = None
        self._loop.watch(worker.fileno(), "stop")

    def run(self) -> None:
        """The whole life."""
        while not self._is_over():
            for seen in self._loop.poll(self._losses.deadline()):
                self._answer(seen)
            self._tell_losses(self._loop.now())
        self._finish()

    def _is_over(self) -> bool:
        """When the master is dead, its workers may still be writing their last words.

        Then the pipes end one by one, and stop_timeout after the master's death the attendant ends us.
        """
        if not self._worker.stopping:
            return False
        self._listen()  # the last that a dead master said may be a pipe that somebody still writes to
        return os.getppid() == self._parent or not self._streams

    def _answer(self, seen: Seen) -> None:
        match seen.kind:
            case "pipe":
                if stream := self._streams.get(seen.key):  # it may have ended in this very turn
                    self._read(stream)
            case "channel":
                self._listen()
            case "terminal":
                self._sinks.flush(seen.key)
            case "stop":
                self._loop.forget(seen.fd)

    def _finish(self) -> None:
        """Nothing that was written before the stop is lost, though somebody may write on."""
        self._listen()
        for stream in list(self._streams.values()):
            self._drain(stream)
            if self._worker.stop_reason != "replace":  # else a successor goes on within the line
                self._pass_on(stream, stream.lines.end())
        self._sinks.finish(LAST_SECONDS)
        self._tell_losses(None)
        self._channel.finish(LAST_SECONDS)

    # -- the master ------------------------------------------------------------

    def _listen(self) -> None:
        self._channel.flush()
        for message, fd in self._channel.receive():
            self._obey(message, fd)
        if self._channel.closed:
            self._channel.close()

    def _obey(self, message: Message, fd: int | None) -> None:
        match message:
            case {"rests": True} if fd is not None and self._rests is None:
                self._rests = Rests(fd)
                return
            case {"take": int(id), "number": int(), "worker": str(), "key": str(), "slot": int()}:
                if fd is None:  # no descriptor was free when the message came: recvmsg(2), MSG_CTRUNC
                    self._channel.send({"refused": id})
                elif self._took(id, fd, message):
                    return
            case {"gone": int(number)}:
                self._tell_last(number)
            case {"reopen": True}:
                self._sinks.reopen()
        if fd is not None:
            os.close(fd)

    def _took(self, id: int, fd: int, take: Message) -> bool:
        sink = None if id in self._streams else self._sinks.enter(id, take)
        if sink is None:
            return False
        stream = self._streams[id] = Stream(id, fd, take["number"], take["key"], take["slot"], sink)
        if self._rests:
            stream.lines = self._rests.recall(stream.slot)
            stream.noted = True
        self._sources.setdefault(stream.number, Source(take["worker"])).streams[id] = stream
        self._loop.watch(fd, "pipe", id)
        return True

    def _tell_last(self, number: int) -> None:
        """A worker is dead: all that it wrote is in its pipes, if a helper of it should hold them open."""
        source = self._sources.get(number)
        for stream in list(source.streams.values()) if source else ():
            self._drain(stream)
        rests = tuple(stream.lines.rest for stream in source.streams.values()) if source else ()
        self._channel.send({"last": number, "lines": source.tail.lines(rests) if source else []})
        if source:
            source.told, source.tail = True, Tail()
            self._forget(number, source)

    def _tell_losses(self, now: float | None) -> None:
        for message in self._losses.take(now):
            self._channel.send(message)

    # -- the pipes -------------------------------------------------------------

    def _drain(self, stream: Stream) -> None:
        for _ in range(ROUNDS):
            if not self._read(stream):
                return

    def _read(self, stream: Stream) -> bool:
        """Read once; false when there is nothing."""
        try:
            chunk = os.read(stream.fd, CHUNK)
        except BlockingIOError:
            return False
        if chunk:
            block = stream.lines.feed(chunk)
            self._note_rest(stream)
            self._pass_on(stream, block)
        else:
            self._end(stream)
        return bool(chunk)

    def _note_rest(self, stream: Stream) -> None:
        """Costs nothing as long as whole lines come."""
        something = bool(stream.lines.rest or stream.lines.skipping)
        if self._rests and (something or stream.noted):
            self._rests.note(stream.slot, stream.lines)
            stream.noted = something

    def _pass_on(self, stream: Stream, block: bytes) -> None:
        if stream.lines.cut:
            self._losses.add(stream.key, self._loop.now(), cut=stream.lines.cut)
            stream.lines.cut = 0
        if block:
            source = self._sources[stream.number]
            stream.sink.write(source.worker, stream.key, block)
            if not source.told:
                source.tail.add(block)

    def _end(self, stream: Stream) -> None:
        """All who could write to it are gone, so the master need not hold it any more."""
        left = stream.lines.end()
        self._note_rest(stream)
        self._pass_on(stream, left)
        self._loop.forget(stream.fd)
        os.close(stream.fd)
        self._sinks.leave(stream.id, stream.sink)
        self._channel.send({"closed": stream.id})
        source = self._sources[stream.number]
        del self._streams[stream.id], source.streams[stream.id]
        self._forget(stream.number, source)

    def _forget(self, number: int, source: Source) -> None:
        if source.told and not source.streams:
            del self._sources[number]


def _allow_many_files() -> None:
    """Two pipes a worker: the limit under which workers run may be too low for all of them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
