"""The state file, against real files and disks that are really full."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rows import run, task

from supervisor import store
from supervisor.errors import StartError
from supervisor.store import KEPT_SECONDS, Store, connection, words
from supervisor.stored import KEPT_RUNS, Stored

NOW = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    tmp_path.chmod(0o755)
    return str(tmp_path / "state" / "shop.sqlite")


@pytest.fixture
def kept(path: str) -> Iterator[Store]:
    found = Store(path)
    yield found
    found.close()


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# -- what is kept --------------------------------------------------------------


def test_a_new_file_is_empty_and_private_and_so_is_its_folder(path: str) -> None:
    assert store.load(path) == {}
    assert (mode(path), mode(os.path.dirname(path))) == (0o600, 0o700)


def test_the_files_beside_it_are_private_too(kept: Store) -> None:
    """The WAL holds the same rows; whatever the umask is."""
    kept.apply([task("a")], NOW)
    assert {mode(kept.path + end) for end in ("", "-wal", "-shm")} == {0o600}


def test_a_file_that_others_could_read_is_made_private(path: str) -> None:
    store.load(path)
    os.chmod(path, 0o644)
    store.load(path)
    assert mode(path) == 0o600


def test_every_column_comes_back_as_it_was(kept: Store) -> None:
    """Fractions of seconds, lines, quotes and half a surrogate pair included."""
    paused = task("a", "paused", reason='it\'s "late"; -- \u20ac\ud800', by="ann", paused_until=NOW + 0.125)
    kept.apply([paused, run(7, "a", "failed", code=None, signal="SIGKILL", lines=["one", "\u20ac\x1b"])], NOW)
    [row] = kept.tasks()
    assert row == {**paused, "reason": 'it\'s "late"; -- \u20ac?'}
    assert kept.last_runs() == [
        run(7, "a", "failed", code=None, signal="SIGKILL", lines=["one", "\u20ac\x1b"])
    ]


def test_a_row_replaces_the_one_with_its_key(kept: Store) -> None:
    """So to store it twice does no harm."""
    kept.apply([task("a"), run(1, "a", "running", seconds=None)], NOW)
    for _ in range(2):
        kept.apply([task("a", "errored", failures=3), run(1, "a", "failed")], NOW)
    assert kept.tasks() == [task("a", "errored", failures=3)]
    assert kept.history("a", 10) == [run(1, "a", "failed")]


def test_load_tells_each_task_with_its_last_run_and_one_number_above_all(kept: Store) -> None:
    kept.apply([task("a"), task("b"), task("c", "removed"), *(run(n, "a") for n in (1, 2, 4))], NOW)
    kept.apply([run(3, "c")], NOW)
    found = store.load(kept.path)
    assert found == {
        "a": Stored(task("a"), run(4, "a"), 5, last_fired=NOW),
        "b": Stored(task("b"), None, 5),
        "c": Stored(task("c", "removed"), run(3, "c"), 5, last_fired=NOW),
    }


def test_the_last_run_is_one_that_began(kept: Store) -> None:
    """As the master knew it before."""
    kept.apply([task("a"), run(1, "a"), run(2, "a", "skipped"), run(3, "a", "queued")], NOW)
    found = store.load(kept.path)["a"]
    assert (found.last_run, [row["run"] for row in found.unfinished], found.next_run) == (run(1, "a"), [3], 4)


def test_load_tells_the_due_time_of_the_newest_run_that_was_for_one(kept: Store) -> None:
    """Whatever was run by hand since, or never began."""
    kept.apply([task("a"), run(1, "a", due=NOW), run(2, "a", due=NOW - 60), run(3, "a", due=None)], NOW)
    kept.apply([task("b"), run(4, "b", due=None), run(5, "a", "skipped", due=NOW)], NOW)
    found = store.load(kept.path)
    assert (found["a"].last_fired, found["b"].last_fired) == (NOW - 60, None)


def test_all_rows_are_stored_or_none(kept: Store) -> None:
    with pytest.raises(ValueError, match="other columns"):
        kept.apply([task("a"), {"task": "b", "nonsense": 1}], NOW)  # type: ignore[list-item]
    with pytest.raises(sqlite3.IntegrityError):
        kept.apply([task("a"), task("b", None)], NOW)  # type: ignore[arg-type]
    assert kept.tasks() == []
    kept.apply([task("c")], NOW)
    assert kept.tasks() == [task("c")]


def test_the_history_is_newest_first_and_of_one_task(kept: Store) -> None:
    kept.apply([run(n, "ab"[n % 2]) for n in range(1, 100)], NOW)
    assert [row["run"] for row in kept.history("a", 3)] == [98, 96, 94]
    assert [row["run"] for row in kept.history("a", 3, 5)] == [4, 2]
    assert kept.history("nobody", 3) == []


# -- pruning -------------------------------------------------------------------


def test_of_each_task_the_last_thousand_runs_are_kept(kept: Store) -> None:
    """Another task's runs in between do not count."""
    for first in range(1, 2 * KEPT_RUNS + 200, 100):
        kept.apply([run(n, "ab"[n % 2]) for n in range(first, first + 100)], NOW)
    kept.apply([run(10_000, "a")], NOW)
    numbers = [row["run"] for row in kept.history("a", 5000)]
    assert (len(numbers), numbers[0], numbers[-1]) == (KEPT_RUNS, 10_000, 204)
    assert len(kept.history("b", 5000)) == KEPT_RUNS


