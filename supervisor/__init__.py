"""supervisord-lite: a pre-fork process supervisor.

What a program that it runs may import: the hook decorators and `Worker`, for
annotations.
"""

from supervisor.hooks import (
    on_exit,
    on_ready,
    on_start,
    on_stop,
    on_worker_exit,
    on_worker_quiet,
    on_worker_start,
    on_worker_stop,
)
from supervisor.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "Worker",
    "__version__",
    "on_exit",
    "on_ready",
    "on_start",
    "on_stop",
    "on_worker_exit",
    "on_worker_quiet",
    "on_worker_start",
    "on_worker_stop",
]
