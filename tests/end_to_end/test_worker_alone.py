"""Workers whose program forks, threads or handles signals itself, and workers that nobody hears."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Callable

import psutil
import pytest
from program import PATIENCE, Program, wait_gone

Start = Callable[..., Program]

ONE = """
    [pools.a]
    target = "app:run"
"""

# -- signals -----------------------------------------------------------------------

LIKE_UVICORN = """
    import asyncio, signal
    class Server:
        should_exit = False
        def handle_exit(self, number, frame):
            self.should_exit = True
    def run(worker):
        server = Server()
        before = {n: signal.signal(n, server.handle_exit) for n in (signal.SIGINT, signal.SIGTERM)}
        async def serve():
            print("serving", flush=True)
            while not server.should_exit:
                await asyncio.sleep(0.01)
        asyncio.run(serve())
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.raise_signal(signal.SIGTERM)
        print("drained", flush=True)
"""
LIKE_HYPERCORN = """
    import asyncio, os, signal
    from supervisor import on_worker_exit
    async def run(worker):
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        print("serving", flush=True)
        await stop.wait()
        print("drained", flush=True)
    @on_worker_exit
    def once_more(worker):
        signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize("app", [LIKE_UVICORN, LIKE_HYPERCORN])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGUSR2, 4)])
def test_a_program_with_its_own_term_handler_drains(
    program: Start, app: str, number: int, status: int
) -> None:
    """Also when the master says USR2, which such a program does not know."""
    one = program(app, ONE).ready()
    one.wait_for_line("serving")
    one.signal(number)
    one.wait(status)
    assert one.wait_for_line("drained")
    assert one.report()["workers"][0]["killed"] is False


def test_a_stop_during_on_worker_start_is_heeded_after_it(program: Start) -> None:
    """The hook ends, the target is not called, `on_worker_exit` runs, exit 0."""
    app = """
        import supervisor
        @supervisor.on_worker_start
        def begin(worker):
            print("beginning", flush=True)
            worker.wait(60)
        @supervisor.on_worker_exit
        def end(worker):
            print("ended", flush=True)
        def run(worker):
            print("was called", flush=True)
    """
    one = program(app, ONE, master='hook_timeout = "60s"')
    one.wait_for_line("beginning")
    assert one.stop(0)["workers"][0]["code"] == 0
    assert one.wait_for_line("ended")
    assert "was called" not in one.log()


def test_a_stop_during_the_import_leaves_at_once(program: Start) -> None:
    """Nothing of the application has begun: exit 0 without waiting for the import."""
    app = """
        import time
        print("importing", flush=True)
        time.sleep(600)
        def run(worker): pass
    """
    one = program(app, ONE)
    one.wait_for_line("importing")
    assert one.stop(0)["workers"][0]["code"] == 0


# -- processes and threads of its own -----------------------------------------------


def test_a_term_to_a_forked_child_of_a_worker_is_the_childs_alone(program: Start) -> None:
    """`Process.terminate` ends the child, by the signal, and the worker does not stop."""
    app = """
        import multiprocessing, time
        def run(worker):
            context = multiprocessing.get_context("fork")
            ends = []
            for _ in range(20):
                child = context.Process(target=time.sleep, args=(60,))
                child.start()
                child.terminate()
                child.join()
                ends.append(child.exitcode)
            print("ends", set(ends), "stopping", worker.stopping, flush=True)
            worker.wait()
    """
    one = program(app, ONE).ready()
    assert one.wait_for_line("ends ").endswith("ends {-15} stopping False")
    assert not one.find("worker.acknowledged")
    one.stop(0)


def test_threads_and_executors_finish_their_work(program: Start) -> None:
    """A worker waits for threads that are no daemons, as any Python program; they hear of the stop."""
    app = """
        import os, threading
        from concurrent.futures import ThreadPoolExecutor
        from supervisor import on_worker_exit
        def work(worker, name):
            worker.wait()
            os.write(1, f"finished {name}\\n".encode())
        def run(worker):
            threading.Thread(target=work, args=(worker, "thread")).start()
            ThreadPoolExecutor(1).submit(work, worker, "executor")
            print("returns", flush=True)
        @on_worker_exit
        def end(worker):
            os.write(1, b"all done\\n")
    """
    one = program(app, ONE).ready()
    one.wait_for_line("returns")
    one.stop(0)
    said = [line for line in one.noise if line.startswith(("finished", "all"))]
    assert (sorted(said[:2]), said[2:]) == (["finished executor", "finished thread"], ["all done"])


# -- nobody hears it ----------------------------------------------------------------

TALKS = """
    import socket, time
    def talk(worker):
        slowest = 0.0
        for number in range(20_000):
            began = time.monotonic()
            worker.beat()
            worker.status(f"job {number}")
            with worker.job():
                pass
            worker.ready()
            slowest = max(slowest, time.monotonic() - began)
        return slowest
    def run(worker):
        print("here", flush=True)
        worker.wait(0 if worker.options["at_once"] else None)
        print("slowest", talk(worker), flush=True)
        worker.wait()
"""


def test_a_stopped_master_blocks_no_worker_and_hears_all_when_it_wakes(program: Start) -> None:
    """Its queue runs full; the calls neither block nor raise; then readiness and counts are there."""
    app = TALKS.replace("worker.wait(0 if", "open('go').read(); worker.wait(0 if")
    more = 'ready = "notify"\nwatchdog = "60s"\noptions = { at_once = true }\n'
    one = program("import os\nos.mkfifo('go')\n" + textwrap.dedent(app), ONE + more)
    one.wait_for_line("here")
    one.signal(signal.SIGSTOP)
    with open(one.folder / "go", "w"):
        pass
    slowest = float(one.wait_for_line("slowest").split()[1])
    one.signal(signal.SIGCONT)
    assert slowest < PATIENCE / 4
    one.ready()
    assert one.wait_shown("a.0", lambda worker: worker["jobs"] == 20_000)["status"] == "job 19999"
    one.stop(0)


def test_workers_of_a_killed_master_finish_without_it(program: Start) -> None:
    """kill -9 of the master: TERM at once, and the calls of a worker in the middle of its work do no harm."""
    one = program(TALKS, ONE + 'watchdog = "60s"\noptions = { at_once = false }\n').ready()
    pid = one.worker("a.0")
    one.wait_for_line("here")
    one.signal(signal.SIGKILL)
    one.process.wait()
    one.wait_for_line("slowest")
    wait_gone(pid)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_program_with_its_own_term_handler_does_not_outlive_its_master(program: Start) -> None:
    """One that hears TERM by asyncio and ignores it kills itself after `stop_timeout`."""
    app = LIKE_HYPERCORN.replace("stop.set", "os.write, 1, b'heard' + bytes([10])")
    one = program(app, ONE, master='stop_timeout = "1s"').ready()
    one.wait_for_line("serving")
    pid = one.worker("a.0")
    one.signal(signal.SIGKILL)
    one.process.wait()
    one.wait_for_line("heard")
    wait_gone(pid)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert not psutil.Process().children()
