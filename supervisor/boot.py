"""From checked settings to a running master, and from its last turn to the exit status.

`start` is called in the front process, which has read the configuration with
heavy libraries.  It replaces itself (same pid) by a lean interpreter that gets
the settings through a memory file: the master then holds, and every fork
copies, only what it needs.  Signals are blocked across the exec, so one that
comes early is pending until the loop can hear it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import pickle
import resource
import signal
import sys
from typing import NoReturn

from supervisor.errors import ConfigError, StartError, SupervisorError
from supervisor.exits import Exit
from supervisor.settings import Settings
from supervisor.unix.files import STDERR, open_standard
from supervisor.unix.loop import Loop
from supervisor.unix.signals import block_signals, set_mask

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


def start(settings: Settings) -> NoReturn:
    """Become the master; from here on no signal is lost."""
    block_signals()
    open_standard()  # before the memory file: else that may become fd 0, and be closed when it is read
    with contextlib.suppress(OSError):  # the master will say why
        os.chdir(settings.master.working_dir)  # from a folder that is gone, Python 3.13.0 cannot import
    fd = pack(settings)
    os.set_inheritable(fd, True)
    command = argv(fd)
    try:
        os.execv(command[0], command)
    except OSError as error:
        raise StartError(
            f"cannot execute {command[0]} as uid {os.geteuid()}: {error.strerror}; "
            "use a Python that this user may execute"
        ) from error


def pack(settings: Settings) -> int:
    """A memory file that holds the settings."""
    fd = os.memfd_create("supervisor-settings")
    with open(fd, "wb", closefd=False) as file:
        pickle.dump(settings, file)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


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
        settings = pickle.load(file)  # noqa: S301  # written by `pack`, in this very process
    try:
        status = run(settings)
    except SupervisorError as error:
        _complain(str(error))
        status = error.status
    except OSError as error:  # no descriptors, no memory
        _complain(f"cannot start: {error}; are the limits (ulimit -a) too low?")
        status = Exit.FAILED
    os._exit(status)  # a hook that hangs must not hold up the end


def run(settings: Settings) -> int:
    """Set up, live, clean up; return the exit status."""
    from supervisor.child.rehearsal import rehearse
    from supervisor.master import Master
    from supervisor.unix.doors import open_doors
    from supervisor.unix.prctl import become_subreaper
    from supervisor.unix.signal_stack import tell_of_crashes

    environ = _settle(settings)
    doors = open_doors(settings, environ, _complain)
    try:
        nofile = _raise_nofile()
        loop = Loop()
        tell_of_crashes(STDERR)
        rehearse(settings.master)
        master = Master(settings, doors, loop, environ, nofile)
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
    importlib.util.find_spec("no_such_module")  # lists the folders of sys.path, so that no worker has to
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
