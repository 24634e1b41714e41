"""The children that are ours by fork: found by number and by pid, watched by pidfd.

Knows which processes there are and how to signal them; what a number stands for
is the caller's matter.  A child without a pidfd (EMFILE, old kernel, seccomp)
is looked at whenever SIGCHLD comes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from supervisor.exits import End
from supervisor.unix import process
from supervisor.unix.loop import Loop
from supervisor.unix.usage import stacks


@dataclass
class Child:
    """One process that is not reaped."""

    number: int
    pid: int
    pidfd: int | None
    dumped: bool = False  # it was asked to write its stacks


class Children:
    """Numbers to processes; a pid is only ever used while its process is not reaped."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._by_number: dict[int, Child] = {}
        self._by_pid: dict[int, Child] = {}
        self._blind: dict[int, Child] = {}  # those without a pidfd
        self.learn: Callable[[], None] = lambda: None  # called before a pid counts as unknown: may `adopt`

    def now(self) -> float:
        """The loop's time, for facts about children."""
        return self._loop.now()

    def fork_all(self, jobs: Sequence[tuple[int, Callable[[], int]]]) -> list[int | OSError]:
        """Start a child for each number; its pid, or why the kernel refused."""
        outcomes = process.fork_all([run for _, run in jobs])
        for (number, _), outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, int):
                self._know(Child(number, outcome, process.open_pidfd(outcome)))
        return outcomes

    def _know(self, child: Child) -> None:
        self._by_number[child.number] = self._by_pid[child.pid] = child
        if child.pidfd is None:
            self._blind[child.number] = child
        else:
            self._loop.watch(child.pidfd, "exit", child.number)

    def adopt(self, number: int, pid: int) -> bool:
        """Know a child that a template process forked; false if it is none of ours.

        Others name this pid, so the kernel is asked: only one that is our child
        is ever signalled, and as long as it is not reaped nobody else has its number.
        """
        if pid in self._by_pid or process.ended(pid) is process.STOLEN or process.in_own_session(pid):
            return False
        child = Child(number, pid, process.open_pidfd(pid))
        self._know(child)
        if child.pidfd is None:  # it may be dead already, and its SIGCHLD heard: look once more
            os.kill(os.getpid(), signal.SIGCHLD)
        return True

    def pid(self, number: int) -> int | None:
        """The pid of a child that is not reaped."""
        child = self._by_number.get(number)
        return child.pid if child else None

    def number(self, pid: int) -> int | None:
        """Whose pid that is; a process of a child's session speaks for it.

        Each child leads one, and that is more than its group: a shell with job
        control has a group for each of its own children.
        """
        child = self._by_pid[pid] if pid in self else None
        if child is None:
            try:
                child = self._by_pid.get(os.getsid(pid))
            except ProcessLookupError:  # it wrote, and was gone and reaped before we read
                return None
        return child.number if child else None

    def __contains__(self, pid: object) -> bool:
        if pid not in self._by_pid:
            self.learn()
        return pid in self._by_pid

    def signal(self, number: int, *signals: signal.Signals) -> bool:
        """Send signals in this order; false where that is not allowed."""
        child = self._by_number.get(number)
        results = [process.send(child.pid, s) for s in signals] if child else []
        return all(results)

    def dump(self, number: int, ask: int | None) -> None:
        """Have it say what it is at, by the signal ``ask``; with none, only the kernel will be asked."""
        if child := self._by_number.get(number):
            child.dumped = True
            if ask is not None:
                process.send(child.pid, ask)

    def stacks(self, number: int) -> str | None:
        """What it wrote since; None if it was not asked."""
        child = self._by_number.get(number)
        return stacks(child.pid) if child and child.dumped else None

    def kill(self, number: int) -> bool:
        """SIGKILL it and its process group; false where that is not allowed."""
        child = self._by_number.get(number)
        return child is None or process.kill_with_group(child.pid)

    def bury(self, number: int) -> tuple[End, int | None] | None:
        """Reap a child that ended: how, and its group if that still has members.

        The group gets its TERM while the leader is a zombie: until it is reaped
        its number cannot belong to anybody else.
        """
        child = self._by_number.get(number)
        end = process.ended(child.pid) if child else None
        if child is None or end is None:
            return None
        self._forget(child)
        if end is process.STOLEN:  # its number may be somebody else's already
            return end, None
        process.send_group(child.pid, signal.SIGTERM)
        process.reap(child.pid)
        left = process.send_group(child.pid, 0)
        return end, child.pid if left else None

    def blind(self) -> list[int]:
        """The numbers of those that only SIGCHLD tells about."""
        return list(self._blind)

    def halted(self, among: Iterable[int]) -> list[int]:
        """Of these numbers, those who were stopped since the last question and still are."""
        return [number for number in among if (pid := self.pid(number)) and process.halted(pid)]

    def reap_adopted(self) -> Iterator[int]:
        """See `process.reap_adopted`."""
        return process.reap_adopted(self)

    def adopted(self) -> list[int]:
        """The pids of children that nobody here knows.  Costly: for the rare case."""
        return [pid for pid in process.children() if pid not in self]

    def helpers(self) -> list[int]:
        """The pids of living processes that outlived their worker; the dead ones are reaped.

        What a hook of the master's began is in the master's own session and none
        of them: it may be needed until ``on_exit``, and a Popen may wait for it.
        """
        return process.sort_out(self)[0]

    def alone(self) -> bool:
        """Neither a worker nor a helper is left."""
        return not process.has_children() or not (self._by_pid or self.helpers())

    def kill_group(self, pgid: int) -> int:
        """SIGKILL what is left of a dead child's group; return how many were found.

        The number may have a new owner by now: only a group of which an adopted,
        so unreaped, child of ours is a member is still the same one.
        """
        if pgid in self._by_pid:
            return 0
        members = [pid for pid in self.adopted() if _group(pid) == pgid]
        if members:
            process.send_group(pgid, signal.SIGKILL)
        return len(members)

    def _forget(self, child: Child) -> None:
        del self._by_number[child.number], self._by_pid[child.pid]
        self._blind.pop(child.number, None)
        if child.pidfd is not None:
            self._loop.forget(child.pidfd)
            os.close(child.pidfd)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
