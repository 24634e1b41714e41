"""Events become lines that say enough, stay one line, and carry nothing harmful."""

from __future__ import annotations

import calendar
import json
import os
import pty
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import log

NOON = 1_795_269_600.123  # 2026-11-21T14:00:00.123Z
NASTY = "\n\x1b\x85\u2028\u202e\udc80[]{}|\\"
ANY_TEXT = st.lists(st.text(st.characters(exclude_categories=())) | st.sampled_from(NASTY)).map("".join)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT
ANYTHING = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=8)
NAMES = """
    master.started master.ready master.quiet master.unquiet master.stopping master.exiting master.error
    worker.started worker.ready worker.stopping worker.acknowledged worker.exited worker.failed
    worker.killed worker.stack pool.ready pool.degraded pool.parked pool.scaled stop.phase
    stop.waiting stop.report reload.started reload.done reload.failed hook.failed hook.timeout
    signal.ignored orphans.ended task.started task.finished task.failed task.paused
    task.resumed task.errored log.dropped
"""
REPORT: dict[str, Any] = {
    "reason": "SIGTERM",
    "status": 3,
    "seconds": 30.25,
    "phases": {"announce": 0.0, "on_stop": 0.1, "terminate": 30.0, "kill": 0.05},
    "workers": [
        {
            "worker": "a.0",
            "pid": 1,
            "acknowledged_after": 0.01,
            "gone_after": 0.1,
            "code": 0,
            "killed": False,
        },
        {
            "worker": "a.1",
            "pid": 2,
            "acknowledged_after": None,
            "gone_after": 30.0,
            "killed": True,
            "in_flight": 3,
        },
        {
            "worker": "a.2",
            "pid": 3,
            "acknowledged_after": 0.02,
            "gone_after": 12.0,
            "code": 0,
            "killed": False,
        },
    ],
}


