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
from _thread import get_ident
from collections.abc import Callable, Iterable

from supervisor.unix.signals import block_signals, set_mask

USUAL = {signal.SIGINT: signal.default_int_handler}  # of a Python program; else the kernel's default


def disown(handler: Callable[..., None], numbers: Iterable[int]) -> None:
    """From now on a forked process has the usual dispositions, where ``handler`` still stands."""
    masks: dict[int, set[int]] = {}  # by thread: several may fork at the same time

    def before() -> None:
        masks[get_ident()] = block_signals()  # none may come while the child has our wakeup fd

    def in_parent() -> None:
        set_mask(masks.pop(get_ident()))

    def in_child() -> None:
        signal.set_wakeup_fd(-1)
        for number in numbers:
            if signal.getsignal(number) == handler:
                signal.signal(number, USUAL.get(signal.Signals(number), signal.SIG_DFL))
        set_mask(masks.pop(get_ident()))  # pthread_self(3) is the same in the child

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
