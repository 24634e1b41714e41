"""Whoever is killed or refused at whatever moment: no worker begins that the master does not know.

Where a process is to be caught at one instruction, the application it imports
stops it there: by os.register_at_fork, or by standing in for a function of ours.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from template_box import KEY, TEMPLATE, Box, boxed, child_of, wait_stopped

from supervisor.exits import WORKER_DONE, WORKER_REPLACE, End
from supervisor.unix import process
from supervisor.unix.prctl import become_subreaper
from supervisor.unix.templates import GONE

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with boxed(tmp_path) as box:
        yield box


# Stands in for a function of the template's, and calls it once unless this has happened before.
ONCE = """
import supervisor.child.template as template
real = template.{name}
def stand_in(*rest):
    if os.path.exists(os.environ["BOX"] + "/once"):
        return real(*rest)
    open(os.environ["BOX"] + "/once", "w").close()
    {do}
template.{name} = stand_in
"""


def family() -> set[int]:
    """Our children and theirs."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_kill_of_the_middle_process_before_it_forked(box: Box) -> None:
    """An error, nobody is left, and the template goes on."""
    template = box.ready(ONCE.format(name="_between", do="stop_here()"))
    box.templates.request(KEY, 2, 0, None, None)
    middle = child_of(template)
    wait_stopped(middle)
    os.kill(middle, signal.SIGKILL)
    assert "was killed" in str(box.until_answered(2))
    worker = box.worker(3)
    assert family() == {template, worker}


def test_kill_of_the_middle_process_after_it_forked(box: Box) -> None:
    """Nobody has told the worker's pid: it leaves without having begun, and is no child that stays."""
    template = box.ready(
        ONCE.format(name="_between", do="os.register_at_fork(after_in_parent=stop_here); return real(*rest)")
    )
    box.templates.request(KEY, 2, 0, None, None)
    middle = child_of(template)
    wait_stopped(middle)
    worker = child_of(middle)
    os.kill(middle, signal.SIGKILL)
    assert "was killed" in str(box.until_answered(2))
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    assert process.ended(worker) == End(code=WORKER_REPLACE)
    assert list(box.children.reap_adopted()) == [worker]
    assert not (box.folder / "web.0").exists(), "it never began"
    worker = box.worker(3)
    assert family() == {template, worker}


def test_kill_of_the_template_before_it_has_read_the_pid(box: Box, capfd: pytest.CaptureFixture[str]) -> None:
    """Middle process and worker find nobody to talk to, and leave without a word."""
    template = box.ready(
        "os.register_at_fork(after_in_parent=lambda: os.getpid() == IMPORTED_BY and stop_here())\n"
    )
    box.templates.request(KEY, 2, 0, None, None)
    wait_stopped(template)
    middle = child_of(template)
    while psutil.Process(middle).status() != psutil.STATUS_ZOMBIE:
        os.sched_yield()
    [worker] = family() - {template, middle}
    os.kill(template, signal.SIGKILL)
    assert box.until_end(TEMPLATE) == End(signal=signal.SIGKILL)
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    assert process.ended(worker) == End(code=WORKER_REPLACE)
    assert box.templates.closed(KEY) == [(2, GONE)]
    assert capfd.readouterr().err == ""


def test_kill_of_the_template_before_its_answer(box: Box) -> None:
    """The request comes back as unanswered; the worker leaves without having begun."""
    template = box.ready(ONCE.format(name="answer", do="stop_here()"))
    box.templates.request(KEY, 2, 0, None, None)
    wait_stopped(template)
    [worker] = family() - {template}
    os.kill(template, signal.SIGKILL)
    assert box.until_end(TEMPLATE) == End(signal=signal.SIGKILL)
    assert box.templates.closed(KEY) == [(2, GONE)]
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    assert list(box.children.reap_adopted()) == [worker]
    assert box.answers == []
    assert not (box.folder / "web.0").exists(), "it never began"


def test_kill_of_the_template_after_its_answer(box: Box) -> None:
    """The worker is known but was never told to begin: it ends as one that wants to be replaced."""
    template = box.ready(ONCE.format(name="answer", do="real(*rest); stop_here()"))
    box.templates.request(KEY, 2, 0, None, None)
    wait_stopped(template)
    os.kill(template, signal.SIGKILL)
    assert box.until_end(TEMPLATE) == End(signal=signal.SIGKILL)
    assert box.templates.closed(KEY) == []
    box.learn()
    assert box.until_end(2) == End(code=WORKER_REPLACE)
    assert family() == set()


def test_kill_of_the_template_leaves_its_workers_alone(box: Box) -> None:
    """The master is their parent; they answer to it as ever."""
    template = box.ready()
    pid = box.worker(2)
    os.kill(template, signal.SIGKILL)
    assert box.until_end(TEMPLATE) == End(signal=signal.SIGKILL)
    assert box.templates.closed(KEY) == []
    assert psutil.Process(pid).ppid() == os.getpid()
    assert box.children.signal(2, signal.SIGTERM)
    assert box.until_end(2) == End(code=WORKER_DONE)


