"""The stop, phase by phase: what is told in which order, and what the report says."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from program import Event, Program

Start = Callable[..., Program]

PHASES = ["announce", "on_stop", "drain_delay", "terminate", "kill", "helpers", "on_exit"]
WAITS = """
    def run(worker):
        worker.wait()
"""
AT_WORK = """
    [pools.a]
    target = "app:run"
    workers = 2
    ready = "notify"
"""
TWO_POOLS = """
    [pools.a]
    target = "app:run"
    workers = 2
    [pools.b]
    target = "app:run"
"""


def first(one: Program, name: str, **fields: object) -> int:
    """Where in the log that event is."""
    return one.events.index(one.wait_for(name, **fields))


def last(one: Program, name: str) -> int:
    return max(i for i, event in enumerate(one.events) if event["event"] == name)


def test_events_come_in_the_order_of_the_phases(program: Start) -> None:
    """Announced, told, acknowledged, gone, reported; pools in reverse; each phase once, with its seconds."""
    one = program(WAITS, TWO_POOLS, master='drain_delay = "100ms"').ready()
    one.stop(0)
    phases = [e for e in one.events if e["event"] == "stop.phase"]
    assert [e["phase"] for e in phases] == PHASES
    assert all(e["seconds"] >= 0 for e in phases)
    order = [
        first(one, "master.stopping"),
        first(one, "stop.phase", phase="announce"),
        first(one, "stop.phase", phase="drain_delay"),
        first(one, "worker.stopping"),
        first(one, "worker.acknowledged"),
        last(one, "worker.exited"),
        first(one, "stop.phase", phase="terminate"),
        first(one, "stop.report"),
        first(one, "master.exiting"),
    ]
    assert order == sorted(order)
    assert order[-1] == len(one.events) - 1
    told = [e["worker"] for e in one.events if e["event"] == "worker.stopping"]
    assert told == ["b.0", "a.0", "a.1"]
    for name in told:
        marks = [first(one, f"worker.{what}", worker=name) for what in ("stopping", "acknowledged", "exited")]
        assert marks == sorted(marks)


def test_the_report(program: Start) -> None:
    """Reason, status, seconds, phases, and of each worker how it left, also with work in flight."""
    app = """
        import threading
        def run(worker):
            if worker.slot == 0:
                worker.ready()
                worker.wait()
                return
            with worker.job(), worker.job():
                worker.ready()
                threading.Event().wait()
    """
    one = program(app, AT_WORK, master='stop_timeout = "1500ms"').ready()
    report = one.stop(3)
    assert (report["reason"], report["status"], report["level"]) == ("SIGTERM", 3, "info")
    assert list(report["phases"]) == PHASES
    assert abs(sum(report["phases"].values()) - report["seconds"]) < 0.1
    keys = ["worker", "pid", "acknowledged_after", "gone_after", "code", "signal", "killed", "in_flight"]
    good, bad = report["workers"]
    assert list(good) == list(bad) == keys
    assert (good["worker"], good["pid"], good["code"]) == ("a.0", one.worker("a.0"), 0)
    assert not good["killed"]
    assert good["acknowledged_after"] <= good["gone_after"] < bad["gone_after"]
    assert (bad["worker"], bad["code"], bad["signal"], bad["killed"]) == ("a.1", None, "SIGKILL", True)
    assert bad["in_flight"] == 2
    assert bad["acknowledged_after"] is not None
    assert bad["gone_after"] >= 1.4


def test_who_does_not_acknowledge_is_named(program: Start) -> None:
    """A worker that holds the GIL in C cannot answer: named after a second, its stack told, then SIGKILL."""
    app = """
        import collections, itertools
        def forever_in_c():
            collections.deque(itertools.repeat(None), maxlen=0)
        def run(worker):
            worker.ready()
            if worker.slot == 0:
                worker.wait()
            else:
                forever_in_c()
    """
    one = program(app, AT_WORK, master='stop_timeout = "4s"').ready()
    report = one.stop(3)
    waiting: Event = one.wait_for("stop.waiting")
    assert waiting["workers"] == ["a.1"]
    order = [first(one, name) for name in ("stop.waiting", "worker.stack", "worker.killed", "stop.report")]
    assert order[0] < min(order[1:3])
    assert order[3] == max(order)
    assert "forever_in_c" in one.wait_for("worker.stack", worker="a.1")["stack"]
    assert [w["acknowledged_after"] is None for w in report["workers"]] == [False, True]


def test_drain_delay_takes_at_most_half(program: Start) -> None:
    """However long it is: workers are told at half of stop_timeout, and still drain."""
    report = program(WAITS, TWO_POOLS, master='drain_delay = "60s"\nstop_timeout = "2s"').ready().stop(0)
    assert 0.9 < report["phases"]["drain_delay"] < 1.7
    assert not any(w["killed"] for w in report["workers"])


def test_workers_go_on_during_drain_delay(program: Start) -> None:
    """They are told when it is over, not before; one that ends meanwhile is not replaced."""
    app = """
        def run(worker):
            worker.wait()
    """
    one = program(app, TWO_POOLS, master='drain_delay = "1s"\nstop_timeout = "20s"').ready()
    one.signal(signal.SIGTERM)
    one.wait_for("stop.phase", next="drain_delay")
    os.kill(one.worker("a.0"), signal.SIGKILL)
    mark = first(one, "worker.failed", worker="a.0")
    assert one.find("worker.stopping") is None
    one.wait(0)
    assert one.find("worker.started", since=mark) is None
    assert [w["signal"] for w in one.report()["workers"]] == ["SIGKILL", None, None]


def test_service_manager_hears_ready_then_stopping_then_workers_are_told(
    program: Start, tmp_path: Path
) -> None:
    """READY=1 once all are up; STOPPING=1 once, before the first worker can know."""
    app = """
        import socket
        def tells(worker):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.sendto(b"TOLD=1", worker.options["manager"])
        def run(worker):
            worker.wait()
    """
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "manager"))
    config = f"""
        [pools.a]
        target = "app:run"
        options = {{manager = "{tmp_path}/manager"}}
        [hooks]
        on_worker_stop = "app:tells"
    """
    one = program(app, config, env={"NOTIFY_SOCKET": str(tmp_path / "manager")}).ready()
    one.stop(0)
    manager.setblocking(False)
    heard = []
    try:
        while True:
            heard.append(manager.recv(4096).decode().partition("\n")[0])
    except BlockingIOError:
        manager.close()
    marks = [line for line in heard if line in ("READY=1", "STOPPING=1", "TOLD=1")]
    assert marks == ["READY=1", "STOPPING=1", "TOLD=1"]
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in heard)
    assert any("exit status 0" in line for line in heard if line.startswith("STATUS="))
