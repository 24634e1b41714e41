"""What fails after all workers are new: they are watched for half of `stable_after` since they roll."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from program import Program
from reloading import code, configure, fails, hup, least, outcome, pids, pool, serving, started

Start = Callable[..., Program]

FAILS = """
    import os
    def run(worker):
        print(worker.id, worker.generation, "runs version one", flush=True)
        bad = worker.options["bad"] and worker.slot % 2
        if not worker.wait(0.5 if bad else 3600):
            os._exit(5)
"""
GOOD = "options = {bad = false}\n"
TO_BAD = ("bad = false", "bad = true")
# It cannot be tried beside the old one, so it is at once new, and then watched for so long.
LONG = pool("long", 1, f"surge = 0\n{GOOD}").replace('"200ms"', '"600s"')


def rolled(one: Program) -> None:
    """A reload of which all workers are new, and which goes on being watched."""
    mark = hup(one)
    one.wait_for("reload.rolled", since=mark)
    assert one.status()["generation"] == 1


def fail(one: Program, name: str) -> str:
    """A worker is lost then; what the reload says of it."""
    mark = one.mark()
    os.kill(one.worker(name), signal.SIGKILL)
    event = outcome(one, mark)
    assert event["event"] == "reload.failed", one.log()
    return str(event["error"])


def test_every_second_new_worker_fails_half_a_second_after_its_readiness(program: Start) -> None:
    """Long after the next one was started for it: all go back, and only those that failed were missing."""
    one = program(FAILS, pool(workers=4, more=GOOD).replace("200ms", "2s")).ready()
    configure(one, TO_BAD)
    assert "a.1 (generation 2): exit status 5" in fails(one)
    one.wait_until(lambda: serving(one) == {f"a.{n}": 1 for n in range(4)})
    assert least(one) >= 2
    assert one.find("reload.done") is None
    one.stop(0)


def test_the_last_failure_takes_back_all_one_by_one(program: Start) -> None:
    """Everybody was new by then: each is replaced by one of the old settings that is ready first."""
    one = program(FAILS, pool(workers=4, more=GOOD) + LONG).ready()
    before = pids(one)
    rolled(one)
    assert serving(one) == {f"a.{n}": 2 for n in range(4)}
    assert fail(one, "a.2") == "a.2 (generation 2): SIGKILL, not sent by supervisord-lite: out of memory?"
    one.wait_until(lambda: serving(one) == {f"a.{n}": 1 for n in range(4)})
    one.wait_until(lambda: serving(one, "long") == {"long.0": 1})
    assert least(one) == 3
    assert not set(before.values()) & set(pids(one).values())
    one.stop(0)


def test_with_preload_they_go_back_to_the_old_code(program: Start) -> None:
    """Its template is there until the end, whatever is on disk."""
    one = program(FAILS, pool(workers=2, more=GOOD + "preload = true\n") + LONG).ready()
    code(one, FAILS.replace("version one", "version two"))
    rolled(one)
    one.wait_for_line("a.0 2 runs version two")
    mark = one.mark()
    fail(one, "a.1")
    for name in ("a.0", "a.1"):
        one.wait_for("worker.ready", since=mark, worker=name, generation=1)
        one.wait_for_line(f"{name} 1 runs version one")
    one.wait_until(lambda: serving(one) == {"a.0": 1, "a.1": 1})
    one.stop(0)


def test_sockets_sizes_and_pools_are_as_they_were(program: Start) -> None:
    """What only the old file has was open all the time; what only the new one has is gone."""
    old = pool(workers=2, more=GOOD + "sockets = ['old']\n") + pool("gone", 1, GOOD)
    one = program(FAILS, old + LONG + "[sockets.old]\nbind = 'unix:old.sock'\n").ready()
    before = pids(one, "gone")
    configure(
        one,
        ("workers = 2", "workers = 3"),
        ("['old']", "['new']"),
        ("sockets.old", "sockets.new"),
        ("old.sock", "new.sock"),
        ("pools.gone", "pools.here"),
    )
    rolled(one)
    assert (len(serving(one)), len(serving(one, "here")), pids(one, "gone")) == (3, 1, before)
    assert (one.folder / "old.sock").is_socket()
    assert (one.folder / "new.sock").is_socket()
    fail(one, "here.0")
    one.wait_until(lambda: serving(one) == {"a.0": 1, "a.1": 1})
    one.wait_until(lambda: sorted(one.status()["pools"]) == ["a", "gone", "long"])
    assert pids(one, "gone") == before
    assert (one.folder / "old.sock").is_socket()
    assert not (one.folder / "new.sock").exists()
    one.stop(0)


@pytest.mark.parametrize("seconds", ["600s", "1s"])
def test_a_wish_meanwhile_is_fulfilled_after_it(program: Start, seconds: str) -> None:
    """Whether it ends well or not."""
    one = program(FAILS, pool(workers=1, more=GOOD) + LONG.replace("600s", seconds)).ready()
    rolled(one)
    mark = hup(one)
    one.wait_for("reload.queued", since=mark)
    if seconds == "600s":
        configure(one, ("600s", "100ms"))
        fail(one, "long.0")
    ends = [one.wait_for("reload.started", since=mark), one.wait_for("reload.done", reload=2)]
    assert [event["generation"] for event in ends] == [3, 3]
    assert serving(one) == {"a.0": 3}
    one.stop(0)


def test_with_surge_0_one_that_crashes_a_second_after_readiness_costs_one_place(program: Start) -> None:
    """The first is watched before the next one leaves, so the others were not touched."""
    app = FAILS.replace("worker.slot % 2", "True").replace("0.5", "1")
    one = program(app, pool(workers=3, more=f"surge = 0\n{GOOD}").replace("200ms", "10s")).ready()
    before = pids(one)
    configure(one, TO_BAD)
    assert "a.0 (generation 2): exit status 5" in fails(one)
    one.wait_until(lambda: serving(one) == {f"a.{n}": 1 for n in range(3)})
    assert len(started(one, 2)) == 1
    assert [pids(one)[name] for name in ("a.1", "a.2")] == [before["a.1"], before["a.2"]]
    assert least(one) == 2
    one.stop(0)
