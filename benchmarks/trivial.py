"""What every contestant's workers do: tell the benchmark that they are up, and wait for TERM."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:  # nothing is imported that a bare interpreter has not got
    from typing import Any

FIFO = "BENCHMARK_READY"  # variable: the path of the FIFO to tell
WIDTH = 8  # bytes: a pid, padded, so that each write is one record


def tell() -> None:
    """One record; writes of so few bytes to a pipe are never torn.  pipe(7)"""
    fifo = os.open(os.environ[FIFO], os.O_WRONLY)
    os.write(fifo, b"%*d" % (WIDTH, os.getpid()))
    os.close(fifo)


def run(worker: Any) -> None:
    """As a target of supervisord-lite."""
    tell()
    worker.wait()


def bare() -> None:
    """As a child of the bare script, TERM blocked."""
    tell()
    signal.sigwait([signal.SIGTERM])


def application(environ: Any, start_response: Any) -> list[bytes]:
    """As an application of gunicorn."""
    del environ
    start_response("204 No Content", [])
    return []
