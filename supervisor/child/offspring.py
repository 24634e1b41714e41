"""A process that the program forks by itself (multiprocessing, os.fork) is not the worker.

It inherits the handlers and the wakeup fd: a TERM that `Pool.terminate` sends
to it would be heard by the worker's attendant, so the worker would stop and its
child would not.  Programs that are exec'ed need nothing: execve(2) resets
handlers.

Knows os.register_at_fork; what a worker does with signals is the attendant's.
"""

from __future__ import annotations

import os
import signal
from _thread import _local
from collections.abc import Callable, Iterable

from supervisor.unix.signals import block_signals, set_mask

USUAL = {signal.SIGINT: signal.default_int_handler}  # of a Python program; else the kernel's default


def disown(handler: Callable[..., None], numbers: Iterable[int]) -> None:
    """From now on a forked process has the usual dispositions, where ``handler`` still stands."""
    mask = _local()  # threads may fork at the same time

    def before() -> None:
        mask.before = block_signals()  # none may come while the child has our wakeup fd

    def in_parent() -> None:
        set_mask(mask.before)

    def in_child() -> None:
        signal.set_wakeup_fd(-1)
        for number in numbers:
            if signal.getsignal(number) == handler:
                signal.signal(number, USUAL.get(signal.Signals(number), signal.SIG_DFL))
        set_mask(mask.before)

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
