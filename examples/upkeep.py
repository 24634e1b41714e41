"""Periodic tasks of the checksum queue: forget what was done long ago, and make its file small again.

    supervisord-lite tasks run purge -c config.example.toml

Knows how to leave a long job when a stop comes; the queue itself is `examples.jobs`.
Both may run beside the workers, which wait for the write lock meanwhile.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from examples.checksum import DATABASE
from examples.jobs import Queue

if TYPE_CHECKING:
    from supervisor import Worker

DAYS = 7  # that a finished job is remembered; until then a file that is fed again is known already
AT_ONCE = 1000  # jobs removed by one transaction, so that workers get their turn in between


def purge(worker: Worker) -> None:
    """Remove the jobs that were finished more than so many days ago; their results are kept."""
    before = time.time() - 86400 * worker.options.get("days", DAYS)
    removed = 0
    with closing(Queue(worker.options.get("database", DATABASE))) as queue:
        while not worker.stopping and (some := queue.purge(before, AT_ONCE)):
            removed += some
            worker.status(f"{removed} jobs removed")
    if removed:
        print(f"{removed} jobs removed")


def vacuum(worker: Worker) -> None:
    """Give back to the disk what removed rows have left; a stop ends it at once and changes nothing."""
    with closing(Queue(worker.options.get("database", DATABASE))) as queue:
        saved = queue.vacuum(lambda: worker.stopping)
    if saved is not None:
        print(f"{saved} bytes saved")
