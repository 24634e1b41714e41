"""Hooks of workers: order, moments, and that on_worker_stop comes whatever the main thread does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from program import Program

Start = Callable[..., Program]

POOL = """
    [pools.a]
    target = "app:run"
"""

# -- order --------------------------------------------------------------------------

SAYS = """
    import threading
    from supervisor import on_worker_start, on_worker_stop, on_worker_exit

    def say(*words):
        print("say", *words, flush=True)

    def first(worker): say("first", worker.id)
    def second(worker): say("second", worker.id)
    def pools_own(worker): say("pool's own", worker.id)

    @on_worker_start
    @on_worker_exit
    def decorated(worker): say("decorated", worker.id)

    @on_worker_stop
    def asked(worker):
        say("asked", worker.stop_reason, threading.current_thread() is threading.main_thread())
        released.set()

    released = threading.Event()
    def run(worker):
        with worker.job():
            say("works")
            worker.ready()
            released.wait()
            say("work is done")
"""


def said(one: Program) -> list[str]:
    return [line.removeprefix("say ") for line in one.noise if line.startswith("say ")]


@pytest.mark.parametrize(
    ("number", "reason", "status"), [(signal.SIGTERM, "stop", 0), (signal.SIGUSR2, "replace", 4)]
)
def test_order_and_the_two_moments_of_leaving(program: Start, number: int, reason: str, status: int) -> None:
    """Up as written, down reversed; on_worker_stop in a thread beside the work, on_worker_exit after it."""
    config = """
        [pools.a]
        target = "app:run"
        ready = "notify"
        [pools.a.hooks]
        on_worker_start = "app:pools_own"
        [hooks]
        on_worker_start = ["app:first", "app:second"]
        on_worker_exit = ["app:first", "app:second"]
    """
    one = program(SAYS, config).ready()
    one.signal(number)
    one.wait(status)
    assert said(one) == [
        *("first a.0", "second a.0", "pool's own a.0", "decorated a.0"),
        "works",
        f"asked {reason} False",
        "work is done",
        *("decorated a.0", "second a.0", "first a.0"),
    ]


def test_hooks_of_one_pool_run_in_that_pool_only(program: Start) -> None:
    """[pools.NAME.hooks] is the pool's own."""
    app = """
        def hello(worker): print("hello", worker.id, flush=True)
        def run(worker): worker.wait()
    """
    config = """
        [pools.a]
        target = "app:run"
        [pools.a.hooks]
        on_worker_start = "app:hello"
        on_worker_stop = "app:hello"
        [pools.b]
        target = "app:run"
    """
    one = program(app, config).ready()
    one.stop(0)
    assert [line for line in one.noise if "hello" in line] == ["hello a.0", "hello a.0"]


def test_masters_and_workers_hooks_around_the_stop(program: Start) -> None:
    """on_stop before any worker is told, on_exit when all are gone."""
    app = """
        import os
        def write(word):
            with open("order", "a") as file:
                file.write(word + " ")
        def on_stop(context): write("on_stop")
        def told(worker): write("told")
        def leaves(worker): write("leaves")
        def on_exit(context): write("on_exit")
        def run(worker): worker.wait()
    """
    config = """
        [pools.a]
        target = "app:run"
        workers = 2
        [hooks]
        on_stop = "app:on_stop"
        on_worker_stop = "app:told"
        on_worker_exit = "app:leaves"
        on_exit = "app:on_exit"
    """
    one = program(app, config).ready()
    one.stop(0)
    first, *workers, last = (one.folder / "order").read_text().split()
    assert (first, sorted(workers), last) == ("on_stop", ["leaves", "leaves", "told", "told"], "on_exit")


def test_on_worker_quiet(program: Start) -> None:
    """It runs at each TSTP, not at the CONT between, nor twice for two TSTP."""
    app = """
        def quiet(worker): print("quiet", flush=True)
        def run(worker):
            before = False
            while not worker.wait(0.01):
                if worker.quiet is not before:
                    before = worker.quiet
                    print("no work" if before else "at work", flush=True)
    """
    one = program(app, POOL + '[hooks]\non_worker_quiet = "app:quiet"').ready()
    for times in (1, 2):
        one.signal(signal.SIGTSTP)
        one.read_until(lambda times=times: one.noise.count("no work") == one.noise.count("quiet") == times)
        os.kill(one.worker("a.0"), signal.SIGTSTP)  # once more, by hand
        one.signal(signal.SIGCONT)
        # Only now: a TSTP takes a CONT away that is still pending (signal(7)).
        one.read_until(lambda times=times: one.noise.count("at work") == times)
    one.stop(0)
    assert [len(one.noise), one.noise.count("quiet")] == [6, 2]


# -- whatever the main thread does ----------------------------------------------------

BLOCKED = """
    import ctypes, hashlib, os, queue, socket, threading, time

    def sleeps(): time.sleep(600)
    def receives():
        ours, theirs = socket.socketpair()
        ours.recv(1)
    def computes(): hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2**31 - 1)  # the GIL is free, no signal ends it
    def in_c():
        while True:
            ctypes.CDLL(None).usleep(900_000)
    def gets(): queue.Queue().get()
    def locks():
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    def joins():
        thread = threading.Thread(target=gets, daemon=True)
        thread.start()
        thread.join()

    WAYS = (sleeps, receives, computes, in_c, gets, locks, joins)

    def asked(worker): print("asked", worker.id, flush=True)
    def run(worker):
        worker.ready()
        WAYS[worker.slot]()
"""


