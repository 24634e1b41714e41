"""Pools that come after others: started when those are ready, gone before those are told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from program import Program
from reloading import configure, works

Start = Callable[..., Program]

APP = """
    import os, signal
    def run(worker):
        worker.wait()

    def when_asked(worker):  # is ready when there is a file of its name
        while not os.path.exists(worker.id) and not worker.wait(0.01):
            pass
        worker.ready()
        worker.wait()

    def stays(worker):  # whatever it is asked
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        worker.ready()
        while True:
            signal.pause()

    def slow(worker):  # to leave
        worker.ready()
        worker.wait()
        while not os.path.exists("may leave"):
            pass
"""


def pool(name: str, *after: str, target: str = "run", more: str = "", workers: int = 1) -> str:
    notify = 'ready = "notify"\n' if target != "run" else ""
    head = f'[pools.{name}]\ntarget = "app:{target}"\nworkers = {workers}\nstable_after = "100ms"\n'
    return f"{head}{notify}after = {list(after)}\n{more}\n"


def places(one: Program, event: str, name: str) -> list[int]:
    """Where in the log a pool's workers have that event."""
    return [n for n, e in enumerate(one.events) if e["event"] == event and e.get("pool") == name]


def test_pools_start_in_order_of_readiness_and_leave_in_reverse(program: Start) -> None:
    """However they are written: all of one are ready before the first of the next is started, and back."""
    text = pool("web", "cache", "db", workers=2) + pool("cache", "db", workers=2) + pool("db", workers=2)
    one = program(APP, text).ready()
    one.stop(0)
    for earlier, later in (("db", "cache"), ("cache", "web")):
        assert max(places(one, "worker.ready", earlier)) < min(places(one, "worker.started", later))
        assert max(places(one, "worker.exited", later)) < min(places(one, "worker.stopping", earlier))


def test_who_comes_after_nobody_does_not_wait(program: Start) -> None:
    """A pool that never gets ready holds back its followers and nobody else, and not TERM."""
    text = pool("db", target="when_asked") + pool("web", "db") + pool("other") + pool("third", "other")
    one = program(APP, text)
    one.wait_for("worker.ready", worker="third.0")
    shown = one.status()
    assert shown["state"] == "starting"
    assert (shown["pools"]["web"]["ready"], shown["pools"]["web"]["state"]) == (0, "starting")
    one.stop(0)
    assert not places(one, "worker.started", "web")


def test_a_dependency_that_comes_up_late_lets_its_followers_in(program: Start) -> None:
    """And one that falls later does not take them down."""
    one = program(APP, pool("db", target="when_asked") + pool("web", "db"))
    one.wait_for("worker.started", worker="db.0")
    assert not places(one, "worker.started", "web")
    (one.folder / "db.0").touch()
    one.ready()
    web = one.worker("web.0")
    (one.folder / "db.0").unlink()
    mark = one.mark()
    os.kill(one.worker("db.0"), signal.SIGKILL)
    one.wait_for("pool.degraded", since=mark, pool="db")
    os.kill(web, signal.SIGKILL)
    assert one.wait_for("worker.ready", since=mark, worker="web.0")["pid"] != web
    one.stop(0)


def test_a_follower_that_hangs_does_not_take_the_time_of_its_dependency(program: Start) -> None:
    """The dependency is told at its share of the time, finishes, and only the follower is killed."""
    text = pool("db") + pool("web", "db", target="stays")
    one = program(APP, text, master='stop_timeout = "3s"').ready()
    report = one.stop(3)
    by_name = {w["worker"]: w for w in report["workers"]}
    assert by_name["web.0"]["killed"]
    assert not by_name["db.0"]["killed"]
    assert by_name["db.0"]["code"] == 0
    told = one.wait_for("worker.stopping", worker="db.0")
    killed = one.wait_for("worker.killed", worker="web.0")
    assert one.events.index(told) < one.events.index(killed)


def test_a_slow_follower_is_waited_for(program: Start) -> None:
    """As long as it works, what it works with stays."""
    one = program(APP, pool("db") + pool("web", "db", target="slow"), master='stop_timeout = "60s"').ready()
    one.signal(signal.SIGTERM)
    one.wait_for("worker.acknowledged", worker="web.0")
    assert one.status()["pools"]["db"]["workers"][0]["state"] == "ready"
    assert not places(one, "worker.stopping", "db")
    (one.folder / "may leave").touch()
    one.wait(0)
    assert_reverse(one)


def test_the_same_order_for_a_restart(program: Start) -> None:
    """USR2: followers first; both are told that they will be replaced, exit 4."""
    one = program(APP, pool("db") + pool("web", "db")).ready()
    one.signal(signal.SIGUSR2)
    one.wait(4)
    assert_reverse(one)
    assert {w["code"] for w in one.report()["workers"]} == {4}


def test_force_minds_no_order(program: Start) -> None:
    """QUIT kills everybody at once."""
    one = program(APP, pool("db") + pool("web", "db", target="stays")).ready()
    one.signal(signal.SIGQUIT)
    one.wait(3)
    assert all(w["killed"] for w in one.report()["workers"])


def assert_reverse(one: Program) -> None:
    gone, told = places(one, "worker.exited", "web"), places(one, "worker.stopping", "db")
    assert max(gone) < min(told)


def test_a_circle_is_a_mistake_of_the_configuration(program: Start) -> None:
    """Found before anything is started, each pool of it named; and so is one that does not exist."""
    one = program(APP, pool("a", "b") + pool("b", "c") + pool("c", "a") + pool("d", "nobody"))
    one.wait(2)
    circle, missing = one.noise
    assert circle.endswith("config.toml: pools.a.after: waits for itself: a -> b -> c -> a")
    assert missing.endswith("config.toml: pools.d.after[0]: there is no pool 'nobody'")
    checked = one.cli("check")
    assert (checked.returncode, checked.stderr.splitlines()) == (2, one.noise)


def test_an_order_that_a_reload_brings_holds_for_the_stop(program: Start) -> None:
    """What the configuration says last is the order in which they leave."""
    one = program(APP, pool("web") + pool("db")).ready()
    configure(one, ("after = []\n\n[pools.db]", 'after = ["db"]\n\n[pools.db]'))
    works(one)
    one.stop(0)
    gone = [e for e in one.events if e["event"] == "worker.exited" and e["generation"] == 2]
    assert [e["pool"] for e in gone] == ["web", "db"]
