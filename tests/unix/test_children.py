"""Children by number, pid and pidfd, against the real kernel."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from supervisor.exits import End
from supervisor.unix import process
from supervisor.unix.children import Children
from supervisor.unix.loop import Loop
from supervisor.unix.process import STOLEN

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Box:
    """Children in their loop, and a pipe that the children hold open."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.children = Children(self.loop)
        self.reader, self.writer = os.pipe()
        self.numbers: list[int] = []

    def start(self, number: int, then: Callable[[], object] = lambda: None) -> int:
        """A child of its own group that waits; returns when it does."""
        ready, tell = os.pipe()

        def run() -> int:
            os.setsid()
            then()
            os.write(tell, b".")
            os.close(tell)
            os.close(ready)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            while True:
                signal.pause()

        pid = self.children.fork_all([(number, run)])[0]
        self.numbers.append(number)
        os.close(tell)
        assert os.read(ready, 1) == b"."
        os.close(ready)
        return pid

    def wait_exit(self) -> int:
        """The number of the next child that the loop sees end."""
        seen = self.loop.poll(self.loop.now() + 10)
        assert seen[0].kind == "exit"
        return seen[0].key

    def close(self) -> None:
        for number in self.numbers:
            if pid := self.children.pid(number):
                self.children.kill(number)
                wait_zombie(pid)
                self.children.bury(number)
        self.loop.close()
        os.close(self.reader)
        os.close(self.writer)


