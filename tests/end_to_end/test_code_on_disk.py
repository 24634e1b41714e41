"""Which code a worker runs: the one that is on disk when it starts."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from program import Program

Start = Callable[..., Program]

CODE = """
    from supervisor import on_start
    VERSION = "{version}"
    @on_start
    def begin(context):
        print("master has", VERSION, flush=True)
    def run(worker):
        print("worker has", VERSION, flush=True)
        worker.wait()
"""


def test_a_new_worker_runs_new_code_though_the_master_holds_the_old(program: Start) -> None:
    """The master imported the same module for its hooks; its workers do not inherit it."""
    config = """
        [hooks]
        import = ["app"]
        [pools.a]
        target = "app:run"
        backoff = { initial = "1ms" }
    """
    one = program(CODE.format(version="old"), config).ready()
    one.wait_for_line("master has old")
    one.wait_for_line("worker has old")
    path = one.folder / "app.py"
    path.write_text(path.read_text().replace("old", "a newer one"))
    mark = one.mark()
    os.kill(one.worker("a.0"), signal.SIGUSR2)
    one.wait_for("worker.ready", since=mark)
    one.wait_for_line("worker has a newer one")
    path.write_text(path.read_text().replace("a newer one", "the newest one of all"))
    os.kill(one.worker("a.0"), signal.SIGKILL)
    one.wait_for_line("worker has the newest one of all")
    one.stop(0)
