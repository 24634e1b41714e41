"""Which of two stop requests wins: every ordered pair, with a real master.

The worker leaves only when the test opens its gate, so no outcome depends on
who is faster.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program

pytestmark = pytest.mark.long

Start = Callable[..., Program]

NAMES = ("TERM", "INT", "QUIT", "USR2", "HUP")
ALONE = {"TERM": 0, "INT": 0, "QUIT": 3, "USR2": 4, "HUP": None}  # None: it goes on
PAIRS: dict[tuple[str, str], int | None] = dict.fromkeys(itertools.product(NAMES, NAMES)) | {
    **{("QUIT", name): 3 for name in NAMES},
    **{(name, "QUIT"): 3 for name in NAMES},
    **{("HUP", name): ALONE[name] for name in NAMES},
    ("TERM", "TERM"): 0,
    ("TERM", "INT"): 3,
    ("TERM", "USR2"): 0,
    ("TERM", "HUP"): 0,
    ("INT", "TERM"): 0,
    ("INT", "INT"): 3,
    ("INT", "USR2"): 0,
    ("INT", "HUP"): 0,
    ("USR2", "TERM"): 0,
    ("USR2", "INT"): 3,
    ("USR2", "USR2"): 4,
    ("USR2", "HUP"): 4,
}
# Signals that are pending at the same time have no order, and two of a kind are one (signal(7)).
# The gentler reading holds then: INT came first, so it does not force.
AT_ONCE = {("TERM", "INT"): {0, 3}, ("INT", "INT"): {0, 3}, ("USR2", "INT"): {0, 3}}

HELD = """
    def run(worker):
        worker.ready()
        worker.wait()
        open("gate").read(1)
"""
ONE = """
    [pools.a]
    target = "app:run"
    ready = "notify"
"""


class Gate:
    """What the worker waits for before it leaves."""

    def __init__(self, folder: Path) -> None:
        os.mkfifo(folder / "gate")
        self._fd = os.open(folder / "gate", os.O_RDWR)  # O_RDWR: neither end waits for the other

    def open(self) -> None:
        os.write(self._fd, b"!!")  # for the worker, and for one that a reload may have begun beside it

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def number(name: str) -> int:
    return signal.Signals[f"SIG{name}"]


def answers(one: Program) -> list[str]:
    """The signals that the master has said something about, in order."""
    said = {"master.stopping": "reason", "signal.ignored": "signal"}
    said |= {"reload.started": "reason", "reload.queued": "reason"}
    return [event[said[event["event"]]] for event in one.events if event["event"] in said]


def check_one_stop(one: Program, pair: tuple[str, str]) -> None:
    """One report, its reason one of the two, and no phase twice."""
    report = one.report()
    assert report["status"] == one.process.returncode
    assert report["reason"] in {f"SIG{name}" for name in (*pair, "TERM")}
    phases = [e["phase"] for e in one.events if e["event"] == "stop.phase"]
    assert len(phases) == len(set(phases))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_the_second_signal_after_the_stop_has_begun(
    program: Start, gate: Gate, pair: tuple[str, str]
) -> None:
    """A stop only ever gets firmer: the exit status is the firmer one's, an INT while stopping forces."""
    one, status = program(HELD, ONE).ready(), PAIRS[pair]
    one.signal(number(pair[0]))
    one.read_until(lambda: answers(one))
    if pair[0] in ("TERM", "INT", "USR2"):
        one.wait_for("worker.stopping")
    one.signal(number(pair[1]))
    if status != 3:
        one.read_until(lambda: len(answers(one)) == 2)
        assert answers(one) == [f"SIG{name}" for name in pair]
    if status is None:
        one.signal(signal.SIGTERM)
    if status != 3:
        gate.open()
    one.wait(status or 0)
    check_one_stop(one, pair)
    gate.close()


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_two_signals_at_once(program: Start, gate: Gate, pair: tuple[str, str]) -> None:
    """Sent back to back, neither is lost, and the firmer one decides."""
    one, status = program(HELD, ONE).ready(), PAIRS[pair]
    one.signal(number(pair[0]), number(pair[1]))
    one.read_until(lambda: len(answers(one)) >= len(set(pair)))
    if status is None:
        one.signal(signal.SIGTERM)
    gate.open()
    assert one.wait() in AT_ONCE.get(pair, {status or 0}), one.log()
    check_one_stop(one, pair)
    gate.close()


def test_no_number_of_terms_moves_the_deadline(program: Start) -> None:
    """TERM again and again, at once and every 10 ms until SIGKILL: it comes when the first TERM said."""
    app = """
        import time
        def run(worker):
            worker.ready()
            while True:
                time.sleep(60)
    """
    one = program(app, ONE, master='stop_timeout = "1s"').ready()
    one.signal(signal.SIGTERM, signal.SIGTERM)
    for _ in range(1000):
        one.read_until(lambda: one.find("worker.killed"), timeout=0.01)
        if one.find("worker.killed"):
            break
        one.signal(signal.SIGTERM)
    one.wait(3)
    assert one.report()["seconds"] >= 0.95
    assert [e["event"] for e in one.events].count("master.stopping") == 1
    assert one.find("signal.ignored", signal="SIGTERM", reason="already stopping")
