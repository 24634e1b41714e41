"""Time zones of tasks: where they are looked for, what is refused, and that each is read once."""

from __future__ import annotations

import os
import sys
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from reading import problems, settings

from supervisor.calendar import next_due
from supervisor.config import zones
from supervisor.settings import TaskSettings

TOKYO, BERLIN = "Asia/Tokyo", "Europe/Berlin"
NOON = '[tasks.a]\ntarget = "app:run"\nschedule = "0 12 * * *"\n'
DATA = zones.read(BERLIN, {})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where config.toml is; there is no other zone of the machine than ``localtime`` here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zones, "LOCAL_TIME", str(tmp_path / "localtime"))
    return tmp_path


def hour_of_noon(data: bytes) -> float:
    """In UTC."""
    due = next_due(TaskSettings("a", schedule="0 12 * * *", zone=data), 0.0)
    assert due is not None
    return due / 3600


def test_a_zone_has_a_name() -> None:
    assert hour_of_noon(zones.read(TOKYO, {})) == 3
    assert zones.read("UTC", {}) == b""
    assert hour_of_noon(b"") == 12


@pytest.mark.parametrize("name", [TOKYO, f":{TOKYO}", f"/usr/share/zoneinfo/{TOKYO}"])
def test_without_a_name_it_is_that_of_the_machine(name: str) -> None:
    assert zones.read(None, {"TZ": name}) == zones.read(TOKYO, {})


def test_without_tz_it_is_what_localtime_says_or_utc(folder: Path) -> None:
    assert zones.read(None, {}) == b""
    (folder / "localtime").symlink_to(f"/usr/share/zoneinfo/{TOKYO}")
    assert zones.read(None, {}) == zones.read(TOKYO, {})


@pytest.fixture
def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without zones, which has the package of that name."""
    place = folder / "tzdata" / "zoneinfo" / "Mars"
    place.mkdir(parents=True)
    (folder / "tzdata" / "__init__.py").touch()
    (place / "Olympus").write_bytes(DATA)
    monkeypatch.syspath_prepend(folder)
    zoneinfo.reset_tzpath(to=[])
    yield
    zoneinfo.reset_tzpath()
    del sys.modules["tzdata"]


def test_without_files_of_the_system_those_of_the_package_serve(package: None) -> None:
    assert zones.read("Mars/Olympus", {}) == DATA


# -- what is refused -----------------------------------------------------------


def test_an_unknown_zone_is_refused_and_the_nearest_is_named() -> None:
    with pytest.raises(ValueError, match="'Europe/Berln' is known here, did you mean 'Europe/Berlin'"):
        zones.read("Europe/Berln", {})


@pytest.mark.parametrize(
    "name", ["Europe", "", ".", "/etc/passwd", "../../etc/passwd", "zone.tab", "\0", "x" * 5000, "\udcff"]
)
def test_what_is_no_zone_is_refused_in_few_words(name: str) -> None:
    with pytest.raises(ValueError, match="time zone") as refused:
        zones.read(name, {})
    assert len(str(refused.value)) < 300


def test_a_machine_whose_zone_is_no_file_is_asked_for_a_name() -> None:
    (said,) = problems(NOON, TZ="CET-1CEST,M3.5.0")
    assert said.startswith(
        "config.toml: tasks.a.schedule: the time zone of this machine (TZ='CET-1CEST,M3.5.0')"
    )
    assert said.endswith("is not known: set 'timezone'")


def test_half_a_file_is_refused_wherever_it_ends(folder: Path) -> None:
    """A copy that goes on just now; the last byte alone would keep Python's reader for ever."""
    half = folder / "localtime"
    for end in range(len(DATA)):
        half.write_bytes(DATA[:end])
        with pytest.raises(ValueError, match="not a whole one; set 'timezone'"):
            zones.read(None, {})
    half.write_bytes(DATA)
    assert zones.read(None, {}) == DATA


def test_what_would_block_or_has_no_end_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    for where in (str(folder / "fifo"), "/dev/zero", "/"):
        with pytest.raises(ValueError, match="cannot be used"):
            zones.read(None, {"TZ": where})


@examples(max_examples=1000, deadline=None, database=None)
@given(st.lists(st.tuples(st.integers(0, len(DATA) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_file_is_refused_or_harmless(bytes_: list[tuple[int, int]]) -> None:
    """Python's reader dies of some: here, that is the whole test run."""
    data = bytearray(DATA)
    for place, value in bytes_:
        data[place] = value
    if zones.is_usable(bytes(data)):
        for moment in (0.0, 1.8e9, 4e9):
            due = next_due(TaskSettings("a", schedule="30 2 * * *", zone=bytes(data)), moment)
            assert due is not None
            assert due > moment


# -- in a configuration --------------------------------------------------------


def test_tasks_of_one_zone_share_what_was_read_once(folder: Path) -> None:
    """However many there are, it travels to the master once, and all have the same."""
    (folder / "localtime").write_bytes(DATA)
    found = settings(NOON + NOON.replace("tasks.a", "tasks.b")).tasks
    assert found["a"].zone == DATA
    assert found["a"].zone is found["b"].zone


def test_what_needs_no_zone_has_none(folder: Path) -> None:
    (folder / "localtime").write_bytes(b"rubbish")
    found = settings(
        NOON + 'timezone = "UTC"\n' + NOON.replace("tasks.a", "tasks.b").replace("schedule", "every = 1 #")
    ).tasks
    assert (found["a"].zone, found["b"].zone) == (b"", b"")


def test_the_data_is_no_key() -> None:
    assert problems(NOON + 'zone = "UTC"\n') == [
        "config.toml: tasks.a.zone: unknown key, did you mean 'timezone'?"
    ]
