"""A worker that runs a Python callable: from its first instruction to its last.

::

    settle -> hear signals -> import -> on_worker_start -> READY -> target -> on_worker_exit -> exit

Knows the order of a worker's life; what signals mean is the attendant's.
"""

from __future__ import annotations

import faulthandler
import inspect
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import supervisor.hooks as hooks_of
from supervisor.child import shortage
from supervisor.child.application import Application, load
from supervisor.child.attendant import Attendant, Guard
from supervisor.child.birth import Birth, settle
from supervisor.child.link import MasterLink
from supervisor.child.refusal import Tell, last_line, refuse, say_error
from supervisor.child.shortage import SHORTAGE
from supervisor.exits import WORKER_DONE, WORKER_FAILED, WORKER_REPLACE
from supervisor.hooks import WORKER_MOMENTS, Hook, Hooks
from supervisor.settings import Hooks as HookSettings
from supervisor.unix.notify import way_by
from supervisor.unix.process import leave
from supervisor.unix.signals import IGNORE, handle, set_mask
from supervisor.unix.usage import DUMP_SIGNAL, STACKS
from supervisor.worker import Worker

STATUS_BITS = 0xFF
STDERR = 2


@dataclass
class Life:
    """The parts that belong to one worker process."""

    birth: Birth
    worker: Worker
    attendant: Attendant
    link: MasterLink
    tell: Tell
    hooks: Hooks


def live(birth: Birth, sender: Any, hook_settings: HookSettings, tell: Tell) -> int:
    """Be a worker; return its exit status.  Runs in the forked child."""
    settled = settle(birth, tell)
    if settled is None:
        return WORKER_FAILED
    if settled.notify_fd != birth.notify_fd:
        sender = way_by(settled.notify_fd)
    return be_worker(settled, sender, tell, lambda: load(settled, hook_settings, tell))


def be_worker(birth: Birth, sender: Any, tell: Tell, found: Callable[[], Application | None]) -> int:
    """From `settle` to the exit status; ``found`` gives the application, or tells why there is none."""
    try:
        life = _hear(birth, sender, tell)
        application = found()
        if application is None:
            return WORKER_FAILED
        _begin(life, application)
    except SHORTAGE as error:
        refuse(tell, birth.notify_fd, shortage.words(birth.worker, birth.pool.name, error))
        return WORKER_FAILED
    status = _work(life, application.target) if _started(life) else WORKER_FAILED
    return _take_leave(life, status)


def _hear(birth: Birth, sender: Any, tell: Tell) -> Life:
    """From here on no signal is lost: a stop that came earlier is pending until now."""
    attendant = Attendant(
        birth.parent, birth.pool.stop_timeout, lambda moment: _run_apart(life, life.hooks.at(moment))
    )
    link = MasterLink(sender, attendant.wake_fd)
    worker = Worker(
        birth.worker,
        generation=birth.generation,
        options=birth.pool.options,
        link=link,
        watchdog=birth.pool.watchdog,
        sockets={name: socket.socket(fileno=fd) for name, fd in birth.listeners},
    )
    life = Life(birth, worker, attendant, link, tell, Hooks())
    attendant.listen()
    ignore_what_python_ignores()
    write_stacks()
    attendant.attend(worker, link)
    set_mask(())
    return life


def _begin(life: Life, application: Application) -> None:
    """From here on a stop waits for the application."""
    life.hooks = application.hooks
    life.attendant.wants = frozenset(moment for moment in WORKER_MOMENTS if life.hooks.at(moment))
    if life.attendant.wants:
        import threading  # noqa: F401  # here first: it takes the thread that imports it for the main one
    life.attendant.begin()


def ignore_what_python_ignores() -> None:
    """As in any Python program: a closed pipe or connection is an OSError, not a death."""
    handle((signal.SIGPIPE, signal.SIGXFSZ), IGNORE)


def write_stacks() -> int:
    """When the master asks for them; the descriptor of the file that they go to.

    The handler is written in C: it answers even while the interpreter is stuck.
    On a crash in C they are written to stderr, by what the master has set (`unix.signal_stack`).
    """
    fd = os.memfd_create(STACKS)
    faulthandler.register(DUMP_SIGNAL, file=fd, all_threads=True, chain=False)
    return fd


# -- hooks ---------------------------------------------------------------------


