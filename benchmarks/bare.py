"""What the kernel and the interpreter take at the least: fork N, replace who dies, pass TERM on.

    python bare.py N

No configuration, no log, no deadline, no report, no process groups: the
denominator of the ratios, and nothing to run in earnest.
"""

from __future__ import annotations

import os
import signal
import sys

WAITED = (signal.SIGTERM, signal.SIGCHLD)


def fork() -> int:
    pid = os.fork()
    if pid == 0:
        from trivial import bare

        bare()
        os._exit(0)
    return pid


def main(count: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED)
    children = {fork() for _ in range(count)}
    while signal.sigwait(WAITED) == signal.SIGCHLD:
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)) is not None:
            children.remove(ended.si_pid)
            children.add(fork())
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    for _ in children:
        os.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
