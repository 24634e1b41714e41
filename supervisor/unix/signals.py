"""Dispositions and the mask of this process.  signal(7), sigaction(2), sigprocmask(2)

Uses the C functions below the `signal` module's wrappers: those turn every
number into an enum, which for 60 signals costs a new worker half a millisecond.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found,unused-ignore]  # it has no stub
import signal
from collections.abc import Callable, Iterable
from typing import Any

_set, _get, _mask = _signal.signal, _signal.getsignal, _signal.pthread_sigmask
DEFAULT, IGNORE = int(signal.SIG_DFL), int(signal.SIG_IGN)
ALL = frozenset(int(number) for number in signal.valid_signals())
CHANGEABLE = sorted(ALL - {signal.SIGKILL, signal.SIGSTOP})


def handle(numbers: Iterable[int], handler: Callable[..., object] | int) -> None:
    """Set one handler, `DEFAULT` or `IGNORE`, for several signals.  In the main thread only."""
    for number in numbers:
        _set(int(number), handler)


def handlers() -> dict[int, Any]:
    """What Python code has set, by number: functions and `IGNORE`.

    None is a handler that is not Python's, so it was never ours to inherit.
    """
    return {n: now for n in CHANGEABLE if (now := _get(n)) not in (DEFAULT, None)}


def reset_signals(inherited: Iterable[int] | None = None) -> None:
    """In a forked child, with all signals blocked: no wakeup fd, default dispositions.

    ``inherited`` are the signals with a handler, where the parent has looked already.

    A child inherits the C handlers *and* the wakeup fd: an early TERM to the
    child would be a byte in the master's socket.  Ignored SIGPIPE and SIGXFSZ
    (Python ignores them) would be passed on through exec.
    """
    signal.set_wakeup_fd(-1)
    for number in handlers() if inherited is None else inherited:
        _set(number, DEFAULT)


def block_signals() -> set[int]:
    """Block every signal in this thread; return the mask that was."""
    before: set[int] = _mask(signal.SIG_BLOCK, ALL)
    return before


def set_mask(mask: Iterable[int]) -> None:
    """Set the signal mask of this thread."""
    _mask(signal.SIG_SETMASK, mask)
