"""The master's side of template processes: requests, answers, and what makes no sense."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from collections.abc import Iterator

import pytest

from supervisor.unix.loop import Loop
from supervisor.unix.templates import GONE, Templates

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def loop() -> Iterator[Loop]:
    wakeup = signal.set_wakeup_fd(-1)
    loop = Loop()
    yield loop
    loop.close()
    signal.set_wakeup_fd(wakeup)


def test_requests_that_find_no_room_wait_and_lose_nothing(loop: Loop) -> None:
    """A template that is stopped never blocks the master; order and descriptors are kept."""
    templates = Templates(loop)
    other = socket.socket(fileno=os.dup(templates.connect("@web:1")))
    templates.sealed("@web:1")
    before = len(os.listdir("/proc/self/fd"))
    reader, writer = os.pipe()
    for number in range(2000):
        templates.request("@web:1", number, 0, writer if number % 500 == 0 else None, None)
    os.close(writer)
    got: list[tuple[int, int]] = []
    while len(got) < 2000:
        seen = loop.poll(0.0)
        assert all(one.kind == "template" for one in seen)
        templates.answers()
        data, fds, _, _ = socket.recv_fds(other, 4096, 2)
        got.append((json.loads(data)["number"], len(fds)))
        for fd in fds:
            os.close(fd)
    assert got == [(number, int(number % 500 == 0)) for number in range(2000)]
    assert loop.poll(0.0) == [], "room is not reported when nothing waits"
    assert os.read(reader, 1) == b"", "no copy of the descriptors is left"
    os.close(reader)
    assert len(os.listdir("/proc/self/fd")) == before
    templates.forget("@web:1")
    other.close()


NONSENSE = [
    b"no json",
    b"[" * 3000,
    b"7",
    b"{}",
    b'{"number": 2}',
    b'{"number": 2, "pid": 0}',
    b'{"number": 2, "pid": -1}',
    b'{"number": 3, "pid": 4711}',
    b'{"number": "2", "pid": 4711}',
]


@pytest.mark.parametrize("said", NONSENSE)
def test_what_makes_no_sense_is_no_answer(loop: Loop, said: bytes) -> None:
    """The application's code runs in a template, and may say what it likes."""
    templates = Templates(loop)
    other = socket.socket(fileno=os.dup(templates.connect("@web:1")))
    templates.sealed("@web:1")
    templates.request("@web:1", 2, 0, None, None)
    other.send(said)
    other.send(b'{"number": 2, "pid": 4711}')
    other.send(b'{"number": 2, "pid": 4712}')
    assert templates.answers() == [(2, 4711)]
    other.close()
    assert templates.answers() == []
    assert loop.poll(0.0) == [], "end of file is not reported for ever"
    templates.request("@web:1", 5, 0, None, None)
    assert templates.closed("@web:1") == [(5, GONE)]
    assert templates.closed("@web:1") == []


def test_a_request_to_nobody_is_answered(loop: Loop) -> None:
    """Its template died before it was asked."""
    templates = Templates(loop)
    templates.request("@web:1", 2, 0, None, None)
    assert templates.answers() == [(2, GONE)]


def test_requests_that_still_wait_leave_no_descriptor_when_the_template_is_gone(loop: Loop) -> None:
    """Each of them has a number of its own to be told of."""
    before = len(os.listdir("/proc/self/fd"))
    templates = Templates(loop)
    templates.connect("@web:1")
    for number in range(2000):
        templates.request("@web:1", number, 0, 1 if number % 500 == 0 else None, None)
    assert len(os.listdir("/proc/self/fd")) > before + 2, "some do wait"
    assert templates.closed("@web:1") == [(number, GONE) for number in range(2000)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_request_for_which_no_descriptor_is_left_is_answered(loop: Loop) -> None:
    """EMFILE is a fact to plan around."""
    templates = Templates(loop)
    templates.connect("@web:1")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(1)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    templates.request("@web:1", 2, 0, 1, None)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert templates.answers() == [(2, "cannot ask its template: Too many open files")]
    assert templates.closed("@web:1") == []
