"""The master's own hooks, in a thread: the loop goes on turning meanwhile.

Results come back through an eventfd, so that the loop hears of them as of
anything else.  Knows how to import and call hooks; when is decided elsewhere.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor import hooks
from supervisor.hooks import MASTER_MOMENTS, Hooks
from supervisor.settings import Settings

if TYPE_CHECKING:
    from threading import Thread


@dataclass(frozen=True)
class MasterContext:
    """What a hook that runs in the master is given."""

    name: str
    file: str  #: the configuration
    pid: int
    stop_reason: str | None = None  #: why it stops, e.g. ``"SIGTERM"``; None while it does not
    restarting: bool = False  #: somebody is to start it again


@dataclass(frozen=True)
class Ended:
    """One hook returned, or raised ``error`` (a traceback)."""

    moment: str
    index: int
    hook: str
    error: str | None


class HookThread:
    """Runs one thing at a time; one that hangs keeps its thread and is left behind."""

    def __init__(self, settings: Settings) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.brought: frozenset[str] = frozenset()  # modules that importing the hooks brought in
        self._settings = settings
        self._hooks = Hooks()
        self._results: deque[Ended] = deque()
        self._leaving: deque[Thread] = deque()  # threads whose hook has ended

    def adopt(self, settings: Settings) -> None:
        """After a reload; what is new is there after the next import."""
        self._settings = settings

    def counts(self) -> dict[str, int]:
        """How many hooks there are for each moment."""
        return {moment: len(self._hooks.at(moment)) for moment in MASTER_MOMENTS}

    def run(self, moment: str, index: int, context: MasterContext) -> None:
        """Begin one hook, or the import of all of them."""
        if moment == "import":
            if not self._has_any():
                self._end(Ended("import", 0, "import", None))
                return
            self._begin(lambda: Ended("import", 0, "import", hooks.call(self._load, context)))
            return
        hook = self._hooks.at(moment)[index]
        name = hooks.name_of(hook)
        self._begin(lambda: Ended(moment, index, name, hooks.call(hook, context)))

    def results(self) -> list[Ended]:
        """What has ended since the last time."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return []
        results = []
        while self._results:
            results.append(self._results.popleft())
        return results

    def name_of(self, moment: str, index: int) -> str:
        """What to call a hook in the log."""
        return moment if moment == "import" else hooks.name_of(self._hooks.at(moment)[index])

    def others(self) -> list[str]:
        """The names of the threads beside the loop: of hung hooks, or begun by hooks."""
        threading = sys.modules.get("threading")
        if threading is None:
            return []
        return [t.name for t in threading.enumerate() if t is not threading.main_thread()]

    def _has_any(self) -> bool:
        declared = self._settings.hooks
        return bool(declared.modules) or any(getattr(declared, moment) for moment in MASTER_MOMENTS)

    def _load(self, _: object) -> None:
        before = set(sys.modules)
        declared = self._settings.hooks
        references = {moment: getattr(declared, moment) for moment in MASTER_MOMENTS}
        self._hooks = hooks.load(references, declared.modules)
        self.brought = frozenset(sys.modules) - before

    def _begin(self, work: Callable[[], Ended]) -> None:
        import threading  # only a master with hooks: it makes every fork dearer

        threading.Thread(target=self._work, args=(work,), name="hook", daemon=True).start()

    def _work(self, work: Callable[[], Ended]) -> None:
        ended = work()
        import threading

        self._leaving.append(threading.current_thread())
        self._end(ended)

    def _end(self, ended: Ended) -> None:
        self._results.append(ended)
        os.eventfd_write(self.fd, 1)

    def join(self) -> None:
        """Let the thread whose hook has ended be gone, so that the next fork finds one thread.

        It has posted its result already, so this waits for its last instructions only.
        A thread whose hook hangs is not waited for.
        """
        while self._leaving:
            self._leaving.popleft().join()
