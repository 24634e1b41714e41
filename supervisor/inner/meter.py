"""The meter: reads how much memory processes hold, so that the master need not wait for it.

PSS counts a page that N processes share as a N-th of it, so it is fair to the
workers of a template.  The kernel walks the whole address space for it, under its
lock (/proc/PID/smaps_rollup, proc(5)): a process that is busy with its memory can
make the reader wait long.

Question: ``{"pids": [...]}``.  Answer: ``{"PID": bytes}``, without who is gone.
"""

from __future__ import annotations

import json
import select
from collections.abc import Iterable
from contextlib import suppress

import psutil

from supervisor.unix.channel import LONGEST
from supervisor.worker import Worker


def run(worker: Worker) -> None:
    """Answer until a stop, or until the master closes the channel."""
    channel = worker.sockets["channel"]
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(worker, select.POLLIN)
    with suppress(ConnectionError):  # the master has closed it meanwhile, or is dead
        while poll.poll() and not worker.stopping and (question := channel.recv(LONGEST)):
            channel.send(json.dumps(measured(json.loads(question)["pids"])).encode())


def measured(pids: Iterable[int]) -> dict[int, int]:
    """Bytes by pid."""
    sizes = {}
    for pid in pids:
        with suppress(psutil.Error, OSError):  # gone, or not for us to see
            sizes[pid] = psutil.Process(pid).memory_full_info().pss
    return sizes
