"""What a target is given, and what becomes of how it ends, in real workers.

The programs print ``KEY: JSON`` lines, which `told` reads.
"""

from __future__ import annotations

import json
import signal
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from program import Program

Start = Callable[..., Program]

SAY = r"""
import json, os, signal, sys, threading, time

def say(key, value=None):
    os.write(1, f"{key}: {json.dumps(value)}\n".encode())

"""
ONE = """
    [pools.a]
    target = "app:run"
"""


@pytest.fixture
def start(program: Start) -> Start:
    """A master with one worker that runs ``app`` (after the prelude `SAY`)."""

    def begin(app: str, config: str = ONE, **more: Any) -> Program:
        return program(SAY + textwrap.dedent(app), config, **more)

    return begin


def told(one: Program, key: str) -> Any:
    """What the program said under ``key``."""
    return json.loads(one.wait_for_line(f"{key}: ").partition(": ")[2])


# -- what it is given ------------------------------------------------------------


def test_a_worker_knows_itself_and_its_environment_says_the_same(start: Start) -> None:
    """Attributes, options, environment, title, stdin, and Python's own signal dispositions."""
    app = """
        def run(worker):
            say("itself", [worker.id, worker.pool, worker.slot, worker.generation, worker.options,
                dict(worker.sockets), worker.stopping, worker.quiet, worker.stop_reason])
            say("environment", {k: v for k, v in os.environ.items()
                if k.startswith(("SUPERVISOR_", "WATCHDOG_", "MINE"))})
            say("socket", os.path.exists(os.environ["NOTIFY_SOCKET"]))
            say("title", open("/proc/self/cmdline").read().rstrip("\\0 "))
            say("stdin", sys.stdin.read())
            say("pipes", [signal.getsignal(n) is signal.SIG_IGN for n in (signal.SIGPIPE, signal.SIGXFSZ)])
            say("alone", os.getsid(0) == os.getpid() == os.getpgid(0))
            say("pid", os.getpid())
            worker.wait()
            say("reason", worker.stop_reason)
    """
    config = """
        [pools.two]
        target = "app:run"
        watchdog = "30s"
        options = { depth = { of = [1, 2.5, "x", true] } }
        env = { MINE = "own", SUPERVISOR_SLOT = "99" }
    """
    one = start(app, config, master='name = "shop"').ready()
    options = {"depth": {"of": [1, 2.5, "x", True]}}
    assert told(one, "itself") == ["two.0", "two", 0, 1, options, {}, False, False, None]
    assert told(one, "environment") == {
        "SUPERVISOR_NAME": "shop",
        "SUPERVISOR_POOL": "two",
        "SUPERVISOR_SLOT": "0",
        "SUPERVISOR_WORKER": "two.0",
        "SUPERVISOR_GENERATION": "1",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(told(one, "pid")),
        "MINE": "own",
    }
    assert told(one, "socket") is True
    assert told(one, "title") == "shop: two.0"
    assert told(one, "stdin") == ""
    assert told(one, "pipes") == [True, True], "a closed connection must be an error, not a death"
    assert told(one, "alone") is True
    one.stop(0)
    assert told(one, "reason") == "stop"


KINDS = """
    import functools

    def without():
        say("without")
        time.sleep(60)

    async def asynchronous(worker):
        say("asynchronous", worker.id)
        await worker.stopped()

    async def asynchronous_without():
        say("asynchronous_without")

    class Consumer:
        def __init__(self, name):
            self.name = name

        def run(self, worker):
            say(self.name, worker.id)
            worker.wait()

        def __call__(self, worker):
            self.run(worker)

        @classmethod
        def made(cls, worker):
            cls("made").run(worker)

        @staticmethod
        def static(worker=None):
            Consumer("static").run(worker)

    method, callable_object = Consumer("method"), Consumer("callable_object")
    partial = functools.partial(lambda name, worker: Consumer(name).run(worker), "partial")
"""
TARGETS = {
    "asynchronous": "asynchronous",
    "asynchronous_without": "asynchronous_without",
    "method": "method.run",
    "callable_object": "callable_object",
    "made": "Consumer.made",
    "static": "Consumer.static",
    "partial": "partial",
}