def wait_zombie(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def box() -> Iterator[Box]:
    wakeup = signal.set_wakeup_fd(-1)
    box = Box()
    yield box
    box.close()
    signal.set_wakeup_fd(wakeup)


def test_a_child_is_found_by_number_and_by_pid_until_it_is_buried(box: Box) -> None:
    """The loop tells of its end; bury tells how, once."""
    pid = box.start(5)
    assert (box.children.pid(5), box.children.number(pid), pid in box.children) == (pid, 5, True)
    assert box.children.bury(5) is None, "it lives"
    assert box.children.signal(5, signal.SIGTERM, signal.SIGCONT)
    assert box.wait_exit() == 5
    assert box.children.bury(5) == (End(signal=signal.SIGTERM), None)
    assert box.children.bury(5) is None
    assert (box.children.pid(5), pid in box.children) == (None, False)
    assert box.loop.poll(0.0) == []


def test_a_stopped_child_leaves_on_term_and_cont(box: Box) -> None:
    """TERM alone would stay pending in state T."""
    pid = box.start(1)
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    assert box.children.signal(1, signal.SIGTERM, signal.SIGCONT)
    assert box.wait_exit() == 1


def test_a_child_that_is_stopped_is_found_once_each_time(box: Box) -> None:
    """And only among those who are asked for; who goes on again is none."""
    pid, other = box.start(1), box.start(2)
    assert box.children.halted([1, 2, 9]) == []
    for one in (pid, other):
        os.kill(one, signal.SIGSTOP)
        os.waitid(os.P_PID, one, os.WSTOPPED | os.WNOWAIT)
    assert box.children.halted([1, 9]) == [1]
    assert box.children.halted([1, 9]) == []
    os.kill(other, signal.SIGCONT)
    os.waitid(os.P_PID, other, os.WCONTINUED)
    assert box.children.halted([1, 2]) == []
    box.children.signal(1, signal.SIGTERM, signal.SIGCONT)
    assert box.wait_exit() == 1


def test_what_is_done_to_an_unknown_number_is_nothing(box: Box) -> None:
    """A fact that came late harms nobody."""
    assert box.children.signal(9, signal.SIGKILL)
    assert box.children.kill(9)
    assert box.children.stacks(9) is None
    box.children.dump(9, signal.SIGABRT)
    assert box.children.kill_group(os.getpgid(0)) == 0, "our own group has no adopted member"


def test_a_helper_speaks_for_its_worker_and_outlives_it(box: Box) -> None:
    """Same group: its messages count for the worker; bury gives the group, which had its TERM."""
    told, tell = os.pipe()

    def with_helper() -> None:
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            os.write(tell, os.getpid().to_bytes(4, "little"))
            signal.sigwait({signal.SIGTERM})
            os.write(tell, b"TERM")
            while True:
                signal.pause()

    pid = box.start(3, with_helper)
    helper = int.from_bytes(os.read(told, 4), "little")
    assert box.children.number(helper) == 3
    os.kill(pid, signal.SIGKILL)
    assert box.wait_exit() == 3
    assert box.children.bury(3) == (End(signal=signal.SIGKILL), pid)
    assert os.read(told, 4) == b"TERM"
    gone = os.pidfd_open(helper)
    os.killpg(pid, signal.SIGKILL)
    assert select.select([gone], [], [], 10)[0]
    for fd in (gone, told, tell):
        os.close(fd)


def test_kill_takes_the_whole_group(box: Box) -> None:
    """A helper that ignores TERM is gone with its worker."""
    told, tell = os.pipe()

    def with_helper() -> None:
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(tell, b".")
            while True:
                signal.pause()

    box.start(3, with_helper)
    os.close(tell)
    assert os.read(told, 1) == b"."
    assert box.children.kill(3)
    assert os.read(told, 1) == b"", "no holder of the pipe is left"
    os.close(told)


def test_without_a_pidfd_a_child_is_looked_at_on_request(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMFILE or an old kernel: it is listed as blind until it is buried."""
    monkeypatch.setattr(process, "open_pidfd", lambda _: None)
    pid = box.start(2)
    assert box.children.blind() == [2]
    assert box.children.bury(2) is None
    os.kill(pid, signal.SIGKILL)
    wait_zombie(pid)
    assert box.loop.poll(0.0) == []
    assert box.children.bury(2) == (End(signal=signal.SIGKILL), None)
    assert box.children.blind() == []


def test_an_exit_status_that_somebody_took(box: Box) -> None:
    """waitpid elsewhere in the process: the end is known, how is not."""
    pid = box.start(2)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert box.wait_exit() == 2
    assert box.children.bury(2) == (STOLEN, None)


def test_a_fork_that_fails_leaves_nothing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the caller's; no child, no descriptor, and the signal mask as before."""

    def refused() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    fds = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fork", refused)
    [refusal] = box.children.fork_all([(1, lambda: 0)])
    assert isinstance(refusal, OSError)
    assert box.children.pid(1) is None
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert set(os.listdir("/proc/self/fd")) == fds


def test_descriptors_stay_constant_over_many_children(box: Box) -> None:
    """Each pidfd is closed with its child."""
    fds = set(os.listdir("/proc/self/fd"))
    for number in range(50):
        box.children.fork_all([(number, lambda: 0)])
        assert box.wait_exit() == number
        assert box.children.bury(number) == (End(code=0), None)
    assert set(os.listdir("/proc/self/fd")) == fds


ADOPTS = """
import os, select, signal, sys
from supervisor.unix.children import Children
from supervisor.unix.loop import Loop
from supervisor.unix.prctl import become_subreaper

assert become_subreaper()
children = Children(Loop())
reader, writer = os.pipe()

def run():
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(writer, os.getpid().to_bytes(4, "little"))
        while True:
            signal.pause()
    return 0

worker = children.fork_all([(1, run)])[0]
helper = int.from_bytes(os.read(reader, 4), "little")
os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
end, group = children.bury(1)
print(group == worker, children.adopted() == [helper], children.number(helper))
stranger = os.spawnvp(os.P_NOWAIT, "sleep", ["sleep", "60"])
print(children.kill_group(worker))
os.waitid(os.P_PID, helper, os.WEXITED | os.WNOWAIT)
print(list(children.reap_adopted()) == [helper], children.adopted() == [stranger])
print(children.kill_group(worker), os.waitpid(stranger, os.WNOHANG) == (0, 0))
os.kill(stranger, signal.SIGKILL)
os.waitpid(stranger, 0)
"""


def test_what_outlives_a_worker_is_adopted_and_ended_and_strangers_are_not() -> None:
    """The group's number is only used while an unreaped child of ours is in it."""
    done = subprocess.run(
        [sys.executable, "-c", ADOPTS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["True True None", "1", "True True", "0 True"]
