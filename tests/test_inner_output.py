"""The drainer's pure parts: lines from bytes, last lines, prefixes, losses."""

from __future__ import annotations

import random
from itertools import pairwise

from supervisor.inner.lines import CUT, LAST_BYTES, LAST_LINES, LONGEST, Lines, Tail
from supervisor.inner.losses import FIRST_PAUSE, LONGEST_PAUSE, Losses
from supervisor.inner.prefix import COLOURS, Prefixes, prefix

# -- lines ---------------------------------------------------------------------


def test_however_bytes_are_cut_the_lines_are_the_same() -> None:
    rng = random.Random(7)
    data = b"".join(rng.randbytes(rng.choice([0, 3, 80, LONGEST, 3 * LONGEST])) + b"\n" for _ in range(60))
    whole = Lines()
    expected = whole.feed(data)
    for _ in range(20):
        lines, got, left = Lines(), b"", data
        while left:
            size = rng.choice([1, 10, 1000, 65536])
            got, left = got + lines.feed(left[:size]), left[size:]
        assert (got, lines.cut, lines.rest) == (expected, whole.cut, b"")


def test_a_line_waits_for_its_end_and_gets_one_at_the_end_of_the_stream() -> None:
    lines = Lines()
    assert [lines.feed(b"one\ntw"), lines.feed(b"o"), lines.feed(b"\nthree")] == [b"one\n", b"", b"two\n"]
    assert [lines.end(), lines.end()] == [b"three\n", b""]


def test_an_overlong_line_keeps_its_beginning_says_so_and_is_counted_once() -> None:
    for size in (LONGEST, LONGEST + 1, 10 * LONGEST):
        lines = Lines()
        got = lines.feed(b"x" * size) + lines.feed(b"x" * size) + lines.feed(b"\nnext\n")
        assert got == b"x" * (LONGEST - len(CUT) - 1) + CUT + b"\nnext\n"
        assert lines.cut == 1


def test_the_longest_line_that_is_kept_whole() -> None:
    line = b"x" * (LONGEST - 1) + b"\n"
    lines = Lines()
    assert lines.feed(line * 3) == line * 3
    assert lines.cut == 0


def test_what_never_ends_is_never_held() -> None:
    lines = Lines()
    for _ in range(100):
        lines.feed(b"\0" * 65536)
        assert len(lines.rest) < LONGEST
    assert (lines.cut, lines.end()) == (1, b"")


# -- last lines ----------------------------------------------------------------


def test_the_tail_is_the_last_lines() -> None:
    tail = Tail()
    for n in range(100):
        tail.add(b"line %d\n" % n)
    assert tail.lines() == [f"line {n}" for n in range(100 - LAST_LINES, 100)]
    assert tail.lines((b"half", b""))[-2:] == ["line 99", "half"]


def test_the_tail_is_bounded_in_bytes_and_begins_with_a_whole_line() -> None:
    for block in (1, 10):
        tail = Tail()
        for _ in range(10 // block):
            tail.add((b"x" * 999 + b"\n") * block)
        assert tail.lines() == ["x" * 999] * (LAST_BYTES // 1000)


def test_of_one_long_line_the_end_is_kept() -> None:
    tail = Tail()
    tail.add(b"x" * 10_000 + b"end\n")
    assert tail.lines() == ["x" * (LAST_BYTES - 3) + "end"]


def test_nothing_written_is_no_line() -> None:
    assert Tail().lines() == []


def test_the_tail_is_text_that_no_terminal_obeys() -> None:
    tail = Tail()
    tail.add(b"\x1b[1;31mred\x1b[0m\tb\x1b]0;title\x07\r\n\xff\xe2\x80\xae\x00done\n")
    assert tail.lines() == ["red     b ]0;title", "\ufffd  done"]


# -- prefixes ------------------------------------------------------------------


def test_a_prefix_is_the_name_padded_and_a_bar() -> None:
    assert prefix("web.0", 10, None) == b"web.0      | "
    assert prefix("web.0", 5, 0) == b"\x1b[36mweb.0 | \x1b[0m"
    assert prefix("web.0", 5, len(COLOURS)) == prefix("web.0", 5, 0)


def test_prefixes_are_as_wide_as_the_longest_name_known_each_in_its_colour() -> None:
    prefixes = Prefixes()
    for name in ("web.0", "consumer.10", "web.0"):
        prefixes.know(name)
    assert prefixes.of("web.0", colour=False) == b"web.0       | "
    assert prefixes.of("consumer.10", colour=True) == b"\x1b[%dmconsumer.10 | \x1b[0m" % COLOURS[1]


# -- losses --------------------------------------------------------------------


def told(losses: Losses, now: float | None) -> list[tuple[object, ...]]:
    return [tuple(message.values()) for message in losses.take(now)]


def test_a_loss_is_told_at_once_and_what_follows_is_added_up() -> None:
    losses = Losses()
    losses.add("a", 10.0, dropped=1, why="full")
    assert losses.deadline() == 10.0
    assert told(losses, 10.0) == [("a", 1, 0, "full")]
    assert losses.deadline() is None
    for _ in range(5):
        losses.add("a", 10.1, dropped=2, cut=1, why="full")
    assert told(losses, 10.1) == []
    assert losses.deadline() == 10.0 + FIRST_PAUSE
    assert told(losses, 10.0 + FIRST_PAUSE) == [("a", 10, 5, "full")]


def test_a_loss_that_goes_on_is_told_ever_more_seldom_and_after_a_silence_at_once() -> None:
    losses, now, times = Losses(), 0.0, []
    while now < 1000:
        losses.add("a", now, dropped=1)
        if told(losses, now):
            times.append(now)
        now += 0.5
    pauses = [b - a for a, b in pairwise(times)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE, LONGEST_PAUSE)
    told(losses, None)
    losses.add("a", now + 1000, dropped=1)
    assert losses.deadline() == now + 1000


def test_keys_do_not_wait_for_each_other_and_at_the_end_all_is_told() -> None:
    losses = Losses()
    losses.add("a", 0.0, cut=1)
    told(losses, 0.0)
    losses.add("a", 0.1, cut=1)
    losses.add("b", 0.1, why="cannot open")
    losses.add("c", 0.1)
    assert told(losses, 0.1) == [("b", 0, 0, "cannot open")]
    assert told(losses, None) == [("a", 0, 1, "")]