@pytest.fixture
def in_kathmandu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """UTC+05:45, so that a mistaken zone shows."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def terminal() -> Iterator[int]:
    master, slave = pty.openpty()
    yield slave
    os.close(master)
    os.close(slave)


def message(name: str, **fields: Any) -> str:
    return str(log.make(name, wall=NOON, **fields)["message"])


def text(name: str, colour: bool = False, **fields: Any) -> str:
    return log.render(log.make(name, wall=NOON, **fields), "text", colour).decode()


def test_an_event_begins_with_time_level_name_and_sentence() -> None:
    event = log.make("worker.ready", wall=NOON, worker="a.0", pid=7, seconds=0.12)
    assert list(event.items()) == [
        ("time", "2026-11-21T14:00:00.123Z"),
        ("level", "info"),
        ("event", "worker.ready"),
        ("message", "a.0 is ready after 0.12 s (pid 7)"),
        ("worker", "a.0"),
        ("pid", 7),
        ("seconds", 0.12),
    ]


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        (
            "worker.failed",
            {"worker": "a.1", "reason": "SIGKILL, not sent by us", "uptime": 12.34, "delay": 0.2},
            "a.1 failed: SIGKILL, not sent by us (up 12.3 s); restarting in 0.2 s",
        ),
        (
            "worker.failed",
            {"worker": "a.1", "code": 1, "signal": None, "uptime": 12_000, "delay": 0},
            "a.1 failed: exit status 1 (up 3 h 20 min); restarting at once",
        ),
        (
            "worker.exited",
            {"worker": "a.1", "signal": "SIGTERM", "uptime": 130},
            "a.1 is gone: SIGTERM (up 2 min 10 s)",
        ),
        ("master.stopping", {"reason": "SIGTERM", "seconds": 30}, "stopping: SIGTERM, 30.0 s until SIGKILL"),
        ("stop.phase", {"phase": "terminate", "seconds": 0.42}, "phase terminate took 0.42 s"),
        (
            "stop.waiting",
            {"workers": list("abcdefghijkl")},
            "not acknowledged yet: a, b, c, d, e, f, g, h, i, j and 2 more",
        ),
        ("stop.report", REPORT, "stopped: SIGTERM, after 30.2 s, exit status 3; 3 workers, 1 killed"),
        ("some.thing", {"one": 1, "none": None, "two": "b"}, "some.thing one=1 two=b"),
    ],
)
def test_sentences(name: str, fields: dict[str, Any], sentence: str) -> None:
    assert message(name, **fields) == sentence


@pytest.mark.parametrize("name", NAMES.split())
def test_every_known_name_has_a_sentence_even_without_fields(name: str) -> None:
    event = log.make(name, wall=0)
    assert event["message"] != name
    assert not re.search(r"[][{}|]", event["message"])
    for format in ("text", "json", "journal"):
        assert log.render(event, format).endswith(b"\n")


def test_braces_and_brackets_in_a_field_are_only_text() -> None:
    assert (
        message("worker.failed", worker="{pid}", reason="[x|{uptime}]", pid=3) == "{pid} failed: [x|{uptime}]"
    )


def test_the_caller_may_set_the_level_and_a_log_filters_by_it() -> None:
    debug = log.make("worker.ready", "debug", wall=0)
    assert debug["level"] == "debug"
    assert [log.passes(debug, least) for least in log.LEVELS] == [True, False, False, False]
    assert [log.passes(log.make("worker.failed", wall=0), least) for least in log.LEVELS] == [
        True,
        True,
        True,
        False,
    ]


@pytest.mark.usefixtures("in_kathmandu")
def test_text_has_local_time_and_names_only_levels_worth_it() -> None:
    assert text("master.ready", seconds=1.5) == "19:45:00.123 all pools are ready after 1.5 s\n"
    assert text("worker.killed", worker="a.0") == "19:45:00.123 warning: a.0 had to be killed\n"


@pytest.mark.usefixtures("in_kathmandu")
def test_colour_is_for_time_and_level_only() -> None:
    assert text("master.ready", colour=True) == "\x1b[2m19:45:00.123\x1b[0m all pools are ready\n"
    assert "\x1b[1;31merror:\x1b[0m internal" in text("master.error", colour=True, error="\x1b[1m").replace(
        "\\x1b", ""
    )


def test_a_stack_stands_indented_below_its_line() -> None:
    lines = text("worker.stack", worker="a.0", stack='File "x"\n  line \x1b[2J\n').splitlines()
    assert lines[0].endswith("a.0 was busy here:")
    assert lines[1:] == ['    File "x"', "      line \\x1b[2J"]


def test_in_the_journal_every_physical_line_has_the_priority() -> None:
    event = log.make("hook.failed", wall=0, hook="m:f", error="E: x\ny", traceback="Traceback\n  <0>forged")
    assert log.render(event, "journal").decode().splitlines() == [
        "<3>hook m:f failed: E: x\\ny",
        "<3>    Traceback",
        "<3>      <0>forged",
    ]
    assert log.render(log.make("master.ready", "debug", wall=0), "journal").startswith(b"<7>")


def test_the_report_names_phases_that_took_time_and_workers_killed_or_slow() -> None:
    lines = text("stop.report", **REPORT).splitlines()
    assert lines[1:] == [
        "    phases: on_stop 0.1 s, terminate 30.0 s, kill 0.05 s",
        "    a.1 (pid 2) killed after 30.0 s, never acknowledged, 3 in flight",
        "    a.2 (pid 3) gone after 12.0 s, acknowledged after 0.02 s",
    ]
    assert max(map(len, lines)) <= 80


def test_the_report_of_many_slow_workers_stays_short_in_text_and_whole_in_json() -> None:
    workers = [{"worker": f"a.{n}", "pid": n, "gone_after": 1.5 + n, "killed": n == 5} for n in range(1000)]
    lines = text("stop.report", workers=workers).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["a.5", "a.999", "a.998"]
    assert (len(lines), lines[-1]) == (12, "    and 990 more")
    assert (
        len(json.loads(log.render(log.make("stop.report", wall=0, workers=workers), "json"))["workers"])
        == 1000
    )


@given(ANYTHING, ANY_TEXT)
def test_any_event_is_one_json_line_that_reads_back(value: Any, words: str) -> None:
    event = log.make("worker.failed", wall=NOON, worker=words, reason=value, traceback=words, x=value)
    line = log.render(event, "json").decode()  # strict: always UTF-8
    assert line.splitlines() == [line[:-1]]
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", line[:-1])
    # Two lone surrogates that happen to be a pair become their character, as in every JSON.
    assert json.loads(line) == json.loads(json.dumps(event))


@given(ANY_TEXT)
def test_no_field_forges_a_line_or_reaches_the_terminal(words: str) -> None:
    event = log.make("worker.failed", wall=NOON, worker=words, reason=words, other=words)
    for format in ("text", "journal"):
        line = log.render(event, format).decode()
        assert line.splitlines() == [line[:-1]]
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", line[:-1])
    stack = log.render(log.make("worker.stack", wall=NOON, stack=words), "journal").decode()
    assert all(part.startswith("<4>") for part in stack.splitlines())


def test_what_cannot_be_shown_is_described() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    loop: list[Any] = []
    loop.append(loop)
    event = log.make(
        "x", wall=0, a=Broken(), b=10**5000, c=loop, d={1: b"\xff"}, e=float("nan"), f=1e-9, g=(1, 2)
    )
    assert (event["a"], event["b"], event["d"]) == ("<Broken>", event["b"], {"1": "b'\\xff'"})
    assert (event["e"], event["f"], event["g"]) == ("nan", 0.0, [1, 2])
    assert json.loads(log.render(event, "json")) == event


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f600", "\x1b", "\udc80"])
def test_fields_and_lines_are_bounded(letter: str) -> None:
    huge = letter * 1_000_000
    event = log.make("worker.failed", wall=0, worker=huge, reason=[huge] * 50, stack=huge)
    assert len(event["worker"].encode("utf-8", "surrogatepass")) <= 8 * 1024
    assert len(event["stack"].encode("utf-8", "surrogatepass")) <= 32 * 1024
    assert event["worker"].endswith("...[cut]")
    for format in ("text", "journal", "json"):
        assert len(log.render(event, format)) <= 64 * 1024 + 100
    shortened = json.loads(log.render(event, "json"))
    assert shortened["shortened"] is True
    assert shortened["event"] == "worker.failed"


@given(st.integers(0, 4_102_444_800))
def test_the_time_is_read_back_exactly(second: int) -> None:
    iso = log._iso(second)
    assert log._epoch(iso) == second == calendar.timegm(time.strptime(iso, "%Y-%m-%dT%H:%M:%S.000Z"))


def test_a_strange_time_does_not_lose_the_line() -> None:
    assert log.render({"time": "\x1bnow", "message": "hello"}, "text") == b"\\x1bnow hello\n"


def test_under_systemd_the_format_is_journal_only_if_the_stream_is_still_its(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        stat = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        assert log.choose_format("auto", stream.fileno(), environ) == "journal"
        assert log.choose_format("auto", other.fileno(), environ) == "json"
        assert log.choose_format("auto", stream.fileno(), {"JOURNAL_STREAM": "garbage"}) == "json"
        assert log.choose_format("text", stream.fileno(), environ) == "text"
    assert log.choose_format("auto", -1, environ) == "json"


def test_a_terminal_gets_text_and_colours_unless_it_cannot_or_must_not(terminal: int) -> None:
    assert log.choose_format("auto", terminal, {}) == "text"
    assert log.choose_colour(terminal, {"TERM": "xterm"})
    assert not log.choose_colour(terminal, {"TERM": "dumb"})
    assert not log.choose_colour(terminal, {"TERM": "xterm", "NO_COLOR": "1"})
    assert not log.choose_colour(-1, {"TERM": "xterm"})