def test_every_kind_of_callable_is_a_target(start: Start) -> None:
    """Plain and async functions with and without argument, methods, objects, partials."""
    pools = [f'[pools.{name}]\ntarget = "app:{path}"\nrestart = "never"' for name, path in TARGETS.items()]
    one = start(KINDS, "\n".join(pools)).ready()
    without = ("asynchronous_without",)
    assert {name: told(one, name) for name in TARGETS} == {
        name: None if name in without else f"{name}.0" for name in TARGETS
    }
    assert one.stop(0)["status"] == 0


# -- waiting for the stop ----------------------------------------------------------


def test_wait_returns_on_time_or_at_the_stop_in_every_thread(start: Start) -> None:
    """`wait`: false after its time, true when stopping; many threads, no end, absurd lengths."""
    app = """
        def run(worker):
            began = time.monotonic()
            say("short", [worker.wait(0), worker.wait(-1), worker.wait(0.03)])
            say("took", time.monotonic() - began)
            heard = []
            lengths = (None, 60, 1e9, float("inf"))
            threads = [threading.Thread(target=lambda s=s: heard.append(worker.wait(s))) for s in lengths]
            for thread in threads:
                thread.start()
            say("waiting")
            for thread in threads:
                thread.join()
            say("heard", heard)
            say("after", [worker.wait(60), worker.wait(None), worker.stopping])
    """
    one = start(app).ready()
    assert told(one, "short") == [False, False, False]
    assert told(one, "took") >= 0.03
    told(one, "waiting")
    report = one.stop(0)
    assert told(one, "heard") == [True] * 4
    assert told(one, "after") == [True, True, True]
    assert not report["workers"][0]["killed"]


def test_fileno_is_readable_once_stopping_for_every_way_to_wait(start: Start) -> None:
    """select, poll, epoll and asyncio's add_reader all wake, and go on being readable."""
    app = """
        import asyncio, select

        def by_epoll(worker):
            with select.epoll() as epoll:
                epoll.register(worker)
                return [fd == worker.fileno() for fd, _ in epoll.poll()]

        def by_poll(worker):
            poll = select.poll()
            poll.register(worker)
            return [fd == worker.fileno() for fd, _ in poll.poll()]

        async def by_asyncio(worker):
            event = asyncio.Event()
            asyncio.get_running_loop().add_reader(worker, event.set)
            await asyncio.gather(event.wait(), worker.stopped())

        def run(worker):
            say("before", len(select.select([worker], [], [], 0)[0]))
            say("select", [w is worker for w in select.select([worker], [], [])[0]])
            say("others", [by_poll(worker), by_epoll(worker)])
            asyncio.run(by_asyncio(worker))
            say("asyncio")
    """
    one = start(app).ready()
    assert told(one, "before") == 0
    one.stop(0)
    assert told(one, "select") == [True]
    assert told(one, "others") == [[True], [True]]
    assert told(one, "asyncio") is None


def test_many_tasks_await_one_stop_and_one_that_is_cancelled_harms_none(start: Start) -> None:
    """`await stopped()`: every task is woken; descriptors are given back."""
    app = """
        import asyncio

        async def run(worker):
            tasks = [asyncio.create_task(worker.stopped()) for _ in range(50)]
            await asyncio.sleep(0)
            tasks.pop().cancel()
            say("waiting")
            await asyncio.gather(*tasks)
            await worker.stopped()
            say("fds", len(os.listdir("/proc/self/fd")) < 30)
            say("reason", worker.stop_reason)
    """
    one = start(app).ready()
    told(one, "waiting")
    one.signal(signal.SIGUSR2)
    one.wait(4)
    assert told(one, "fds") is True
    assert told(one, "reason") == "replace"


# -- what it tells -----------------------------------------------------------------


def test_status_and_job_counts_reach_status_json(start: Start) -> None:
    """Texts become one bounded line; jobs count over threads, nested and failed ones too."""
    app = """
        def work(worker):
            for _ in range(1000):
                with worker.job():
                    pass

        def run(worker):
            threads = [threading.Thread(target=work, args=(worker,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            try:
                with worker.job(), worker.job():
                    raise ValueError
            except ValueError:
                pass
            worker.status("first\\nSTOPPING=1\\x1b[2J\\0 \\udcff " + "x" * 10_000_000)
            with worker.job():
                say("done")
                worker.wait()
    """
    one = start(app).ready()
    told(one, "done")
    shown = one.wait_shown("a.0", lambda worker: worker["jobs"] == 4002 and worker["status"])
    assert shown["in_flight"] == 1
    assert shown["state"] == "ready", "a newline in a text must not be an assignment of its own"
    assert shown["status"].startswith("first STOPPING=1")
    assert shown["status"].isprintable()
    assert len(shown["status"]) <= 200
    assert one.stop(0)["workers"][0]["acknowledged_after"] is not None