def test_a_removed_task_and_its_history_stay_for_thirty_days(kept: Store) -> None:
    kept.apply([task("gone", "removed", changed_at=NOW), task("a", changed_at=NOW), run(1, "gone")], NOW)
    kept.apply([run(2, "a")], NOW + KEPT_SECONDS - 1)
    assert kept.history("gone", 1) == [run(1, "gone")]
    kept.apply([run(3, "a")], NOW + KEPT_SECONDS + 1)
    assert kept.history("gone", 1) == []
    assert [row["task"] for row in kept.tasks()] == ["a"]


def test_no_number_of_a_pruned_run_is_given_again(kept: Store) -> None:
    kept.apply([task("gone", "removed", changed_at=NOW), run(9, "gone")], NOW)
    kept.apply([task("a")], NOW + KEPT_SECONDS + 1)
    assert (kept.last_runs(), kept.next_run()) == ([], 10)


def test_random_saves_are_what_a_dictionary_would_hold(kept: Store) -> None:
    rng, tasks, runs = random.Random(4), {}, {}
    for number in range(1, 200):
        name = rng.choice("abcdef")
        rows = [task(name, rng.choice(["running", "paused"]), failures=number), run(number, name)]
        for row in rng.sample(rows, rng.randint(1, 2)):
            kept.apply([row], NOW)
            (runs if "run" in row else tasks)[row.get("run", name)] = row
    assert kept.tasks() == [tasks[name] for name in sorted(tasks)]
    for name in "abcdef":
        assert kept.history(name, 999) == [
            row for _, row in sorted(runs.items())[::-1] if row["task"] == name
        ]


# -- files that cannot be used -------------------------------------------------


def refused(path: str) -> str:
    with pytest.raises(StartError) as caught:
        store.load(path)
    text = str(caught.value)
    assert path in text
    assert "; " in text  # what to do
    assert "\n" not in text
    return text


def some_file(path: str) -> None:
    with contextlib.closing(Store(path)) as found:
        found.apply([task(f"t{n}", reason="x" * 200) for n in range(500)], NOW)


