"""The one thread beside the target: it hears signals and tells the master.

Python runs signal handlers in the main thread only, and that may sit in a
blocking call for minutes.  So the handlers here do nothing; the C handler
writes the signal's number to the wakeup fd, whichever thread the kernel
interrupted, and this thread reads it.  It sleeps in one poll(2) without
timeout unless something has a deadline.

Knows what each signal means to a worker; knows neither the target nor how hooks
are found.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from supervisor.child.link import MasterLink
from supervisor.child.offspring import disown
from supervisor.exits import WORKER_DONE, WORKER_REPLACE
from supervisor.unix.process import open_pidfd
from supervisor.unix.signals import handle
from supervisor.worker import Worker

if TYPE_CHECKING:
    from threading import Thread

HEARD = tuple(  # plain numbers: with an enum, a new worker first copies the pages of its machinery
    int(number)
    for number in (
        signal.SIGTERM,
        signal.SIGUSR2,
        signal.SIGTSTP,
        signal.SIGCONT,
        signal.SIGQUIT,
        # Not SIG_IGN: that would be inherited by what the target runs, a handler is not.
        signal.SIGINT,
        signal.SIGHUP,
    )
)
LEVELS = (signal.SIGTSTP, signal.SIGCONT)  # of these the last one counts; the others are asked for once
BY_HAND = 0x80  # in a byte that Python's handler wrote and not the C handler
REASONS: dict[int, str] = {signal.SIGTERM: "stop", signal.SIGUSR2: "replace"}
QUIT_STATUS = 128 + signal.SIGQUIT
TELL_SECONDS = 1.0  # between two messages with counters
RETRY_SECONDS = 0.05  # when the master's queue is full


# How far the worker is; no enum, for the same reason.
BOOTING = "booting"  # nothing of the application has begun: a stop leaves at once
WORKING = "working"
LEAVING = "leaving"  # the target has returned


@dataclass
class Guard:
    """What to do when the main thread does not come back from a hook in time."""

    until: float
    overdue: Callable[[], None]


class Attendant:
    """Owns the wakeup fd of this process."""

    def __init__(self, master: int, stop_timeout: float, run_hooks: Callable[[str], None]) -> None:
        """``run_hooks`` is called in a thread of its own, for a moment of `wants`."""
        self._master, self._stop_timeout, self._run_hooks = master, stop_timeout, run_hooks
        self.wants: Container[str] = ()  # moments that have hooks: where there are none, no thread is made
        self._woken, self.wake_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)  # a byte into it wakes the thread
        self._lock = _thread.allocate_lock()  # the phase and the stop are changed under it
        self._phase = BOOTING
        self._answered: set[int] = set()  # of `LEVELS`, as the C handler told; they come once more by hand
        self._stop_hooks: Thread | None = None
        self._unsent: dict[str, object] = {}
        self._tell_at: float | None = None
        self._told_at = 0.0
        self._guard: Guard | None = None
        self._die_at: float | None = None

    def listen(self) -> None:
        """Install the handlers; to be called in the main thread, signals still blocked."""
        signal.set_wakeup_fd(self.wake_fd, warn_on_full_buffer=False)
        handle(HEARD, self._pass_on)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """Once more by hand: a library (asyncio's add_signal_handler) may have taken the wakeup fd.

        To ask whose it is one would have to set it, and a TERM in that moment would be lost to its taker.
        """
        del frame
        with contextlib.suppress(OSError, ValueError):  # a program that closed all descriptors
            os.write(self.wake_fd, bytes([number | BY_HAND]))

    def know(self, worker: Worker, link: MasterLink) -> None:
        """For whom it hears, and to whom it tells."""
        self._worker, self._link = worker, link

    def attend(self) -> None:
        """Start the thread."""
        disown(self._pass_on, HEARD)
        # Tells the master's death, also to a program that took our TERM handler away.
        self._master_fd = open_pidfd(self._master)
        # Not threading.Thread: its start waits for the new thread, and its bookkeeping copies pages.
        _thread.start_new_thread(self._run, ())

    # -- called by the main thread ---------------------------------------------

    def begin(self) -> None:
        """The application begins: from now on a stop waits for it."""
        with self._lock:
            self._phase = WORKING

    def leave(self) -> None:
        """The target has returned: no stop hook begins from now on; wait for those that have."""
        with self._lock:
            self._phase = LEAVING
            hooks = self._stop_hooks
        if hooks is not None:
            hooks.join()

    def watch(self, guard: Guard | None) -> None:
        """Call ``guard.overdue`` in this thread unless the guard is lifted in time."""
        self._guard = guard
        self._link.poke()

    def close(self) -> None:
        """Hear nothing more; for one whose thread was not started."""
        os.close(self._woken)
        os.close(self.wake_fd)

    @property
    def orphaned(self) -> bool:
        """The master is gone."""
        return os.getppid() != self._master

    # -- the thread ------------------------------------------------------------

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        master = self._master_fd
        if master is not None:
            poll.register(master, select.POLLIN)
        if self.orphaned:  # it died before there was a descriptor to tell it
            self._stop("stop")
        while True:
            if master in [fd for fd, _ in poll.poll(self._timeout())]:
                poll.unregister(master)
                self._stop("stop")
            self.hear()

    def hear(self) -> None:
        """Answer what has come, and do what is due."""
        for byte in self._heard():
            self._answer(self._meant(byte))
        self._on_time(time.monotonic())

    def _timeout(self) -> float | None:
        """Milliseconds until something is due; None to sleep until a byte comes."""
        guard = self._guard
        dues = (self._tell_at, self._die_at, guard.until if guard else None)
        times = [t for t in dues if t is not None]
        return max(0.0, min(times) - time.monotonic()) * 1000 + 1 if times else None

    def _heard(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            return os.read(self._woken, 4096)
        return b""

    def _meant(self, byte: int) -> int | None:
        """The signal that a byte stands for; None for one that has been answered.

        Python calls handlers when the main thread has time, in the order of the numbers: a TSTP (20)
        passed on then could undo the CONT (18) that came after it.  What the C handler told counts.
        """
        number = byte & ~BY_HAND
        if number in LEVELS and byte & BY_HAND and number in self._answered:
            self._answered.discard(number)
            return None
        if number in LEVELS and not byte & BY_HAND:
            self._answered.add(number)
        return number

    def _answer(self, number: int | None) -> None:
        match number:
            case 0:
                self._tell_soon()
            case signal.SIGTERM | signal.SIGUSR2:
                self._stop(REASONS[number])
            case signal.SIGTSTP:
                self._hush()
            case signal.SIGCONT:
                self._worker.quiet = False
            case signal.SIGQUIT:
                os._exit(QUIT_STATUS)

    def _stop(self, reason: str) -> None:
        if self.orphaned and self._die_at is None:
            self._die_at = time.monotonic() + self._stop_timeout
        with self._lock:
            if self._worker.stopping:
                return
            self._worker._stop(reason)
            self._tell(STOPPING=1, **self._worker._take_news())
            if self._phase == BOOTING:
                os._exit(WORKER_REPLACE if reason == "replace" else WORKER_DONE)
            if self._phase == WORKING:
                self._stop_hooks = self._spawn("on_worker_stop")
        if reason == "replace":
            self._pass_as_term()

    def _pass_as_term(self) -> None:
        """A program with a TERM handler of its own (uvicorn) knows nothing of USR2."""
        handler = signal.getsignal(signal.SIGTERM)
        if callable(handler) and handler != self._pass_on:
            os.kill(os.getpid(), signal.SIGTERM)

    def _hush(self) -> None:
        if not self._worker.quiet:
            self._worker.quiet = True
            self._spawn("on_worker_quiet")

    def _spawn(self, moment: str) -> Thread | None:
        if moment not in self.wants:
            return None
        import threading  # the main thread has done so already, see `callable.live`

        thread = threading.Thread(target=self._run_hooks, args=(moment,), name=moment, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads to be had: the stop itself must not fail for it
            return None
        return thread

    # -- telling the master ----------------------------------------------------

    def _tell_soon(self) -> None:
        """What a hot loop notes goes out once a second; what comes after a silence, at once."""
        if self._tell_at is None:
            self._tell_at = max(time.monotonic(), self._told_at + TELL_SECONDS)

    def _tell(self, **fields: object) -> None:
        self._unsent.update(fields)
        sent = self._unsent == {} or self._link.send(**self._unsent)
        now = time.monotonic()
        if sent:
            self._unsent, self._told_at = {}, now
        self._tell_at = None if sent else now + RETRY_SECONDS

    def tell_last(self) -> None:
        """Before the process leaves: what was noted and not sent."""
        with contextlib.suppress(Exception):
            if news := self._unsent | self._worker._take_news():
                self._link.send(**news)

    def _on_time(self, now: float) -> None:
        if self._tell_at is not None and now >= self._tell_at:
            self._tell(**self._worker._take_news())
        guard = self._guard
        if guard is not None and now >= guard.until:
            self._guard = None
            guard.overdue()
        if self._die_at is not None and now >= self._die_at:
            os.killpg(0, signal.SIGKILL)
