"""The rotating file on a real disk: sizes, renames, full disks, and what may stand at its path."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.unix.rotation import RETRY, RotatingFile

NOBODY = 65534


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_retry(self) -> None:
        self.now += RETRY


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.log"


@pytest.fixture
def make(path: Path, clock: Clock) -> Iterator[Callable[..., RotatingFile]]:
    """Files that are closed at the end."""
    made: list[RotatingFile] = []

    def make(max_size: int | None = None, keep: int = 5, at: Path = path) -> RotatingFile:
        made.append(RotatingFile(str(at), max_size, keep, clock))
        return made[-1]

    yield make
    for file in made:
        file.close()


def lines(*numbers: int) -> bytes:
    """Lines of ten bytes."""
    return b"".join(b"line %04d\n" % number for number in numbers)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


Make = Callable[..., RotatingFile]


def test_without_a_size_it_grows(make: Make, path: Path) -> None:
    file = make()
    assert [file.write(lines(n)) for n in range(500)] == [0] * 500
    assert contents(path) == {"out.log": lines(*range(500))}


def test_it_rotates_before_a_line_would_go_beyond_the_size(make: Make, path: Path) -> None:
    file = make(30, 2)
    for n in range(7):
        file.write(lines(n))
    assert contents(path) == {"out.log": lines(6), "out.log.1": lines(3, 4, 5), "out.log.2": lines(0, 1, 2)}
    for n in range(7, 10):
        file.write(lines(n))
    assert contents(path)["out.log.2"] == lines(3, 4, 5)  # the oldest is gone
    assert file.problem == ""


def test_many_lines_at_once_are_split_between_files_as_one_by_one(make: Make, path: Path) -> None:
    make(30, 5).write(lines(*range(7)))
    assert contents(path) == {"out.log": lines(6), "out.log.1": lines(3, 4, 5), "out.log.2": lines(0, 1, 2)}


def test_a_line_longer_than_the_size_has_a_file_of_its_own(make: Make, path: Path) -> None:
    long = b"x" * 50 + b"\n"
    make(30, 3).write(lines(0) + long + lines(1))
    assert contents(path) == {"out.log": lines(1), "out.log.1": long, "out.log.2": lines(0)}


def test_keep_0_empties_the_file_and_keeps_none(make: Make, path: Path) -> None:
    file = make(30, 0)
    inode = path.stat().st_ino
    file.write(lines(*range(7)))
    assert contents(path) == {"out.log": lines(6)}
    assert path.stat().st_ino == inode


def test_the_size_counts_from_what_was_there_before(make: Make, path: Path) -> None:
    path.write_bytes(lines(0, 1))
    make(30).write(lines(2, 3))
    assert contents(path) == {"out.log": lines(3), "out.log.1": lines(0, 1, 2)}


def test_a_file_that_ends_within_a_line_is_gone_on_with_on_a_new_one(make: Make, path: Path) -> None:
    """A drainer was killed while it wrote."""
    path.write_bytes(lines(0) + b"li")
    make().write(lines(1))
    make().write(lines(2))
    assert path.read_bytes() == lines(0) + b"li\n" + lines(1, 2)


def test_a_new_file_is_for_its_owner_and_group_and_closed_on_exec(make: Make, path: Path) -> None:
    make()
    (fd,) = [int(fd.name) for fd in Path("/proc/self/fd").iterdir() if os.path.realpath(fd) == str(path)]
    assert not os.get_inheritable(fd)
    assert stat.S_IMODE(path.stat().st_mode) & ~0o640 == 0


def test_reopen_follows_a_file_that_was_moved_away(make: Make, path: Path) -> None:
    file = make()
    file.write(lines(0))
    path.rename(path.with_name("moved"))
    file.write(lines(1))
    file.reopen()
    file.write(lines(2))
    assert contents(path) == {"moved": lines(0, 1), "out.log": lines(2)}


def test_a_file_that_was_moved_away_is_left_alone_by_rotation(make: Make, path: Path) -> None:
    """Somebody else's logrotate: what stands at the path now is not the file that is full."""
    file = make(20)
    file.write(lines(0, 1))
    path.rename(path.with_name("moved"))
    path.write_bytes(lines(7))
    file.write(lines(2))
    assert contents(path) == {"moved": lines(0, 1), "out.log": lines(7, 2)}


def test_a_file_that_was_emptied_is_written_on_from_its_beginning(make: Make, path: Path) -> None:
    """logrotate's copytruncate."""
    file = make(20)
    file.write(lines(0, 1))
    os.truncate(path, 0)
    file.write(lines(2))
    assert contents(path) == {"out.log": lines(2)}


def test_a_file_that_was_removed_is_made_again(make: Make, path: Path, clock: Clock) -> None:
    file = make()
    path.unlink()
    clock.pass_retry()
    assert file.write(lines(0)) == 0
    assert contents(path) == {"out.log": lines(0)}