def _run_apart(life: Life, hooks: list[Hook]) -> None:
    """Each hook in a thread of its own; one that hangs is left behind there."""
    import threading

    seconds = life.birth.master.hook_timeout
    for hook in hooks:
        thread = threading.Thread(target=_call, args=(life, hook), name=hooks_of.name_of(hook), daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            life.tell("hook.timeout", hook=hooks_of.name_of(hook), seconds=seconds)


def _call(life: Life, hook: Hook) -> str | None:
    """What went wrong, which has been told."""
    error = hooks_of.call(hook, life.worker)
    if error:
        life.tell("hook.failed", hook=hooks_of.name_of(hook), traceback=error)
    return error


def _guarded(life: Life, hook: Hook, overdue: Callable[[], None]) -> str | None:
    """Run a hook in the main thread; if it hangs, the attendant calls ``overdue``, which must exit."""
    seconds = life.birth.master.hook_timeout

    def report() -> None:
        life.tell("hook.timeout", hook=hooks_of.name_of(hook), seconds=seconds)
        overdue()

    life.attendant.watch(Guard(time.monotonic() + seconds, report))
    try:
        return _call(life, hook)
    finally:
        life.attendant.watch(None)


def _started(life: Life) -> bool:
    """``on_worker_start``, in the main thread: what it opens belongs to the target's thread."""
    for hook in life.hooks.at("on_worker_start"):
        name = hooks_of.name_of(hook)

        def fail(name: str = name) -> None:
            say_error(life.birth.notify_fd, f"hook {name} did not end in time")
            _exit(life, WORKER_FAILED)

        if error := _guarded(life, hook, fail):
            say_error(life.birth.notify_fd, f"hook {name} failed: {last_line(error)}")
            return False
    return True


def _take_leave(life: Life, status: int) -> int:
    """``on_worker_exit``, in the main thread; the rest of them elsewhere if one hangs."""
    life.attendant.listen()  # again: closing an asyncio loop resets the signals that it handled
    life.attendant.leave()
    hooks = life.hooks.at("on_worker_exit")
    for number, hook in enumerate(hooks, 1):

        def overdue(rest: list[Hook] = hooks[number:]) -> None:
            _run_apart(life, rest)
            _exit(life, status)

        _guarded(life, hook, overdue)
    life.attendant.tell_last()
    if life.attendant.orphaned:
        _end_helpers()
    return status


def _exit(life: Life, status: int) -> None:
    life.attendant.tell_last()
    leave(status)


def _end_helpers() -> None:
    """No master is left to see to this worker's process group: TERM, a second, KILL."""
    import psutil

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    helpers = psutil.Process().children(recursive=True)
    if helpers:
        os.killpg(0, signal.SIGTERM)
        for helper in psutil.wait_procs(helpers, timeout=1.0)[1]:
            helper.kill()


# -- the target ----------------------------------------------------------------


def _work(life: Life, target: Callable[..., object]) -> int:
    """Call the target, unless a stop came first; the status that its end means."""
    worker = life.worker
    if life.birth.pool.ready == "auto":
        _say_ready(life)
    if worker.stopping:
        return _willing(worker)
    try:
        result = target(worker) if _takes_argument(target) else target()
        if inspect.iscoroutine(result):
            _run_async(result)
        _wait_for_threads()
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            refuse(life.tell, life.birth.notify_fd, leaving.code)
        return _status_of(leaving.code, worker)
    except BaseException:
        reason = f"{life.birth.pool.target} raised"
        refuse(life.tell, life.birth.notify_fd, reason, traceback=traceback.format_exc())
        return WORKER_FAILED
    return _willing(worker)


def _wait_for_threads() -> None:
    """As the interpreter does at its end: for executors and for threads that are no daemons."""
    if threading := sys.modules.get("threading"):
        threading._shutdown()  # multiprocessing calls it for the same reason


def _say_ready(life: Life) -> None:
    """Readiness must get through: wait for room in the master's queue, or for a stop."""
    while not life.link.send(READY=1):
        life.worker.wait(0.01)
        if life.worker.stopping:
            return


def _willing(worker: Worker) -> int:
    return WORKER_REPLACE if worker.stop_reason == "replace" else WORKER_DONE


def _status_of(code: object, worker: Worker) -> int:
    """As the interpreter reads ``sys.exit(code)``; 0 is a plain return."""
    if code is None or code == WORKER_DONE:
        return _willing(worker)
    return code & STATUS_BITS if isinstance(code, int) else WORKER_FAILED


def _takes_argument(target: Callable[..., object]) -> bool:
    """Whether it can be called with the worker.  A plain function need not be inspected at length."""
    if isinstance(target, FunctionType) and not hasattr(target, "__wrapped__"):
        return target.__code__.co_argcount > 0 or bool(target.__code__.co_flags & inspect.CO_VARARGS)
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):  # some built-ins have no signature
        return True
    return any(p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)


def _run_async(coroutine: Coroutine[Any, Any, object]) -> None:
    import asyncio

    asyncio.run(coroutine)
