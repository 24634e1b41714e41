"""Template processes and the workers they fork, against the real kernel.

Where a process is to be caught at one instruction, the application it imports
stops it there: by os.register_at_fork, or by standing in for a function of ours.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from template_box import KEY, TEMPLATE, Box, child_of, wait_stopped

from supervisor.exits import WORKER_DONE, WORKER_FAILED, WORKER_REPLACE, End
from supervisor.settings import Account
from supervisor.unix import process
from supervisor.unix.loop import Loop
from supervisor.unix.prctl import PR_SET_CHILD_SUBREAPER, become_subreaper
from supervisor.unix.templates import GONE, Templates

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    wakeup = signal.set_wakeup_fd(-1)
    fds = sorted(os.listdir("/proc/self/fd"))
    assert become_subreaper()
    box = Box(tmp_path)
    try:
        yield box
        box.close()
    finally:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        signal.set_wakeup_fd(wakeup)
    assert sorted(os.listdir("/proc/self/fd")) == fds, "descriptors are left"


# -- a worker of a template ----------------------------------------------------------


def test_a_worker_is_the_masters_child_with_what_its_template_imported(box: Box) -> None:
    """One import for all; own name, own session, a garbage collector that works on what is new."""
    template = box.ready()
    first, second = box.worker(2, slot=0), box.worker(3, slot=5)
    one, two = box.facts("web.0"), box.facts("web.5")
    assert (one["pid"], two["pid"]) == (first, second)
    assert one["parent"] == two["parent"] == os.getpid()
    assert one["imported_by"] == two["imported_by"] == template
    assert (one["session"], two["session"]) == (first, second)
    assert one["frozen"] > 10_000
    assert one["collects"]
    assert two["environ"]["SUPERVISOR_WORKER"] == "web.5"
    assert two["environ"]["SUPERVISOR_POOL"] == "web"
    assert box.children.signal(2, signal.SIGTERM)
    assert box.until_end(2) == End(code=WORKER_DONE)


def test_a_worker_is_known_before_its_ready_is_read(box: Box) -> None:
    """The datagram and the answer come by two ways: who looks the pid up drains the answers first."""
    box.ready()
    box.templates.request(KEY, 2, 0, None, None)
    ready = select.poll()
    ready.register(box.notify.socket, select.POLLIN)
    assert ready.poll(60_000)
    [(pid, message)] = box.notify.messages()
    assert box.answers == []
    assert message == {"READY": "1"}
    assert (box.children.number(pid), box.answers) == (2, [(2, pid)])


def test_a_worker_that_dies_at_once_is_reaped_once_with_its_status(box: Box) -> None:
    """It is a zombie before the master has read its pid: no orphan, but worker 2 with status 7."""
    box.ready("def run(worker): os._exit(7)\n", ready="auto")
    box.templates.request(KEY, 2, 0, None, None)
    dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    assert dead is not None
    assert box.answers == []
    assert list(box.children.reap_adopted()) == []
    assert box.answers == [(2, dead.si_pid)]
    assert box.until_end(2) == End(code=7)
    assert box.children.adopted() == []


def test_without_a_pidfd_a_worker_that_died_before_is_found(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGCHLD has come and gone by then: who adopts looks at the blind ones."""
    box.ready("def run(worker): os._exit(7)\n", ready="auto")
    box.templates.request(KEY, 2, 0, None, None)
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(process, "open_pidfd", lambda _: None)
    box.learn()
    assert box.children.blind() == [2]
    assert box.children.bury(2) == (End(code=7), None)


def test_what_the_application_changed_at_its_import_holds_in_its_workers(box: Box) -> None:
    """Environment, signal handlers and the collector, as if the worker had imported it."""
    box.ready(
        "os.environ.update(MODE='mine', BOTH='mine')\n"
        "signal.signal(signal.SIGUSR1, lambda *_: os._exit(33))\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "gc.disable()\n",
        env={"BOX": str(box.folder), "BOTH": "configured"},
    )
    pid = box.worker(2)
    facts = box.facts("web.0")
    assert (facts["environ"]["MODE"], facts["environ"]["BOTH"]) == ("mine", "mine")
    assert not facts["collects"]
    ignored = int(psutil_status(pid)["SigIgn"], 16)
    assert not ignored >> (signal.SIGPIPE - 1) & 1
    os.kill(pid, signal.SIGUSR1)
    assert box.until_end(2) == End(code=33)


def psutil_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_a_worker_has_its_own_output_and_nothing_of_the_template(box: Box) -> None:
    """stdout and stderr come by the request; the template's channel and stacks stay with it."""
    box.ready()
    reader, writer = os.pipe()
    pid = box.worker(2, out=writer, err=writer)
    os.close(writer)
    fds = box.facts("web.0")["fds"]
    assert fds["1"] == fds["2"] == os.readlink(f"/proc/self/fd/{reader}")
    kinds = sorted(place.partition(":")[0] for fd, place in fds.items() if fd not in ("0", "1", "2"))
    # The notify socket, its stacks, the wakeup pipe, the master's pidfd, the worker's event, this listing.
    assert kinds.count("socket") == 1, fds
    assert sum("supervisor-stacks" in place for place in fds.values()) == 1
    assert kinds.count("pipe") == 2
    os.kill(pid, signal.SIGKILL)
    box.until_end(2)
    assert os.read(reader, 1) == b"", "the template keeps no copy of it"
    os.close(reader)


