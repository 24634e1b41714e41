"""Fork, signal and reap, against the real kernel.  Pipes are the barriers."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from supervisor.exits import End
from supervisor.unix import process
from supervisor.unix.prctl import become_subreaper, set_parent_death_signal

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def waits() -> int:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    while True:
        signal.pause()


def told_by(run: Callable[[int], None]) -> bytes:
    """What a child writes to its end of a pipe, up to its exit."""
    reader, writer = os.pipe()

    def child() -> int:
        run(writer)
        return 0

    pid = process.fork_all([child])[0]
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def wait_zombie(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def waiting() -> Iterator[int]:
    """A child that dies of any signal, in a group of its own."""
    reader, writer = os.pipe()

    def child() -> int:
        os.setsid()
        os.close(writer)
        return waits()

    pid = process.fork_all([child])[0]
    os.close(writer)
    os.read(reader, 1)
    os.close(reader)
    yield pid
    process.send(pid, signal.SIGKILL)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


@pytest.mark.parametrize(("result", "code"), [(0, 0), (4, 4), (256 + 7, 7), (-1, 255)])
def test_a_child_exits_with_what_it_returns(result: int, code: int) -> None:
    """The low eight bits are the status, as for exit(3)."""
    pid = process.fork_all([lambda: result])[0]
    wait_zombie(pid)
    assert process.ended(pid) == End(code=code)
    assert process.ended(pid) == End(code=code), "to look is not to take"
    process.reap(pid)
    assert process.ended(pid) is process.STOLEN


def test_an_exception_never_leaves_the_child(capfd: pytest.CaptureFixture[str]) -> None:
    """It is printed, and the child exits with 1: nothing of the parent's stack runs in it."""

    def fails() -> int:
        raise SystemExit(0)

    try:
        pid = process.fork_all([fails])[0]
    finally:
        parent = os.getpid()
    os.waitpid(pid, 0)
    assert parent == os.getpid()
    assert "SystemExit" in capfd.readouterr().err


def test_how_a_child_ended_by_a_signal(waiting: int) -> None:
    """None while it lives, then the signal's number."""
    assert process.ended(waiting) is None
    assert process.send(waiting, signal.SIGXCPU)
    wait_zombie(waiting)
    assert process.ended(waiting) == End(signal=signal.SIGXCPU)


def test_a_child_begins_with_default_dispositions_and_all_blocked() -> None:
    """Handlers, ignored signals and the wakeup fd of the parent are gone; the parent keeps its own."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    wakeup = signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)

    def tell(out: int) -> None:
        kinds = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        handled = [n for n in kinds if signal.getsignal(n) not in (signal.SIG_DFL, None)]
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        os.write(out, repr((handled, kinds <= blocked, signal.set_wakeup_fd(-1))).encode())

    try:
        assert told_by(tell) == b"([], True, -1)"
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
        assert signal.set_wakeup_fd(wakeup) == theirs
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGUSR1, before)
        os.close(ours)
        os.close(theirs)


def test_what_a_child_printed_is_flushed_once(capfd: pytest.CaptureFixture[str]) -> None:
    """leave() flushes stdio, and the parent's atexit functions do not run in the child."""

    def prints() -> int:
        sys.stdout.write("said")
        return 0

    pid = process.fork_all([prints])[0]
    os.waitpid(pid, 0)
    assert capfd.readouterr().out == "said"


def test_a_pidfd_is_readable_once_the_child_is_a_zombie(waiting: int) -> None:
    """Not before, and until it is reaped."""
    fd = process.open_pidfd(waiting)
    assert fd is not None
    try:
        assert not select.select([fd], [], [], 0)[0]
        process.send(waiting, signal.SIGTERM)
        assert select.select([fd], [], [], 10)[0]
        assert process.ended(waiting) == End(signal=signal.SIGTERM)
    finally:
        os.close(fd)


