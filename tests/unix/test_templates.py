"""What a template process imports and forks, against the real kernel."""

from __future__ import annotations

import os
import select
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from template_box import KEY, TEMPLATE, Box, boxed, wait_stopped

from supervisor.exits import WORKER_DONE, WORKER_FAILED, End
from supervisor.settings import Account
from supervisor.unix import process

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with boxed(tmp_path) as box:
        yield box


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
    assert one["death_signal"] == signal.SIGTERM
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
    """Its SIGCHLD has come and gone by then: there is another one when it is adopted."""
    handler = signal.getsignal(signal.SIGCHLD)
    box.ready("def run(worker): os._exit(7)\n", ready="auto")
    box.templates.request(KEY, 2, 0, None, None)
    while not (answers := box.templates.answers()):
        box.loop.poll(box.loop.now() + 1.0)
    ((_, pid),) = answers
    assert isinstance(pid, int), pid
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(process, "open_pidfd", lambda _: None)
    box.loop.listen([signal.SIGCHLD])
    try:
        assert box.children.adopt(2, pid)
        assert [one.key for one in box.loop.poll(0.0) if one.kind == "signal"] == [signal.SIGCHLD]
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, handler)
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
    ignored = int(status_of(pid)["SigIgn"], 16)
    assert not ignored >> (signal.SIGPIPE - 1) & 1
    os.kill(pid, signal.SIGUSR1)
    assert box.until_end(2) == End(code=33)


def status_of(pid: int) -> dict[str, str]:
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
    assert status_of(pid)["NoNewPrivs"] == "1"


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


def test_only_a_child_of_ours_is_adopted(box: Box) -> None:
    """A template that names a stranger's pid must not have it signalled by the master."""
    stranger = psutil.Process().ppid()
    assert not box.children.adopt(2, stranger)
    assert not box.children.adopt(2, os.getpid())
    template = box.ready()
    assert not box.children.adopt(2, template), "known under another number"
    assert box.children.pid(2) is None
