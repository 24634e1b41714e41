"""What a process uses, and what holds it up, by one read of /proc.  proc(5)

For people to look at; nothing is decided by it.  Where there is no /proc, the
answer is None.
"""

from __future__ import annotations

import contextlib
import os
import signal
from itertools import islice
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
OURS = os.path.join("supervisor", "child", "")
STACKS = "supervisor-stacks"  # the name of the memory file a worker writes its stacks to
FARTHEST = 4096  # descriptors of a worker that are looked at; the file is opened at its birth
# Not SIGABRT: a process does not outlive it, and what it wrote would be gone before it is read.
DUMP_SIGNAL = signal.SIGRTMAX - 1


class Usage(NamedTuple):
    """Resident bytes (shared pages counted whole) and CPU seconds, user and system."""

    memory: int
    cpu: float


def usage(pid: int) -> Usage | None:
    """What ``pid`` uses now; None if it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = _stat(pid)
        return Usage(int(fields[21]) * PAGE, (int(fields[11]) + int(fields[12])) / TICKS)
    return None


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the name before may hold anything."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def stacks(pid: int, most: int = 32768) -> str:
    """The Python stacks that a worker wrote, or what the kernel can say about why it did not."""
    text = _written(pid, most)
    if text:
        return "\n\n".join(filter(None, map(_own, text.split("\n\n"))))
    with contextlib.suppress(OSError, IndexError):
        return f"it wrote no stacks; its process state is {_stat(pid)[0]} (T stopped, D waits for the kernel)"
    return "it wrote no stacks"


def _own(stack: str) -> str:
    """One thread's stack without the frames below the program's: those of the supervisor's own start."""
    head, *frames = stack.split("\n")
    ours = [n for n, frame in enumerate(frames) if OURS in frame]
    kept = frames[: ours[0]] if ours else frames
    return "\n".join([head, *kept]) if kept else ""


def _written(pid: int, most: int) -> str:
    """The memory file is reached through the process itself: it costs the master no descriptor."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as found:
        for entry in islice(found, FARTHEST):
            if STACKS in os.readlink(entry.path):
                return _memory(entry.path, most)
    return ""


def _memory(path: str, most: int) -> str:
    """What is in a memory file; nothing else that a worker gives its name to is opened.

    A FIFO or a file system of the worker's own would keep the master waiting.  So it is held without
    being opened (O_PATH), and its mount must be the kernel's for memory files: nobody can mount that,
    and the name can be had by any file.  open(2), proc(5)
    """
    held, ours = os.open(path, os.O_PATH | os.O_CLOEXEC), os.memfd_create("mount")
    try:
        if _mount(held) != _mount(ours):
            return ""
        with open(f"/proc/self/fd/{held}", "rb") as file:
            return file.read(most).decode("utf-8", "replace").strip()
    finally:
        os.close(held)
        os.close(ours)


def _mount(fd: int) -> str:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return next((line for line in file if line.startswith("mnt_id:")), "")
