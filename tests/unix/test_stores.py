"""The process that writes the state file, and the master's side of it: real processes, real files."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rows import run, task

from supervisor import store
from supervisor.errors import StartError
from supervisor.inner import store as inner
from supervisor.store import connection
from supervisor.unix import process
from supervisor.unix.held import hold
from supervisor.unix.loop import Loop
from supervisor.unix.stores import Answer, Failed, Found, Saved, Stores

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Box:
    """A writer that runs in a child."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.path = str(folder / "state" / "shop.sqlite")
        self.loop = Loop()
        self.stores = Stores(self.loop)
        self.pids: list[int] = []
        self.asked_to_stop = os.eventfd(0)

    def start(self, largest: int | None = None) -> int:
        """It leaves at end of file, or when `stop` is called; ``largest`` is a limit of file sizes."""
        theirs = os.dup(self.stores.connect())

        def live() -> int:
            self.stores._channel._end.close()  # type: ignore[union-attr]  # as every child closes the master's
            self.stores.sealed()
            if largest is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
            inner.run(Asked(socket.socket(fileno=theirs), self.asked_to_stop, self.path))  # type: ignore[arg-type]
            return 0

        [pid] = process.fork_all([live])
        assert isinstance(pid, int)
        os.close(theirs)
        self.stores.sealed()
        self.pids.append(pid)
        return pid

    def stop(self) -> None:
        os.eventfd_write(self.asked_to_stop, 1)

    def answers(self, count: int = 1) -> list[Answer]:
        found: list[Answer] = []
        while len(found) < count:
            assert self.loop.poll(self.loop.now() + 30)
            found += self.stores.answers()
        return found

    def saved(self, token: int, *rows: Any) -> None:
        self.stores.save(token, rows)
        assert self.answers() == [Saved(token)]

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        assert end(pid).signal == signal.SIGKILL

    def close(self) -> None:
        self.stores.close()
        self.loop.close()
        os.close(self.asked_to_stop)
        for pid in self.pids:
            with contextlib.suppress(ChildProcessError):
                process.send(pid, signal.SIGKILL)
                process.send(pid, signal.SIGCONT)
                os.waitpid(pid, 0)


class Asked(SimpleNamespace):
    """As much of a `Worker` as the writer knows."""

    def __init__(self, channel: socket.socket, event: int, path: str) -> None:
        super().__init__(sockets={"channel": channel}, options={"path": path}, fileno=lambda: event)

    @property
    def stopping(self) -> bool:
        return bool(select.select([self.fileno()], [], [], 0)[0])