@pytest.mark.parametrize("where", ["head", "middle", "cut", "text"])
def test_a_damaged_file_is_refused_and_left_as_it_is(path: str, where: str) -> None:
    some_file(path)
    data = bytearray(Path(path).read_bytes())
    if where == "head":
        data[:16] = b"x" * 16
    elif where == "middle":
        data[4096 * 3 : 4096 * 20] = random.Random(1).randbytes(4096 * 17)
    data = (
        data[: len(data) // 2] if where == "cut" else bytearray(b"hello\n" * 999) if where == "text" else data
    )
    Path(path).write_bytes(data)
    assert "damaged" in (text := refused(path)) or "no database" in text
    assert "copy" in text
    assert Path(path).read_bytes() == data


def test_a_file_that_lacks_a_table_is_damaged_and_left_as_it_is(path: str) -> None:
    some_file(path)
    with contextlib.closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TABLE runs")
    before = Path(path).read_bytes()
    assert "it is damaged; put back a copy" in refused(path)
    assert Path(path).read_bytes() == before


def test_a_file_that_is_empty_has_lost_what_it_held_and_is_refused(path: str) -> None:
    """No pause is forgotten without a word; ours is never empty, not even for a moment."""
    some_file(path)
    os.truncate(path, 0)
    assert "it is empty, so what it held is lost; put back a copy" in refused(path)
    assert os.path.getsize(path) == 0


def test_a_file_that_somebody_else_could_have_changed_is_refused(path: str) -> None:
    some_file(path)
    os.chmod(path, 0o606)
    assert "everybody could have changed it; chmod 600 it" in refused(path)
    assert mode(path) == 0o606


@pytest.mark.skipif(os.getuid() != 0, reason="gives a file away")
def test_a_file_of_another_user_is_refused(path: str) -> None:
    some_file(path)
    os.chown(path, 12345, -1)
    assert "it belongs to uid 12345" in refused(path)


def test_damage_is_found_also_where_the_start_does_not_read(path: str) -> None:
    """In the history: else it would be found in the middle of a night."""
    with contextlib.closing(Store(path)) as found:
        found.apply([task("a"), *(run(n, "a", lines=["x" * 2000]) for n in range(1, 200))], NOW)
    with open(path, "r+b") as file:
        file.seek(4096 * 20)
        file.write(random.Random(2).randbytes(4096 * 10))
    assert "damaged" in refused(path)


def test_a_newer_format_is_refused_and_left_as_it_is(path: str) -> None:
    some_file(path)
    with contextlib.closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA user_version = 99")
    before = Path(path).read_bytes()
    assert "newer version" in refused(path)
    assert Path(path).read_bytes() == before


def test_a_database_of_another_program_is_refused_and_left_as_it_is(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    with contextlib.closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE jobs (id)")
    before = Path(path).read_bytes()
    assert "another program" in refused(path)
    assert Path(path).read_bytes() == before


def test_a_folder_a_link_and_a_pipe_are_refused(path: str, tmp_path: Path) -> None:
    """None of them blocks."""
    os.makedirs(path)
    assert "no regular file" in refused(path)
    os.rmdir(path)
    os.symlink(tmp_path / "elsewhere", path)
    assert "no regular file" in refused(path)
    os.unlink(path)
    os.mkfifo(path)
    assert "no regular file" in refused(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="file is no folder: give another"):
        store.load(str(tmp_path / "file" / "shop.sqlite"))
    with pytest.raises(StartError, match="give another"):
        store.load("/proc/nobody/shop.sqlite")


def test_a_file_that_another_program_keeps_locked_is_refused_in_time(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.05)
    some_file(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "locked" in refused(path)
        other.execute("ROLLBACK")
    assert len(store.load(path)) == 500


# -- while it is in use --------------------------------------------------------


def test_a_reader_in_the_middle_of_its_work_holds_nothing_up(kept: Store) -> None:
    """It goes on seeing what was there when it began."""
    kept.apply([task("a")], NOW)
    with contextlib.closing(sqlite3.connect(kept.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT state FROM tasks").fetchall() == [("running",)]
        kept.apply([task("a", "paused")], NOW)
        assert reader.execute("SELECT state FROM tasks").fetchall() == [("running",)]
        reader.execute("ROLLBACK")
        assert reader.execute("SELECT state FROM tasks").fetchall() == [("paused",)]


def test_a_lock_of_another_program_fails_a_save_and_the_next_one_works(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.05)
    with contextlib.closing(Store(path)) as kept, contextlib.closing(sqlite3.connect(path)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as caught:
            kept.apply([task("a")], NOW)
        assert "locked" in words.explained(path, caught.value)
        assert kept.tasks() == []
        other.execute("ROLLBACK")
        kept.apply([task("a")], NOW)
        assert kept.tasks() == [task("a")]


@pytest.mark.parametrize("ends", [("",), ("", "-wal", "-shm")])
def test_a_file_that_is_removed_in_use_comes_back_with_all_it_held(
    kept: Store, ends: tuple[str, ...]
) -> None:
    kept.apply([task("a"), run(5, "a")], NOW)
    for end in ends:
        os.unlink(kept.path + end)
    kept.apply([task("b")], NOW)
    assert set(store.load(kept.path)) == {"a", "b"}
    assert (store.load(kept.path)["a"].next_run, mode(kept.path)) == (6, 0o600)
    assert not os.path.exists(f"{kept.path}-new")
    kept.apply([task("c")], NOW)
    assert len(kept.tasks()) == 3


def test_what_lies_beside_a_removed_file_is_not_taken_for_the_new_ones(kept: Store) -> None:
    """The pages in its WAL have other numbers: both together would be neither.  A reader holds on to it."""
    stay = [task(f"u{n:03}", reason="y" * 500) for n in range(200)]
    kept.apply([task(f"t{n}", "removed", reason="x" * 500, changed_at=NOW) for n in range(500)], NOW)
    kept.apply(stay, NOW)
    with contextlib.closing(sqlite3.connect(kept.path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        kept.apply([task("a"), *(run(n, "a") for n in range(1, 50))], NOW + KEPT_SECONDS + 1)
        other.execute("BEGIN")
        assert other.execute("SELECT count(*) FROM tasks").fetchall() == [(201,)]
        os.unlink(kept.path)
        kept.apply([task("b")], NOW)
        assert len(store.load(kept.path)) == 202
    assert kept.tasks() == [task("a"), task("b"), *stay]
    assert len(kept.history("a", 100)) == 49


def test_a_folder_that_is_removed_in_use_comes_back_too(kept: Store) -> None:
    kept.apply([task("a")], NOW)
    folder = os.path.dirname(kept.path)
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)
    kept.apply([task("b")], NOW)
    assert set(store.load(kept.path)) == {"a", "b"}


def test_a_file_that_is_replaced_in_use_is_not_touched(kept: Store, tmp_path: Path) -> None:
    """Somebody has put it there on purpose; once it is away again, all goes on."""
    kept.apply([task("a")], NOW)
    other = str(tmp_path / "other.sqlite")
    some_file(other)
    before = Path(other).read_bytes()
    os.rename(other, kept.path)
    with pytest.raises(StartError, match="replaced by another file"):
        kept.apply([task("b")], NOW)
    assert Path(kept.path).read_bytes() == before
    os.unlink(kept.path)
    kept.apply([task("b")], NOW)
    assert [row["task"] for row in kept.tasks()] == ["a", "b"]


def test_an_internal_error_is_words_too() -> None:
    assert "report it: KeyError" in words.explained("f", KeyError("x"))


# -- disks ---------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="mounts a disk")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    tmp_path.chmod(0o755)
    at = tmp_path / "disk"
    at.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "none", at], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("may not mount")
    yield at
    subprocess.run(["umount", "-l", at], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


@needs_root
def test_a_full_disk_fails_a_save_and_with_room_the_next_one_works(disk: Path) -> None:
    """Until then, what is there can be read."""
    with contextlib.closing(Store(str(disk / "shop.sqlite"))) as kept:
        kept.apply([task("a")], NOW)
        filler = fill(disk)
        for _ in range(3):
            with pytest.raises(sqlite3.OperationalError) as caught:
                kept.apply([task(f"t{n}", reason="x" * 500) for n in range(100)], NOW)
            assert "full; make room" in words.explained(kept.path, caught.value)
            assert kept.tasks() == [task("a")]
        filler.unlink()
        kept.apply([task("b")], NOW)
        assert set(store.load(kept.path)) == {"a", "b"}


@needs_root
def test_a_file_removed_from_a_full_disk_comes_back_when_there_is_room(disk: Path) -> None:
    with contextlib.closing(Store(str(disk / "shop.sqlite"))) as kept:
        kept.apply([task("a")], NOW)
        os.unlink(kept.path)
        filler = fill(disk)
        with pytest.raises((sqlite3.OperationalError, OSError)) as caught:
            kept.apply([task("b")], NOW)
        assert "make room" in words.explained(kept.path, caught.value)
        filler.unlink()
        kept.apply([task("b")], NOW)
        assert set(store.load(kept.path)) == {"a", "b"}


@needs_root
def test_a_disk_that_is_full_at_the_start_is_refused(disk: Path) -> None:
    """Whether the file is there or not: what cannot be written is no use."""
    path = str(disk / "shop.sqlite")
    filler = fill(disk)
    assert "make room" in refused(path)
    assert os.listdir(disk) == ["filler"]
    filler.unlink()
    store.load(path)
    fill(disk)
    assert "make room" in refused(path)


@needs_root
def test_a_read_only_disk_is_refused_and_fails_a_save_until_it_is_writable(disk: Path) -> None:
    path = str(disk / "shop.sqlite")
    store.load(path)
    remount(disk, "ro")
    assert "writ" in refused(path) or "read-only" in refused(path).lower()
    remount(disk, "rw")
    with contextlib.closing(Store(path)) as kept:
        kept.apply([task("a")], NOW)
    kept = Store(path)
    kept.close()
    remount(disk, "ro")
    with pytest.raises((sqlite3.Error, OSError)):
        kept.apply([task("b")], NOW)
    remount(disk, "rw")
    kept.apply([task("b")], NOW)
    assert [row["task"] for row in kept.tasks()] == ["a", "b"]
    kept.close()


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


LIMITED = """
import resource, sys
sys.path[:] = {path!r}
from rows import task
from supervisor.store import Store, words
kept = Store(sys.argv[1])
kept.apply([task("a")], 0.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
try:
    kept.apply([task("b" * 60 + str(n), reason="x" * 500) for n in range(200)], 0.0)
except Exception as error:
    print(words.explained("FILE", error))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
kept.apply([task("c")], 0.0)
print([row["task"] for row in kept.tasks()])
kept.close()
"""


def test_a_limit_of_file_sizes_fails_a_save_and_no_more(path: str) -> None:
    code = LIMITED.format(path=sys.path)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    why, names = done.stdout.splitlines()
    assert (names, done.returncode) == ("['a', 'c']", 0)
    assert why.startswith("state file FILE: ")


KILLED = """
import os, sys
sys.path[:] = {path!r}
from rows import task
from supervisor.store import Store
kept = Store(sys.argv[1])
for n in range(1_000_000):
    kept.apply([task("a", failures=n)], 0.0)
    os.write(1, b"%d\\n" % n)
"""


@pytest.mark.parametrize("after", [0, 3, 50])
def test_kill_9_loses_nothing_that_was_confirmed(path: str, after: int) -> None:
    code = KILLED.format(path=sys.path)
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(after + 1):
            last = process.stdout.readline()
        process.kill()
        last = [last, *process.stdout.readlines()][-1]
    found: Any = store.load(path)["a"].task
    assert found["failures"] >= int(last)


def test_every_commit_is_on_the_disk_before_it_returns(path: str) -> None:
    """Seen from outside: fdatasync(2) or fsync(2) after the last write of each."""
    code = KILLED.format(path=sys.path).replace("1_000_000", "5")
    trace = ["strace", "-f", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", f"{path}.trace"]
    os.makedirs(os.path.dirname(path), mode=0o700)
    done = subprocess.run(
        [*trace, sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"strace does not run here: {done.stderr[-200:]}")
    calls = [line.split(None, 1)[1] for line in Path(f"{path}.trace").read_text().splitlines()]
    told = [n for n, call in enumerate(calls) if call.startswith('write(1, "')]
    assert len(told) == 5
    for n in told:
        assert calls[n - 1].startswith(("fsync", "fdatasync")), calls[n - 4 : n + 1]


# -- values that nobody of ours wrote ------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE tasks SET anchor = NULL", "task 'a' has a 'anchor' that cannot be: None"),
        ("UPDATE tasks SET paused_until = 'soon'", "task 'a' has a 'paused_until' that cannot be: 'soon'"),
        ("UPDATE tasks SET paused_until = 9e999", "task 'a' has a 'paused_until' that cannot be: inf"),
        ("UPDATE tasks SET anchor = 9e18", "task 'a' has a 'anchor' that cannot be: 9e+18"),
        ("UPDATE tasks SET state = 'lost'", "task 'a' has a 'state' that cannot be: 'lost'"),
        ("UPDATE tasks SET failures = -1", "task 'a' has a 'failures' that cannot be: -1"),
        ("UPDATE runs SET started_at = 'then'", "run 1 has a 'started_at' that cannot be: 'then'"),
        ("UPDATE runs SET outcome = NULL", "run 1 has a 'outcome' that cannot be: None"),
    ],
)
def test_a_value_that_cannot_be_is_damage_and_named(kept: Store, path: str, change: str, said: str) -> None:
    """SQLite itself finds nothing wrong with it; believed, it would break the master later."""
    kept.apply([task("a"), run(1, "a")], NOW)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(change)
    assert refused(path) == (
        f"state file {path}: it is damaged: {said}; put back a copy, or move it away to start anew"
    )


def test_lines_that_cannot_be_read_are_no_lines(kept: Store, path: str) -> None:
    """What a run printed is worth less than that the rest can be read."""
    kept.apply([task("a"), run(1, "a")], NOW)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE runs SET lines = '{'")
    assert kept.history("a", 10)[0]["lines"] == []
    assert store.load(path)["a"].last_run is not None
