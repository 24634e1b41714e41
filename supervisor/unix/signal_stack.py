"""Room for the handlers of many signals at once.  sigaltstack(2), faulthandler

Python's C handlers run on the alternate stack where there is one, and the one of
`faulthandler` holds four or five frames: a process that finds six signals when
it goes on (it was stopped, or had them blocked) dies of SIGSEGV.  This one holds
a frame of every signal.  fork(2) passes it on, execve(2) takes it away; other
threads have none.  The standard library has no sigaltstack, hence ctypes.
"""

from __future__ import annotations

import ctypes
import faulthandler

SIZE = 64 * 8192  # a frame of each signal, with all registers; what is not used takes no memory


class _Stack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def tell_of_crashes(fd: int) -> bool:
    """Write the stacks to ``fd`` on a crash in C, here and in what is forked; have room for it.

    False where the room is not to be had.  `faulthandler` sets its own stack once, when it is first
    used in a process or in its parent: so it is first, and ours stays.
    """
    faulthandler.enable(fd)
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    start = libc.malloc(ctypes.c_size_t(SIZE))  # never freed: a handler may run at any time
    return start is not None and int(libc.sigaltstack(ctypes.byref(_Stack(start, 0, SIZE)), None)) == 0