def test_a_folder_that_vanished_loses_lines_and_says_so_until_it_is_back(
    make: Make, path: Path, clock: Clock
) -> None:
    folder = path.parent / "logs"
    folder.mkdir()
    file = make(at=folder / "out.log")
    (folder / "out.log").unlink()
    folder.rmdir()
    clock.pass_retry()
    assert [file.write(lines(0)), file.write(lines(1, 2))] == [1, 2]
    assert file.problem == f"cannot open {folder}/out.log: its folder does not exist; create it"
    folder.mkdir()
    assert file.write(lines(3)) == 1  # not tried at every line
    clock.pass_retry()
    assert (file.write(lines(4)), file.problem) == (0, "")
    assert (folder / "out.log").read_bytes() == lines(4)


def test_it_grows_on_where_it_cannot_be_renamed(make: Make, path: Path, clock: Clock) -> None:
    file = make(20, 1)
    path.with_name("out.log.1").mkdir()
    assert file.write(lines(0, 1, 2)) == 0
    assert file.problem.startswith(f"cannot rotate {path}: ")
    assert path.read_bytes() == lines(0, 1, 2)
    path.with_name("out.log.1").rmdir()
    clock.pass_retry()
    assert (file.write(lines(3)), file.problem) == (0, "")
    assert contents(path) == {"out.log": lines(3), "out.log.1": lines(0, 1, 2)}


# -- full disks ----------------------------------------------------------------


@pytest.fixture
def file_limit() -> Iterator[int]:
    """Files end at 25 bytes: the third line of ten is cut short, like on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (25, before[1]))
    yield 25
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_loses_lines_counts_them_and_leaves_none_half_before_the_next(
    make: Make, path: Path, file_limit: int
) -> None:
    file = make()
    assert file.write(lines(0, 1, 2, 3)) == 2
    assert file.problem == f"cannot write {path}: File too large"
    assert file.write(lines(4)) == 1
    assert path.stat().st_size == file_limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert (file.write(lines(5)), file.problem) == (0, "")
    assert path.read_bytes() == lines(0, 1, 2, 3)[:25] + b"\n" + lines(5)


def test_dev_full_is_a_full_disk_and_dev_null_takes_all(make: Make) -> None:
    full, null = make(at=Path("/dev/full")), make(20, 1, at=Path("/dev/null"))
    assert (full.write(lines(0, 1)), full.problem) == (2, "cannot write /dev/full: No space left on device")
    assert (null.write(lines(*range(10))), null.problem) == (0, "")


# -- what stands at the path ---------------------------------------------------


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_fifo_with_reader(path: Path) -> int:
    os.mkfifo(path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (Path.mkdir, "it is a directory; name a file in it"),
        (make_fifo, "it is a FIFO or a socket; name a regular file"),
        (make_fifo_with_reader, "it is no regular file; name another one"),
    ],
)
def test_what_is_no_regular_file_is_refused_and_tried_again_at_reopen(
    there: Callable[[Path], int | None], words: str, make: Make, path: Path
) -> None:
    fd = there(path)
    file = make()
    assert file.problem == f"cannot open {path}: {words}"
    assert file.write(lines(0, 1)) == 2
    assert file.problem
    path.rename(path.with_name("elsewhere"))
    file.reopen()
    assert (file.write(lines(2)), file.problem) == (0, "")
    if fd is not None:
        os.close(fd)


def test_an_administrators_symlink_is_followed_and_stays(make: Make, path: Path) -> None:
    """Rotation renames the file, where it is, and not the symlink."""
    data = path.parent / "data"
    data.mkdir()
    path.symlink_to(data / "real.log")
    make(20, 1).write(lines(0, 1, 2))
    assert path.is_symlink()
    assert contents(data / "any") == {"real.log": lines(2), "real.log.1": lines(0, 1)}


@pytest.mark.parametrize("where", ["the symlink's folder", "the file's folder"])
def test_a_symlink_is_refused_where_others_could_have_planted_it(where: str, make: Make, path: Path) -> None:
    data = path.parent / "data"
    data.mkdir()
    path.symlink_to(data / "victim")
    open_to_all = path.parent if where == "the symlink's folder" else data
    open_to_all.chmod(0o777)
    file = make()
    assert file.problem == (
        f"cannot open {path}: it is a symlink, and others may write to {open_to_all}; "
        "name the file that is meant"
    )
    assert not (data / "victim").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a link that is another user's")
def test_a_folder_on_the_way_that_somebody_else_has_linked_is_refused(make: Make, path: Path) -> None:
    """He could have it lead to any folder of ours; an administrator's own link is followed."""
    victim = path.parent / "victim"
    victim.mkdir()
    path.parent.chmod(0o777)
    planted = path.parent / "sub"
    planted.symlink_to(victim)
    path = planted / path.name
    file = RotatingFile(str(path))
    file.close()
    assert (victim / path.name).exists()
    os.lchown(planted, 65534, 65534)
    (victim / path.name).unlink()
    assert RotatingFile(str(path)).problem == (
        f"cannot open {path}: {planted} is a symlink, and others may write to {planted.parent}; "
        "name the file that is meant"
    )
    assert not (victim / path.name).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
def test_a_symlink_in_the_folder_of_the_workers_user_is_refused_to_root(make: Make, path: Path) -> None:
    os.chown(path.parent, NOBODY, NOBODY)
    path.symlink_to("/etc/supervisor-victim")
    assert "it is a symlink" in make().problem
    assert not Path("/etc/supervisor-victim").exists()