def test_ready_is_told_by_the_worker_where_the_pool_wants_it_so(start: Start) -> None:
    """`ready = "notify"`: not up until `worker.ready()`, though `on_worker_start` and the target ran."""
    app = """
        def run(worker):
            say("called")
            sys.stdin = open("go")
            sys.stdin.read()
            worker.ready()
            worker.ready()
            worker.wait()
    """
    config = ONE + 'ready = "notify"\n'
    one = start("os.path.exists('go') or os.mkfifo('go')\n" + textwrap.dedent(app), config)
    told(one, "called")
    assert (one.status()["state"], one.status()["pools"]["a"]["ready"]) == ("starting", 0)
    with open(one.folder / "go", "w"):
        pass
    one.ready()
    assert one.status()["pools"]["a"]["ready"] == 1
    one.stop(0)


def test_beats_keep_a_worker_alive_and_so_does_waiting(start: Start) -> None:
    """With a watchdog: one that beats in a loop, one in `wait`, one in `await stopped()` all live on."""
    app = """
        def beats(worker):
            while not worker.stopping:
                worker.beat()
                time.sleep(0.02)

        def waits(worker):
            worker.wait()

        async def awaits(worker):
            await worker.stopped()

        def hangs(worker):
            time.sleep(60)
    """
    pools = [
        f'[pools.{name}]\ntarget = "app:{name}"\nwatchdog = "1s"\n'
        for name in ("beats", "waits", "awaits", "hangs")
    ]
    one = start(app, "".join(pools) + 'restart = "never"\n').ready()
    one.wait_for("worker.failed", pool="hangs", signal="SIGKILL")
    one.wait_for("master.ready")
    assert [e["pool"] for e in one.events if e["event"] == "worker.killed"] == ["hangs"]
    one.stop(0)


# -- how it ends -------------------------------------------------------------------

ENDS = """
    def returns(worker): pass
    def exits(worker): sys.exit()
    def exits_0(worker): sys.exit(0)
    def exits_4(worker): sys.exit(4)
    def exits_7(worker): sys.exit(7)
    def exits_with_words(worker): sys.exit("the disk is on fire")
    def raises(worker): raise RuntimeError("broken")
    def interrupts(worker): raise KeyboardInterrupt
    async def raises_later(worker): raise RuntimeError("broken later")
    def leaves(worker): os._exit(9)
    def takes_two(worker, other): pass
"""
CODES = {
    "returns": 0,
    "exits": 0,
    "exits_0": 0,
    "exits_4": 4,
    "exits_7": 7,
    "exits_with_words": 1,
    "raises": 1,
    "interrupts": 1,
    "raises_later": 1,
    "leaves": 9,
    "takes_two": 1,
    "missing": 1,
}
PLANNED = (0, 4)


def test_how_a_target_ends_is_its_exit_status(start: Start) -> None:
    """Returns, `sys.exit` of every kind, exceptions, a target that is not there; the words are in the log."""
    pools = [f'[pools.{name}]\ntarget = "app:{name}"\nrestart = "never"' for name in CODES]
    one = start(ENDS, "\n".join(pools))
    one.tracebacks_expected = True
    for name, code in CODES.items():
        one.wait_for("worker.exited" if code in PLANNED else "worker.failed", pool=name)
    one.stop(0)
    ends = [e for e in one.events if e["event"] in ("worker.exited", "worker.failed")]
    assert {e["pool"]: e["code"] for e in ends} == CODES
    errors = {e["pool"]: str(e) for e in one.events if e["event"] == "worker.error"}
    assert "the disk is on fire" in errors["exits_with_words"]
    assert "broken later" in errors["raises_later"]
    assert "app:missing" in errors["missing"]
