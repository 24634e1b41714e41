"""What a worker does before its target is called, done some times by the master, before its first fork.

A worker copies each page of memory that it writes to, and Python writes most
where it does something for the first time: a class learns its attributes, types
and functions are looked up, code is made fast for what it meets (PEP 659).
What has been learned before the fork is the master's, and all share it.

Leaves nothing behind: the environment is as before, the title is set again by
the master, nothing is told to anybody.  Knows the steps; what is rehearsed is
the code that workers run.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace

from supervisor.child import callable as callable_
from supervisor.child.application import load
from supervisor.child.birth import Birth, forget_modules, leave_master, show_name, take_stdio
from supervisor.child.standing import stand
from supervisor.errors import SupervisorError
from supervisor.settings import Hooks, MasterSettings, PoolSettings, Reference
from supervisor.unix import title
from supervisor.unix.usage import DUMP_SIGNAL
from supervisor.worker import Worker

TIMES = 20  # code is made fast when it has run eight times; some of it in two steps


class Mute:
    """A voice that nobody hears."""

    def __call__(self, event: str, level: str | None = None, **fields: object) -> None:
        """Nothing is told."""

    def keep_log(self) -> None:
        """There is none."""


def target(worker: Worker) -> None:
    """What the rehearsed worker runs; the stop has not come yet."""
    del worker


def rehearse(master: MasterSettings) -> None:
    """Be a worker without being one.  What cannot be done here (too few descriptors) is left out."""
    with contextlib.suppress(OSError, SupervisorError):
        heard, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with heard, sender, _environment_kept():
            birth = _birth(master, sender.fileno())
            for _ in range(TIMES):
                _settle(birth)
                _live(birth, sender)


def _birth(master: MasterSettings, sender: int) -> Birth:
    return Birth(
        master=replace(master, working_dir=os.getcwd(), umask=None),
        pool=PoolSettings(name="rehearsal", target=Reference(f"{__name__}:target")),
        slot=0,
        generation=1,
        parent=os.getppid(),
        notify_path=master.socket,
        notify_fd=sender,
        nofile=resource.getrlimit(resource.RLIMIT_NOFILE),
        title=title.find(),
        foreign=frozenset(),
    )


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name, value in dict(os.environ).items():
            if name not in before:
                del os.environ[name]
            elif value != before[name]:  # the others are left alone: setenv(3) keeps a tree of all it has set
                os.environ[name] = before[name]


def _settle(birth: Birth) -> None:
    leave_master(birth, close=_keep)
    take_stdio(birth, Mute())
    stand(birth.pool, birth.master, birth.account, birth.nofile)
    show_name(birth)
    forget_modules(birth.foreign)


def _keep(fds: Iterable[int]) -> None:
    """In place of closing all others."""


def _live(birth: Birth, sender: socket.socket) -> None:
    life = callable_.parts(birth, sender, Mute())
    try:
        os.close(callable_.write_stacks())
        faulthandler.unregister(DUMP_SIGNAL)
        application = load(birth, Hooks(), life.tell)
        if application is not None and callable_.begun(life, application):
            callable_.work(life, application.target)
            os.write(life.attendant.wake_fd, bytes([signal.SIGTERM]))
            life.attendant.hear()
            life.worker.wait()
            life.attendant.leave()
            life.attendant.tell_last()
    finally:
        life.attendant.close()
        os.close(life.worker.fileno())
