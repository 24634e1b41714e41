"""Notice that the wall clock was set.  timerfd_create(2)

A timer that is never to come is cancelled by the kernel when somebody sets the
clock, also by what a suspended machine finds at its waking: so there is nothing to poll.
Before Python 3.13 the standard library has no timerfd, hence ctypes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

CLOCK_REALTIME = 0
TFD_TIMER_ABSTIME = 1
TFD_TIMER_CANCEL_ON_SET = 2
FLAGS = os.O_CLOEXEC | os.O_NONBLOCK  # TFD_CLOEXEC and TFD_NONBLOCK are the same bits
NEVER = 2**62 // 10**9  # seconds since the epoch: the kernel counts nanoseconds in 63 bits


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class ClockWatch:
    """`fd` is readable once the wall clock was set; -1 where the kernel has no such timer."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = int(self._libc.timerfd_create(CLOCK_REALTIME, FLAGS))
        if self.fd >= 0:
            self._arm()

    def _arm(self) -> None:
        never = _Itimerspec(_Timespec(0, 0), _Timespec(NEVER, 0))
        flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET
        self._libc.timerfd_settime(self.fd, flags, ctypes.byref(never), None)

    def seen(self) -> None:
        """It was set: wait for the next time."""
        with contextlib.suppress(OSError):  # ECANCELED: that is the news
            os.read(self.fd, 8)
        self._arm()

    def close(self) -> None:
        """Watch no more."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