@pytest.mark.parametrize("microseconds", [0, 300, 600, 1000, 2000, 4000, 8000, 16000])
def test_kill_of_the_template_at_any_moment(box: Box, microseconds: int) -> None:
    """Each of three requests has one outcome, and no process is left that has not got one."""
    template = box.ready()
    for number in (2, 3, 4):
        box.templates.request(KEY, number, number, None, None)
    gone = time.monotonic() + microseconds / 1e6
    while time.monotonic() < gone:
        pass
    os.kill(template, signal.SIGKILL)
    assert box.until_end(TEMPLATE) == End(signal=signal.SIGKILL)
    lost = box.templates.closed(KEY)
    box.learn()
    assert sorted([number for number, _ in lost] + [number for number, _ in box.answers]) == [2, 3, 4]
    begun = {number for number, outcome in box.answers if isinstance(outcome, int)}
    while any((number, {"READY": "1"}) not in box.heard and number not in box.ends for number in begun):
        box.turn()
    assert all(end == End(code=WORKER_REPLACE) for number, (end, _) in box.ends.items() if number in begun)
    alive = {box.children.pid(number) for number in begun - {*box.ends}}
    while others := {child.pid for child in psutil.Process().children()} - alive:
        for pid in others:  # those who never began leave by themselves
            os.waitpid(pid, 0)
    assert len([*box.folder.glob("web.*")]) == len(alive)


def test_kill_of_a_worker_before_its_answer(box: Box) -> None:
    """A zombie when it is adopted: its death is reported as what it was."""
    template = box.ready(ONCE.format(name="answer", do="stop_here(); return real(*rest)"))
    box.templates.request(KEY, 2, 0, None, None)
    wait_stopped(template)
    [worker] = family() - {template}
    os.kill(worker, signal.SIGKILL)
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    os.kill(template, signal.SIGCONT)
    assert box.until_answered(2) == worker
    assert box.until_end(2) == End(signal=signal.SIGKILL)
    box.worker(3)


def test_a_template_that_is_forgotten_begins_no_worker(box: Box) -> None:
    """Its answer cannot be sent any more: the request is answered here, the worker leaves."""
    template = box.ready(ONCE.format(name="answer", do="stop_here(); return real(*rest)"))
    box.templates.request(KEY, 2, 0, None, None)
    wait_stopped(template)
    [worker] = family() - {template}
    box.templates.forget(KEY)
    os.kill(template, signal.SIGCONT)
    assert box.until_end(TEMPLATE) == End(code=WORKER_DONE)
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    assert box.templates.answers() == [(2, GONE)]
    assert not (box.folder / "web.0").exists()


@pytest.mark.parametrize("who", ["template", "middle"])
def test_a_fork_that_fails_is_an_answer(box: Box, who: str) -> None:
    """EAGAIN, here or there; the next request may have luck."""
    template = box.ready(
        "real = os.fork\n"
        "def fork():\n"
        f"    who = 'template' if os.getpid() == IMPORTED_BY else 'middle'\n"
        f"    if who == '{who}' and not os.path.exists(os.environ['BOX'] + '/once'):\n"
        "        open(os.environ['BOX'] + '/once', 'w').close()\n"
        "        raise BlockingIOError(11, os.strerror(11))\n"
        "    return real()\n"
        "os.fork = fork\n"
    )
    box.templates.request(KEY, 2, 0, None, None)
    assert str(box.until_answered(2)).startswith("cannot fork: Resource temporarily unavailable; ")
    worker = box.worker(3)
    assert family() == {template, worker}


def test_no_descriptors_left_is_an_answer(box: Box) -> None:
    """The kernel drops what finds no room: an error, not a worker that prints elsewhere."""
    template = box.ready()
    in_use = {int(fd) for fd in os.listdir(f"/proc/{template}/fd")}
    before = resource.prlimit(template, resource.RLIMIT_NOFILE)
    resource.prlimit(template, resource.RLIMIT_NOFILE, (min({*range(4096)} - in_use), before[1]))
    reader, writer = os.pipe()
    box.templates.request(KEY, 2, 0, writer, writer)
    assert "too many open files" in str(box.until_answered(2)).lower()
    box.templates.request(KEY, 3, 0, None, None)
    assert "cannot fork: Too many open files; its limits are { nofile = " in str(box.until_answered(3))
    resource.prlimit(template, resource.RLIMIT_NOFILE, before)
    box.worker(4, out=writer, err=writer)
    os.close(reader)
    os.close(writer)


def test_who_loses_the_master_leaves(box: Box) -> None:
    """A worker ends its work as after TERM; its template finds end of file, or TERM comes first."""
    reader, writer = os.pipe()

    def master() -> int:
        become_subreaper()
        small = Box(box.folder)
        pids = small.ready(), small.worker(2)
        os.write(writer, f"{os.getpid()} {pids[0]} {pids[1]}".encode())
        while True:
            signal.pause()

    box.notify.close()
    [pid] = process.fork_all([master])
    told, template, worker = map(int, os.read(reader, 100).split())
    assert told == pid
    os.kill(pid, signal.SIGKILL)
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (pid, worker, template)]
    assert ends[:2] == [-signal.SIGKILL, WORKER_DONE]
    assert ends[2] in (WORKER_DONE, -signal.SIGTERM)
    os.close(reader)
    os.close(writer)