def test_what_was_printed_at_the_import_is_printed_once(box: Box) -> None:
    """A buffer that is copied by fork would be flushed by each worker, too."""
    box.ready("import sys; sys.stdout = open(os.environ['BOX'] + '/printed', 'w'); print('once')\n")
    box.worker(2)
    box.children.signal(2, signal.SIGTERM)
    assert box.until_end(2) == End(code=WORKER_DONE)
    assert (box.folder / "printed").read_text() == "once\n"


def test_a_heap_of_objects_stays_shared_over_full_collections(box: Box) -> None:
    """Three collections in the worker touch nothing of what its template imported."""
    box.ready(
        "heap = [{'n': [i, str(i)]} for i in range(150_000)]\n"  # about 60 MB
        "run_later = run\n"
        "def run(worker):\n"
        "    for _ in range(3): gc.collect()\n"
        "    run_later(worker)\n"
    )
    process_ = psutil.Process(box.worker(2)).memory_full_info()
    assert process_.rss > 60e6
    assert process_.uss < process_.rss / 4


@as_root
def test_privileges_are_dropped_before_the_application_is_imported(box: Box) -> None:
    """The template is nobody already; its worker is so by birth, and still gets TERM when the master dies."""
    with tempfile.TemporaryDirectory() as folder:
        for place in (folder, str(box.folder)):
            os.chmod(place, 0o777)
        box.account = Account("nobody", 65534, 65534)
        box.ready("IMPORTED_BY = os.getuid()\n", path=Path(folder), user="nobody", env={"BOX": folder})
        box.folder = Path(folder)
        pid = box.worker(2)
        facts = box.facts("web.0")
    assert facts["imported_by"] == 65534
    assert facts["uids"] == [65534] * 3
    assert facts["groups"] == [65534]
    assert psutil_status(pid)["NoNewPrivs"] == "1"


# -- what the application does to its template ---------------------------------------


def test_an_import_that_fails_is_told(box: Box) -> None:
    """As a worker tells it: an event with the traceback, a line to the master, status 1."""
    box.start("import no_such_module\n")
    assert box.until_end(TEMPLATE) == End(code=WORKER_FAILED)
    [event] = box.events()
    assert (event["event"], event["worker"]) == ("worker.error", f"{KEY}.0")
    assert event["reason"] == "cannot load boxed:run"
    assert "no_such_module" in event["traceback"]
    [(number, message)] = box.heard
    assert number == TEMPLATE
    assert message["X_ERROR"].startswith("cannot load boxed:run: ModuleNotFoundError")


def test_threads_begun_at_the_import_are_warned_of_once(box: Box) -> None:
    """They are not in the workers, but their locks may be."""
    box.ready(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(999,), daemon=True).start()\n"
    )
    box.worker(2)
    box.worker(3)
    [event] = box.events()
    assert (event["event"], event["level"]) == ("worker.error", "warning")
    assert "1 thread " in event["reason"]


@pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda *_: None"])
def test_term_ends_a_template_whatever_its_application_does_with_term(box: Box, handler: str) -> None:
    """The handler is for the workers; a template has nothing to finish."""
    pid = box.ready(f"signal.signal(signal.SIGTERM, {handler})\n")
    os.kill(pid, signal.SIGTERM)
    assert box.until_end(TEMPLATE) == End(signal=signal.SIGTERM)


def test_term_ends_a_template_while_it_imports(box: Box) -> None:
    """An import that hangs does not hold up a stop."""
    pid = box.start("stop_here()\nwhile True: signal.pause()\n")
    wait_stopped(pid)
    assert box.children.signal(TEMPLATE, signal.SIGTERM, signal.SIGCONT)
    assert box.until_end(TEMPLATE) == End(signal=signal.SIGTERM)


def test_an_application_that_closes_all_descriptors_is_told(box: Box) -> None:
    """A daemonizing habit: there is no way left to ask for workers, so it says why and fails."""
    box.start("os.closerange(3, 4096)\n")
    assert box.until_end(TEMPLATE) == End(code=WORKER_FAILED)
    [event] = box.events()
    assert "closed descriptors" in event["reason"]


def test_end_of_file_lets_a_template_leave_and_its_workers_go_on(box: Box) -> None:
    """The master wants no more of this generation."""
    box.ready()
    box.worker(2)
    box.templates.forget(KEY)
    assert box.until_end(TEMPLATE) == End(code=WORKER_DONE)
    assert box.children.signal(2, signal.SIGTERM)
    assert box.until_end(2) == End(code=WORKER_DONE)


# -- faults ------------------------------------------------------------------------

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
    for pid in family() - alive:  # those who never began leave by themselves
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
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
    assert box.until_answered(2) == "cannot fork: Resource temporarily unavailable"
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
    assert box.until_answered(3) == "cannot fork: Too many open files"
    resource.prlimit(template, resource.RLIMIT_NOFILE, before)
    box.worker(4, out=writer, err=writer)
    os.close(reader)
    os.close(writer)


def test_who_loses_the_master_leaves(box: Box) -> None:
    """Template and worker get TERM from the kernel, though the worker was born of another process."""
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
    ends = {pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (pid, template, worker)}
    assert ends == {pid: -signal.SIGKILL, template: -signal.SIGTERM, worker: WORKER_DONE}
    os.close(reader)
    os.close(writer)


# -- the master's side ---------------------------------------------------------------


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


def test_only_a_child_of_ours_is_adopted(box: Box) -> None:
    """A template that names a stranger's pid must not have it signalled by the master."""
    stranger = psutil.Process().ppid()
    assert not box.children.adopt(2, stranger)
    assert not box.children.adopt(2, os.getpid())
    template = box.ready()
    assert not box.children.adopt(2, template), "known under another number"
    assert box.children.pid(2) is None