def end(pid: int) -> process.End:
    """How it ended; waits for that."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    found = process.ended(pid)
    assert found is not None
    return found


def pause(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    wakeup = signal.set_wakeup_fd(-1)
    box = Box(tmp_path)
    yield box
    box.close()
    signal.set_wakeup_fd(wakeup)


# -- storing -------------------------------------------------------------------


def test_what_is_confirmed_outlives_kill_9(box: Box) -> None:
    pid = box.start()
    box.saved(1, task("a", "paused"), run(1, "a"))
    box.kill(pid)
    found = store.load(box.path)["a"]
    assert (found.task, found.last_run) == (task("a", "paused"), run(1, "a"))


def test_what_was_not_answered_is_said_to_the_next_writer(box: Box) -> None:
    """In order, and only that."""
    pid = box.start()
    box.saved(1, task("a", failures=1))
    pause(pid)
    box.stores.save(2, [task("a", failures=2)])
    box.stores.save(3, [task("a", failures=3), run(1, "a")])
    box.stores.ask(4, {"task": "a", "limit": 5})
    box.kill(pid)
    assert box.stores.waiting == 3
    box.start()
    assert box.answers(3) == [Saved(2), Saved(3), Found(4, [run(1, "a")])]
    assert store.load(box.path)["a"].task["failures"] == 3
    assert box.stores.waiting == 0


def test_what_is_said_before_there_is_a_writer_is_said_to_the_first(box: Box) -> None:
    box.stores.save(1, [task("a")])
    assert box.stores.answers() == []
    box.start()
    assert box.answers() == [Saved(1)]


def test_a_writer_that_is_killed_again_and_again_loses_nothing(box: Box) -> None:
    """Each at another moment of its work."""
    confirmed: set[int] = set()
    for life in range(20):
        pid = box.start()
        for n in range(10):
            box.stores.save(life * 10 + n, [task(f"t{life}-{n}"), run(life * 10 + n + 1, f"t{life}-{n}")])
        confirmed |= {answer.token for answer in box.answers(1)}
        box.kill(pid)
        there = set(store.load(box.path))
        assert {f"t{token // 10}-{token % 10}" for token in confirmed} <= there
    box.start()
    confirmed |= {answer.token for answer in box.answers(box.stores.waiting)}
    assert len(confirmed) == len(store.load(box.path)) == 200


def test_a_thousand_tasks_are_one_save(box: Box) -> None:
    """More than any one message holds; all of it or nothing."""
    box.start()
    rows = [task(f"task-{n}", reason="for the night " * 20) for n in range(1000)]
    box.saved(1, *rows)
    assert len(store.load(box.path)) == 1000
    box.stores.save(2, [*(task(f"task-{n}", "errored") for n in range(999)), task("task-999", None)])  # type: ignore[arg-type]
    [answer] = box.answers()
    assert isinstance(answer, Failed)
    assert {found.task["state"] for found in store.load(box.path).values()} == {"running"}


def test_what_comes_while_it_is_busy_is_one_transaction(box: Box) -> None:
    """A hundred saves do not cost a hundred times the disk."""
    pid = box.start()
    box.saved(0, task("a"))
    pause(pid)
    for token in range(1, 101):
        box.stores.save(token, [run(token, "a")])
    before = os.path.getsize(f"{box.path}-wal")
    os.kill(pid, signal.SIGCONT)
    assert box.answers(100) == [Saved(token) for token in range(1, 101)]
    assert os.path.getsize(f"{box.path}-wal") - before < 30 * 4096


def test_an_empty_save_is_answered(box: Box) -> None:
    box.start()
    box.saved(1)


def test_a_row_that_no_message_holds_is_shortened(box: Box) -> None:
    box.start()
    box.saved(1, task("a", reason="x" * 100_000), run(1, "a", lines=["y" * 200_000]), task("b"))
    found = store.load(box.path)
    assert found["a"].task["reason"] == "x" * 1000
    assert found["a"].last_run == run(1, "a", lines=[])
    assert "b" in found


# -- asking --------------------------------------------------------------------


def test_a_history_has_what_was_saved_before(box: Box) -> None:
    box.start()
    box.stores.save(1, [run(n, "a") for n in range(1, 6)])
    box.stores.ask(2, {"task": "a", "limit": 2})
    box.stores.ask(3, {"task": "nobody", "limit": 2})
    assert box.answers(3) == [Saved(1), Found(2, [run(5, "a"), run(4, "a")]), Found(3, [])]


def test_a_long_history_fits_into_its_answer(box: Box) -> None:
    """Runs before lines, the newest before the older ones."""
    box.start()
    lines = ["\u20ac" * 80] * 20
    for first in range(1, 1001, 100):
        box.saved(first, *(run(n, "a", lines=lines) for n in range(first, first + 100)))
    for token, limit in ((2, 1000), (3, 50)):
        box.stores.ask(token, {"task": "a", "limit": limit})
        [answer] = box.answers()
        assert isinstance(answer, Found)
        assert len(json.dumps(answer.rows, separators=(",", ":"))) <= inner.ROOM + 2
        assert [row["run"] for row in answer.rows] == list(range(1000, 1000 - len(answer.rows), -1))
        assert len(answer.rows) == 50 if limit == 50 else 250 < len(answer.rows) < 1000
        assert [row["lines"] for row in answer.rows].index([]) == answer.whole
    assert (answer.rows[0]["lines"], answer.rows[-1]["lines"]) == (lines, [])


def test_many_questions_find_room_in_time(box: Box) -> None:
    """More than the socket holds, in both directions."""
    pid = box.start()
    box.saved(1000, *(run(n, "a", lines=["x" * 80] * 20) for n in range(1, 50)))
    pause(pid)
    for token in range(200):
        box.stores.ask(token, {"task": "a", "limit": 100})
    os.kill(pid, signal.SIGCONT)
    assert [answer.token for answer in box.answers(200)] == list(range(200))


# -- failing -------------------------------------------------------------------


def test_a_file_that_cannot_be_opened_is_told_and_used_once_it_can(box: Box) -> None:
    os.makedirs(box.path)
    box.start()
    box.stores.save(1, [task("a")])
    box.stores.ask(2, {"task": "a", "limit": 1})
    for answer in box.answers(2):
        assert isinstance(answer, Failed)
        assert box.path in answer.why
        assert "move it away" in answer.why
    os.rmdir(box.path)
    box.saved(3, task("a"))


def test_a_lock_of_another_program_is_told_in_time(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.05)
    store.load(box.path)
    box.start()
    with contextlib.closing(sqlite3.connect(box.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        box.stores.save(1, [task("a")])
        [answer] = box.answers()
        assert isinstance(answer, Failed)
        assert "locked" in answer.why
    box.saved(2, task("a"))


def test_a_file_that_is_damaged_in_use_is_told_and_the_writer_lives(box: Box) -> None:
    pid = box.start()
    box.saved(1, *(task(f"t{n}", reason="x" * 300) for n in range(300)))
    box.kill(pid)
    store.load(box.path)
    with open(box.path, "r+b") as file:
        file.write(b"no database " * 2000)
    pid = box.start()
    for token in (2, 3):
        box.stores.save(token, [task("a")])
        [answer] = box.answers()
        assert isinstance(answer, Failed)
        assert "copy" in answer.why
    os.unlink(box.path)
    box.saved(4, task("a"))


def test_a_limit_of_file_sizes_is_told_and_is_not_the_end(box: Box) -> None:
    """SIGXFSZ is ignored in every worker that is a target; so it hears of it as an error."""
    store.load(box.path)
    box.start(largest=100_000)
    box.stores.save(1, [task(f"t{n}", reason="x" * 500) for n in range(1000)])
    [answer] = box.answers()
    assert isinstance(answer, Failed)
    box.saved(2, task("a"))


# -- leaving -------------------------------------------------------------------


def test_a_stop_comes_after_what_was_said_before_it(box: Box) -> None:
    pid = box.start()
    pause(pid)
    for token in range(300):
        box.stores.save(token, [task(f"t{token}")])
    said = 300 - len(box.stores._channel._queue)  # type: ignore[union-attr]
    box.stop()
    os.kill(pid, signal.SIGCONT)
    assert end(pid).code == 0
    assert {answer.token for answer in box.answers(said)} == set(range(said))
    assert len(store.load(box.path)) == said
    assert not os.path.exists(f"{box.path}-wal")


def test_a_stop_that_comes_before_it_runs_is_no_excuse(box: Box) -> None:
    box.stores.save(1, [task("a")])
    box.stop()
    assert end(box.start()).code == 0
    assert box.answers() == [Saved(1)]
    assert set(store.load(box.path)) == {"a"}


def test_end_of_file_comes_after_what_was_said_before_it(box: Box) -> None:
    """As when the master is killed."""
    pid = box.start()
    pause(pid)
    box.stores.save(1, [task("a")])
    box.stores.close()
    os.kill(pid, signal.SIGCONT)
    assert end(pid).code == 0
    assert set(store.load(box.path)) == {"a"}


@pytest.mark.parametrize(
    "answer", [b"no json", b"[1]", b'{"saved": 99}', b'{"saved": "1"}', b'{"failed": 1}', b"[" * 50_000]
)
def test_an_answer_that_makes_no_sense_is_passed_over(box: Box, answer: bytes) -> None:
    other = socket.socket(fileno=os.dup(box.stores.connect()))
    box.stores.sealed()
    box.stores.save(1, [task("a")])
    other.send(answer)
    assert box.loop.poll(box.loop.now() + 30)
    assert box.stores.answers() == []
    assert box.stores.waiting == 1
    other.close()


def test_a_message_that_makes_no_sense_harms_nobody(box: Box) -> None:
    box.start()
    for message in (
        {},
        {"save": 1},
        {"save": 1, "rows": 2, "more": 3},
        {"history": 1, "task": 2, "limit": 3},
    ):
        box.stores._send([message])  # type: ignore[list-item]
    box.saved(2, task("a"))


# -- one master ----------------------------------------------------------------


def test_one_master_at_a_time_holds_a_state_file(tmp_path: Path) -> None:
    """Also where its writer is dead; a lock that nobody holds any more is no obstacle."""
    tmp_path.chmod(0o755)
    path = str(tmp_path / "state" / "shop.sqlite")
    first = hold(path)
    with pytest.raises(StartError, match="another master uses the state file"):
        hold(path)
    os.close(hold(str(tmp_path / "state" / "other.sqlite")))
    os.close(first)
    os.close(hold(path))


def test_what_cannot_be_a_lock_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    os.symlink("elsewhere", tmp_path / "shop.sqlite-lock")
    with pytest.raises(StartError, match=r"master\.state_dir"):
        hold(str(tmp_path / "shop.sqlite"))
