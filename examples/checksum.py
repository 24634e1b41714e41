"""Checksum every file below a folder: a consumer to start your own from.

    python -m examples.checksum feed FOLDER
    supervisord-lite start -c config.example.toml
    python -m examples.checksum report

Knows how to work off the queue (`examples.jobs`) under supervision, and what one
job is.  What a stop asks of a consumer is in `run`: start nothing new, finish or
put back what was begun, put back what was claimed ahead.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

from examples.jobs import Queue
from supervisor import on_worker_exit, on_worker_stop

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from examples.jobs import Job
    from supervisor import Worker

DATABASE = ".run/checksum.sqlite"
BATCH = 16  # jobs claimed at once: fewer turns at the write lock; all but one go back on a stop
CHUNK = 1 << 20  # bytes between two looks at `stopping`
IDLE = 1.0  # seconds between two looks at an empty queue. The supervisor itself never polls;
# how a consumer learns of new work is its own affair, and SQLite has no way to be woken by.

open_queues: dict[str, Queue] = {}  # by worker id: what `run` opens, `close_queue` closes


def run(worker: Worker) -> None:
    """Work off the queue until asked to stop."""
    database = worker.options.get("database", DATABASE)
    queue = open_queues[worker.id] = Queue(database, worker.id)
    queue.take_back()  # what the worker held that this one replaces, if it was killed
    while not worker.stopping:
        jobs = [] if worker.quiet else queue.claim(BATCH)
        if not jobs:
            queue.take_back()  # a slot that was scaled away has no replacement to do it
            worker.status("waiting for files")
            worker.wait(IDLE)
        for job in jobs:
            if worker.stopping or worker.quiet:
                queue.release()
                break
            with worker.job():
                checksum(queue, job, worker)


@on_worker_stop
def say_so(worker: Worker) -> None:
    """Runs in a thread of its own, at once, while `run` may be deep in a file."""
    worker.status("finishing the file in hand")


@on_worker_exit
def close_queue(worker: Worker) -> None:
    """Runs when `run` has returned, and also when it raised: claims go back here."""
    queue = open_queues.pop(worker.id, None)
    if queue is not None:
        queue.close()


def checksum(queue: Queue, job: Job, worker: Worker) -> None:
    """Do one job: its result, or why there is none, ends in the queue.

    A file that cannot be read is a finished job with an error, not a crash: a
    crash would bring a new worker to the same file.
    """
    worker.status(job.path.decode(errors="replace"))
    try:
        digest = digest_of(job.path, lambda: worker.stopping)
    except OSError as error:
        queue.finish(job, error=error.strerror or str(error))
        return
    if digest is None:
        queue.release()  # begun, but not worth the wait: the next worker starts it afresh
    else:
        queue.finish(job, digest=digest)


def digest_of(path: bytes, stopping: Callable[[], bool]) -> str | None:
    """SHA-256 of a file in hex; None when a stop came first (half a hash cannot be kept)."""
    sha = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
            if len(chunk) == CHUNK and stopping():
                return None
    return sha.hexdigest()


def open_regular(path: bytes) -> BinaryIO:
    """Open a file that may have become something else since it was queued."""
    # O_NONBLOCK: opening a FIFO would otherwise wait for its writer, for ever.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("not a regular file any more")
    return file


if __name__ == "__main__":
    from examples.checksum_command import main

    main()
