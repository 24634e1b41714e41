"""From checked settings to a running master, and from its last turn to the exit status.

`start` is called in the front process, which has read the configuration with
heavy libraries.  It reads what is remembered of tasks and replaces itself (same
pid) by a lean interpreter that gets the settings through a memory file: the
master then holds, and every fork copies, only what it needs.  Signals are
blocked across the exec, so one that comes early is pending until the loop can
hear it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from supervisor.errors import ConfigError, StartError, SupervisorError
from supervisor.exits import Exit
from supervisor.settings import Settings
from supervisor.stored import Stored
from supervisor.unix.files import STDERR, open_standard
from supervisor.unix.held import PATIENCE, Held, hold
from supervisor.unix.loop import Loop
from supervisor.unix.signals import block_signals, set_mask
from supervisor.unix.socket_file import is_answered

TO_MASTER = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR2,
    signal.SIGHUP,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGCHLD,
)
# The kernel's verdict on a program: left as it is, with its core dump.
CRASHES = (
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,  # also systemd's, when the watchdog was not fed
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGXCPU,
)
SILENT = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGURG, signal.SIGWINCH)  # ignored by Python or the kernel
UNSTOPPABLE = (signal.SIGKILL, signal.SIGSTOP)
# The default action of all others would end the master without a word: heard, and ignored aloud.
MEANINGLESS = tuple(sorted(signal.valid_signals() - {*TO_MASTER, *CRASHES, *SILENT, *UNSTOPPABLE}))
# Meant for the master alone: neither hooks nor workers nor their children see them.
MASTERS_OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@dataclass(frozen=True)
class Memory:
    """What is remembered of tasks: read by the front process, since SQLite is heavy and a disk may block."""

    stored: Mapping[str, Stored] = field(default_factory=dict)
    lock: int | None = None  # the descriptor that keeps the state file for this master
    problem: str | None = None  # why the state file cannot be used


def start(settings: Settings) -> NoReturn:
    """Become the master; from the `block_signals` here on no signal is lost."""
    open_standard()  # before the memory file: else that may become fd 0, and be closed when it is read
    memory = remember(settings)
    block_signals()
    with contextlib.suppress(OSError):  # the master will say why
        os.chdir(settings.master.working_dir)  # from a folder that is gone, Python 3.13.0 cannot import
    fds = pack(settings, memory)
    for fd in fds:
        os.set_inheritable(fd, True)
    command = argv(fds[0])
    try:
        os.execv(command[0], command)
    except OSError as error:
        raise StartError(
            f"cannot execute {command[0]} as uid {os.geteuid()}: {error.strerror}; "
            "use a Python that this user may execute"
        ) from error


def remember(settings: Settings) -> Memory:
    """Take the state file, where there are tasks.

    That it cannot be used is for the master to say, once it is sure that no other one is running.
    """
    if not settings.tasks:
        return Memory()
    from supervisor.store import load

    lock, is_running = None, is_answered(settings.master.socket)
    try:
        lock = hold(settings.master.state_file, 0.0 if is_running else PATIENCE)
        return Memory(load(settings.master.state_file), lock)
    except StartError as error:
        return Memory(lock=lock, problem=str(error))


def pack(settings: Settings, memory: Memory) -> tuple[int, ...]:
    """The descriptors that the master is to have; the first is a memory file with its settings."""
    fd = os.memfd_create("supervisor-settings")
    with open(fd, "wb", closefd=False) as file:
        pickle.dump((settings, memory), file)
    os.lseek(fd, 0, os.SEEK_SET)
    return (fd,) if memory.lock is None else (fd, memory.lock)


def argv(fd: int) -> list[str]:
    """The command of a master that reads its settings from ``fd``, with this interpreter's path."""
    import subprocess  # here: the master itself has no use for it

    code = f"import sys; sys.path[:] = {sys.path!r}; from supervisor.boot import main; main({fd})"
    return [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", code]  # type: ignore[attr-defined]


def main(fd: int) -> NoReturn:
    """Be the master."""
    block_signals()
    open_standard()
    with open(fd, "rb") as file:
        settings, memory = pickle.load(file)  # noqa: S301  # written by `pack`, in this very process
    try:
        status = run(settings, memory)
    except SupervisorError as error:
        _complain(str(error))
        status = error.status
    except OSError as error:  # no descriptors, no memory
        _complain(f"cannot start: {error}; are the limits (ulimit -a) too low?")
        status = Exit.FAILED
    os._exit(status)  # a hook that hangs must not hold up the end


def run(settings: Settings, memory: Memory) -> int:
    """Set up, live, clean up; return the exit status."""
    from supervisor.master import Master
    from supervisor.unix.doors import open_doors
    from supervisor.unix.prctl import become_subreaper
    from supervisor.unix.signal_stack import tell_of_crashes

    environ = _settle(settings)
    doors = open_doors(settings, environ, _complain, Held(memory.lock))
    try:
        if memory.problem is not None:
            raise StartError(memory.problem)
        nofile = _raise_nofile()
        loop = Loop()
        tell_of_crashes(STDERR)
        master = Master(settings, doors, loop, environ, nofile, stored=memory.stored)
        if not become_subreaper():
            master.tell(
                "master.warning", "warning", reason="cannot adopt orphans: helpers may outlive a stop"
            )
        loop.listen((*TO_MASTER, *MEANINGLESS))
        set_mask(())
        gc.collect()
        gc.freeze()  # what is here stays, and stays shared with the workers
        status = master.run()
        block_signals()  # the way out is short and is walked once
        master.close()
    finally:
        doors.remove()
    return status


def _settle(settings: Settings) -> dict[str, str]:
    """Take the place that the configuration gives; return the environment as it was found.

    What the service manager meant for this process alone is taken out of it.
    """
    from supervisor.master.editions import list_folders

    master, environ = settings.master, dict(os.environ)
    try:
        os.chdir(master.working_dir)
    except OSError as error:
        key = f"{settings.file}: master.working_dir"
        raise ConfigError([f"{key}: cannot enter {master.working_dir}: {error.strerror}"]) from error
    if master.umask is not None:
        os.umask(master.umask)
    sys.path[:0] = master.pythonpath
    for name in MASTERS_OWN:
        os.environ.pop(name, None)
    os.environ["SUPERVISOR_NAME"] = master.name  # here: the first change copies the whole environment
    _read_nothing()
    list_folders()
    return environ


def _read_nothing() -> None:
    """A daemon's stdin is empty; workers inherit that."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _raise_nofile() -> tuple[int, int]:
    """A pidfd for each worker: use all descriptors that are allowed.  Workers get the old limit back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


def _complain(text: str) -> None:
    """One line on stderr, while there is no log yet."""
    try:
        os.write(2, f"supervisord-lite: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return