def test_no_descriptor_left_means_no_pidfd(waiting: int) -> None:
    """EMFILE is an answer, not an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert process.open_pidfd(waiting) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_signals_to_who_is_gone_are_no_error(waiting: int) -> None:
    """A zombie takes signals; after the reap there is nobody, and that is fine."""
    assert process.kill_with_group(waiting)
    wait_zombie(waiting)
    assert process.send(waiting, signal.SIGTERM)
    assert process.send_group(waiting, signal.SIGTERM)
    process.reap(waiting)
    process.reap(waiting)
    assert process.send(waiting, signal.SIGTERM)
    assert not process.send_group(waiting, signal.SIGTERM)


def test_kill_with_group_takes_the_helpers_too() -> None:
    """A helper in the group of the child is gone with it."""
    reader, writer = os.pipe()

    def child() -> int:
        os.setsid()
        if os.fork():
            os.write(writer, b".")
        return waits()

    pid = process.fork_all([child])[0]
    os.close(writer)
    assert os.read(reader, 1) == b"."
    assert process.kill_with_group(pid)
    os.waitpid(pid, 0)
    assert os.read(reader, 1) == b"", "the last holder of the pipe is gone"
    os.close(reader)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_child_of_another_user_may_not_be_signalled(waiting: int) -> None:
    """EPERM is false, told to the caller."""

    def try_it(out: int) -> None:
        os.setresuid(65534, 65534, 65534)
        os.write(out, repr((process.send(waiting, 0), process.send_group(waiting, 0))).encode())

    assert told_by(try_it) == b"(False, False)"


def test_orphans_are_reaped_and_known_children_are_not() -> None:
    """reap_adopted takes zombies of other sessions that nobody here knows."""

    def scene(out: int) -> None:
        become_subreaper()
        known = process.fork_all([lambda: 3])[0]
        wait_zombie(known)
        orphan = orphaned()
        wait_zombie(orphan)
        taken = [*process.reap_adopted({known, orphan}), *process.reap_adopted(set())]
        rest = set(process.reap_adopted({known}))
        os.write(out, repr((orphan in {*taken, *rest}, process.ended(known))).encode())

    def orphaned() -> int:
        reader, writer = os.pipe()

        def parent() -> int:
            os.setsid()
            if (child := os.fork()) == 0:
                os._exit(0)
            os.write(writer, child.to_bytes(4, "little"))
            return 0

        pid = process.fork_all([parent])[0]
        os.waitpid(pid, 0)
        return int.from_bytes(os.read(reader, 4), "little")

    assert told_by(scene) == b"(True, End(code=3, signal=None, error=None))"


def test_whether_any_child_is_left() -> None:
    """A zombie counts; after its reap nobody is left."""

    def scene(out: int) -> None:
        answers = [process.has_children()]
        pid = process.fork_all([lambda: 0])[0]
        wait_zombie(pid)
        answers += [process.has_children(), process.children() == [pid]]
        process.reap(pid)
        answers += [process.has_children(), process.children() == []]
        os.write(out, repr(answers).encode())

    assert told_by(scene) == b"[False, True, True, False, True]"


def test_a_child_whose_parent_is_gone_already_signals_itself() -> None:
    """The parent died between fork and prctl: no death signal comes, so the child sends it."""

    def scene(out: int) -> None:
        os.waitpid(process.fork_all([lambda: begin(out)])[0], 0)

    def begin(out: int) -> int:
        reader, writer = os.pipe()
        parent = os.getpid()

        def child() -> int:
            gone = os.pidfd_open(parent)
            os.write(writer, b".")
            select.select([gone], [], [])
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            signal.signal(signal.SIGTERM, lambda *_: os.write(out, b"told"))
            set_parent_death_signal(signal.SIGTERM, parent)
            return 0

        process.fork_all([child])
        os.read(reader, 1)
        return 0

    assert told_by(scene) == b"told"


def test_a_death_signal_comes_when_the_parent_dies() -> None:
    """Without any polling, from the kernel."""

    def scene(out: int) -> None:
        os.waitpid(process.fork_all([lambda: begin(out)])[0], 0)

    def begin(out: int) -> int:
        reader, writer = os.pipe()
        parent = os.getpid()

        def child() -> int:
            set_parent_death_signal(signal.SIGTERM, parent)
            os.write(writer, b".")
            os.write(out, signal.Signals(signal.sigwait({signal.SIGTERM})).name.encode())
            return 0

        process.fork_all([child])
        os.read(reader, 1)
        return 0

    assert told_by(scene) == b"SIGTERM"
