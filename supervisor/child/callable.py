"""A worker that runs a Python callable: from its first instruction to its last.

::

    settle -> hear signals -> import -> on_worker_start -> READY -> target -> on_worker_exit -> exit

Knows the order of a worker's life; what signals mean is the attendant's.
"""

from __future__ import annotations

import faulthandler
import importlib
import inspect
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import supervisor.hooks as hooks_of
from supervisor.child.attendant import Attendant, Guard
from supervisor.child.birth import Birth, settle
from supervisor.child.link import MasterLink
from supervisor.exits import WORKER_DONE, WORKER_FAILED, WORKER_REPLACE
from supervisor.hooks import WORKER_MOMENTS, Hook, Hooks, resolve
from supervisor.settings import Hooks as HookSettings
from supervisor.unix.process import leave
from supervisor.unix.signals import IGNORE, handle, set_mask
from supervisor.unix.usage import DUMP_SIGNAL, STACKS
from supervisor.worker import Worker

Tell = Callable[..., None]  # tell("hook.failed", hook="m:f", ...): one event into the log
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
    settle(birth)
    life = _hear(birth, sender, tell)
    target = _load(life, hook_settings)
    if target is None:
        return WORKER_FAILED
    life.attendant.wants = frozenset(moment for moment in WORKER_MOMENTS if life.hooks.at(moment))
    if life.attendant.wants:
        import threading  # noqa: F401  # here first: it takes the thread that imports it for the main one
    life.attendant.begin()
    status = _work(life, target) if _started(life) else WORKER_FAILED
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
    )
    life = Life(birth, worker, attendant, link, tell, Hooks())
    attendant.listen()
    _ignore_what_python_ignores()
    _write_stacks_on(DUMP_SIGNAL)
    attendant.attend(worker, link)
    set_mask(())
    return life


def _ignore_what_python_ignores() -> None:
    """As in any Python program: a closed pipe or connection is an OSError, not a death."""
    handle((signal.SIGPIPE, signal.SIGXFSZ), IGNORE)


def _write_stacks_on(number: int) -> None:
    """The handler is written in C: it answers even while the interpreter is stuck."""
    fd = os.memfd_create(STACKS)
    faulthandler.enable(STDERR)  # and on a crash in C, where
    faulthandler.register(number, file=fd, all_threads=True, chain=False)


def _load(life: Life, settings: HookSettings) -> Callable[..., object] | None:
    """Import hooks and target; None, told with its traceback, where that fails."""
    reference = str(life.birth.pool.target)
    try:
        target: Callable[..., object] = resolve(reference)
        _collect_hooks(life, settings, reference.partition(":")[0])
    except BaseException:
        life.tell("worker.error", reason=f"cannot load {reference}", traceback=traceback.format_exc())
        return None
    return target


def _collect_hooks(life: Life, settings: HookSettings, module: str) -> None:
    """Those named in the configuration first, then the decorated ones."""
    for moment in WORKER_MOMENTS:
        for reference in (*getattr(settings, moment), *getattr(life.birth.pool.hooks, moment)):
            life.hooks.add(moment, resolve(reference))
    for name in (*settings.modules, module):
        life.hooks.collect(importlib.import_module(name))


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


def _call(life: Life, hook: Hook) -> bool:
    error = hooks_of.call(hook, life.worker)
    if error:
        life.tell("hook.failed", hook=hooks_of.name_of(hook), traceback=error)
    return error is None


def _guarded(life: Life, hook: Hook, overdue: Callable[[], None]) -> bool:
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
    fail = partial(_exit, life, WORKER_FAILED)
    return all(_guarded(life, hook, fail) for hook in life.hooks.at("on_worker_start"))


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
            life.tell("worker.error", reason=leaving.code)
        return _status_of(leaving.code, worker)
    except BaseException:
        reference = life.birth.pool.target
        life.tell("worker.error", reason=f"{reference} raised", traceback=traceback.format_exc())
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
