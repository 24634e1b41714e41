"""Descriptors in their places, whatever the numbers were before."""

from __future__ import annotations

import fcntl
import itertools
import os
import resource

import pytest
from births import bear, make, say

from supervisor.child.birth import Birth
from supervisor.unix.descriptors import FIRST, line_up
from supervisor.unix.loop import close_inherited

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def lay_out(numbers: tuple[int, ...]) -> dict[int, int]:
    """A memory file at each number, told apart by its inode."""
    inodes = {}
    for number in numbers:
        fd = os.memfd_create(str(number))
        inodes[number] = os.fstat(fd).st_ino
        if fd != number:
            os.dup2(fd, number)
            os.close(fd)
    return inodes


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def in_a_child(listeners: tuple[int, ...], others: tuple[int, ...], limit: int = 40) -> None:
    """Line up in a child with few descriptors, and look at where each file is afterwards."""

    def run(birth: Birth, tell: object) -> int:
        notify = fcntl.fcntl(birth.notify_fd, fcntl.F_DUPFD, 30)
        close_inherited({notify})
        os.dup2(notify, 39)
        os.close(notify)
        inodes = lay_out(tuple(dict.fromkeys((*listeners, *others))))
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        now = line_up(listeners, others, inheritable=True)
        places = range(FIRST, FIRST + len(listeners))
        wrong = [
            fd
            for fd, place in zip(listeners, places, strict=True)
            if os.fstat(place).st_ino != inodes[fd] or not os.get_inheritable(place)
        ]
        wrong += [fd for fd in others if os.fstat(now[fd]).st_ino != inodes[fd] or now[fd] in places]
        there = {fd for fd in range(3, 39) if is_open(fd)}
        os.write(39, repr([wrong, sorted(there - {*places, *(now[fd] for fd in others)})]).encode())
        return 0

    born = bear(make("/"), run)
    assert born.sent == ["[[], []]"], (listeners, others, born)


@pytest.mark.parametrize("order", list(itertools.permutations((3, 4, 5))))
def test_any_order_of_what_is_in_its_own_way(order: tuple[int, ...]) -> None:
    """Circles, too: nothing is overwritten that is still needed, and nothing is left over."""
    in_a_child(order, (6,))


@pytest.mark.parametrize(
    ("listeners", "others"),
    [
        ((5, 3), (4,)),
        ((9, 8), (3, 4)),
        ((4, 20), (3,)),
        ((3,), ()),
        ((10, 11, 12, 13, 14, 15), (3, 5, 8)),
    ],
)
def test_others_leave_the_places(listeners: tuple[int, ...], others: tuple[int, ...]) -> None:
    in_a_child(listeners, others)


def test_a_limit_of_twenty_is_enough_for_many() -> None:
    """Thirteen in the opposite order, others in the way: one more number is used at a time."""
    in_a_child(tuple(range(18, 5, -1)), (3, 4, 5), limit=20)


def test_what_others_are_moved_to_does_not_reach_a_program() -> None:
    def run(birth: Birth, tell: object) -> int:
        close_inherited({birth.notify_fd})
        os.dup2(birth.notify_fd, 3)
        fd = os.memfd_create("x")
        now = line_up((fd,), (3,), inheritable=False)
        say(birth, [os.get_inheritable(now[3]), os.get_inheritable(3)])
        return 0

    assert bear(make("/"), run).said == [False, False]