def test_on_worker_stop_while_the_main_thread_is_in_a_blocking_call(program: Start) -> None:
    """In sleep, recv, C, ctypes, queue.get, lock.acquire, join: acknowledged, and the hook runs."""
    config = POOL + 'workers = 7\nready = "notify"\n[hooks]\non_worker_stop = "app:asked"'
    one = program(BLOCKED, config).ready()
    one.signal(signal.SIGTERM)
    one.read_until(lambda: sum(line.startswith("asked") for line in one.noise) == 7)
    assert sorted(one.noise) == [f"asked a.{slot}" for slot in range(7)]
    for slot in range(7):
        one.wait_for("worker.acknowledged", worker=f"a.{slot}")
    one.signal(signal.SIGQUIT)
    one.wait(3)


# -- raising and hanging ----------------------------------------------------------------


@pytest.mark.parametrize(
    "way", ["raise ValueError('no database')", "sys.exit(0)", "threading.Event().wait()"]
)
def test_on_worker_start_that_fails_is_a_failed_start(program: Start, way: str) -> None:
    """Raising, leaving or hanging: the worker fails, never was ready, and is tried again."""
    app = f"""
        import sys, threading
        def begins(worker): {way}
        def run(worker): print("the target ran", flush=True)
    """
    config = POOL + 'backoff = {initial = "1ms", max = "1ms"}\n[hooks]\non_worker_start = "app:begins"'
    one = program(app, config, master='hook_timeout = "200ms"')
    one.tracebacks_expected = True
    one.wait_for("worker.failed", worker="a.0", code=1)
    one.wait_for("worker.failed", worker="a.0", code=1, since=one.mark())
    name = "hook.timeout" if "wait" in way else "hook.failed"
    assert one.find(name, worker="a.0", hook="app:begins")
    one.stop(0)
    assert one.find("worker.ready") is None
    assert "the target ran" not in one.noise


FAILS = """
    import sys, threading
    def raises(worker): raise ValueError("no database")
    def leaves(worker): sys.exit(9)
    def interrupts(worker): raise KeyboardInterrupt
    def closes(worker): raise GeneratorExit
    def hangs(worker): threading.Event().wait()
    def forks(worker): __import__("os").fork()
    def last(worker): print("the last one ran", flush=True)
    def run(worker): worker.wait()
"""
EACH = '["app:last", "app:raises", "app:leaves", "app:interrupts", "app:closes", "app:forks", "app:hangs"]'


@pytest.mark.parametrize("moment", ["on_worker_stop", "on_worker_exit"])
def test_a_hook_of_the_way_down_that_fails_is_passed_over(program: Start, moment: str) -> None:
    """Raising, leaving, forking, hanging: told by name, the next one runs, the exit status is the same."""
    one = program(FAILS, POOL + f"[hooks]\n{moment} = {EACH}", master='hook_timeout = "300ms"').ready()
    one.tracebacks_expected = True
    report = one.stop(0)
    assert report["workers"][0]["code"] == 0
    assert one.noise.count("the last one ran") == 1
    for name in ("raises", "leaves", "interrupts", "closes"):
        assert one.find("hook.failed", worker="a.0", hook=f"app:{name}")
    assert one.find("hook.timeout", worker="a.0", hook="app:hangs")


def test_on_worker_quiet_that_fails_leaves_the_worker_at_work(program: Start) -> None:
    """The worker goes on, and stops as ever."""
    config = POOL + '[hooks]\non_worker_quiet = ["app:raises", "app:leaves", "app:hangs", "app:last"]'
    one = program(FAILS, config, master='hook_timeout = "300ms"').ready()
    one.tracebacks_expected = True
    one.signal(signal.SIGTSTP)
    one.wait_for_line("the last one ran")
    one.stop(0)
    assert one.find("worker.failed") is None


def test_a_hook_that_forks_makes_no_second_worker(program: Start) -> None:
    """The child of a fork in on_worker_start comes back from the hook and ends."""
    app = """
        import os
        def forks(worker): os.fork()
        def run(worker):
            print("the target ran", flush=True)
            worker.wait()
    """
    one = program(app, POOL + '[hooks]\non_worker_start = "app:forks"').ready()
    one.wait_for_line("the target ran")
    one.stop(0)
    assert one.noise.count("the target ran") == 1


def test_quiet_and_back_while_the_main_thread_is_busy_in_c(program: Start) -> None:
    """Python calls the handlers late and by number, CONT before TSTP: the worker still ends at work."""
    app = """
        import hashlib
        def quiet(worker): print("quiet", flush=True)
        def run(worker):
            worker.ready()
            for _ in iter(lambda: worker.stopping, True):
                hashlib.pbkdf2_hmac("sha256", b"a", b"b", 1_000_000)
                print("at work" if not worker.quiet else "no work", flush=True)
    """
    one = program(app, POOL + 'ready = "notify"\n[hooks]\non_worker_quiet = "app:quiet"').ready()
    one.signal(signal.SIGTSTP)
    one.wait_for_line("quiet")
    one.signal(signal.SIGCONT)
    one.wait_for("master.unquiet")
    before = len(one.noise)
    one.read_until(lambda: len(one.noise) >= before + 3)
    assert one.noise[before + 1 :] == ["at work"] * 2
    one.stop(0)
