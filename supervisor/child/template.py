"""A template process: imports an application once and forks its workers on request.

::

    settle -> import -> freeze -> READY -> (request -> fork C -> C forks W, ends -> answer -> W begins)*

C ends before its child W begins, so W is adopted by the master, the child
subreaper: it is the master's child like any worker, and outlives its template.
W does nothing before it hears that its pid was sent to the master, and leaves if
it never will be: there is no worker that the master does not know.

Knows how a worker is forked; the worker's life is `callable`'s, requests come
from `unix.templates`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from supervisor.child import shortage
from supervisor.child.application import Application, load
from supervisor.child.birth import Birth, be_somebody, environment, settle, take_stdio
from supervisor.child.callable import be_worker, ignore_what_python_ignores, write_stacks
from supervisor.child.refusal import Tell, refuse
from supervisor.child.request import Request, answer, receive
from supervisor.child.shortage import SHORTAGE, no_fork
from supervisor.exits import WORKER_DONE, WORKER_FAILED, WORKER_REPLACE
from supervisor.hooks import flush
from supervisor.settings import Hooks as HookSettings
from supervisor.settings import PoolSettings
from supervisor.unix.notify import form, way_by
from supervisor.unix.process import fork_all
from supervisor.unix.signals import DEFAULT, handle, handlers, reset_signals, set_mask

Voice = Callable[..., Tell]  # voice(notify_fd, worker="web.0", pool="web", ...): the `tell` of that worker
LISTEN = ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID")
GO = b"."
LONGEST_PID = 32  # bytes


@dataclass(frozen=True)
class Template:
    """What stands before the first worker is asked for."""

    birth: Birth  # of its workers, but for the slot and the output
    channel: socket.socket  # to the master
    voice: Voice
    stacks: int  # the descriptor that this process writes its stacks to
    application: Application
    handlers: dict[int, Any]  # signal handlers that the application set when it was imported
    collects: bool  # the application has left the garbage collector on


def live(birth: Birth, channel: int, hook_settings: HookSettings, voice: Voice, pool: PoolSettings) -> int:
    """Be a template for workers of ``pool``; return the exit status.  Runs in the forked child.

    ``birth`` is that of the inner pool, ``channel`` the descriptor that `Templates.connect` gave.
    """
    tell = _tell(birth, voice)
    settled = settle(replace(birth, listeners=(*birth.listeners, ("channel", channel))), tell)
    if settled is None:
        return WORKER_FAILED
    *listeners, (_, channel) = settled.listeners
    settled = replace(settled, listeners=tuple(listeners), stdout=None, stderr=None)
    _show_listeners(settled)
    template = _prepared(replace(settled, pool=pool), channel, hook_settings, voice, tell)
    if template is None:
        return WORKER_FAILED
    with contextlib.suppress(OSError):  # the master is gone
        os.write(settled.notify_fd, form(READY=1))
    return _serve(template)


def _prepared(
    birth: Birth, channel: int, hook_settings: HookSettings, voice: Voice, tell: Tell
) -> Template | None:
    """Import everything; None, told, where that fails."""
    ignore_what_python_ignores()
    try:
        stacks = write_stacks()
    except SHORTAGE as error:
        refuse(tell, birth.notify_fd, shortage.words(birth.worker, birth.pool.name, error))
        return None
    set_mask(())  # from here on TERM ends it at once
    ours = handlers()
    application = load(birth, hook_settings, tell)
    if application is None:
        return None
    theirs = _take_handlers(ours)
    _warn_of_threads(tell)
    try:
        end = socket.socket(fileno=channel)
    except OSError as error:
        refuse(tell, birth.notify_fd, f"the application closed descriptors that are not its own: {error}")
        return None
    template = Template(birth, end, voice, stacks, application, theirs, gc.isenabled())
    _freeze()
    return template


def _tell(birth: Birth, voice: Voice) -> Tell:
    return voice(birth.notify_fd, worker=birth.worker, pool=birth.pool.name, generation=birth.generation)


def _show_listeners(birth: Birth) -> None:
    """The channel stands behind the sockets, and is none of them for the application."""
    for name in LISTEN:
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in environment(birth).items() if name in LISTEN})


def _take_handlers(ours: dict[int, Any]) -> dict[int, Any]:
    """Have our dispositions back: TERM must end a template, whatever the application wants of its workers.

    Those that the application set are for the workers.
    """
    now = handlers()
    changed = {n: now.get(n, DEFAULT) for n in (*ours, *now) if now.get(n) != ours.get(n)}
    reset_signals()
    ignore_what_python_ignores()
    return changed


def _warn_of_threads(tell: Tell) -> None:
    """fork(2) copies the calling thread alone; what others hold locked stays locked in the worker."""
    with contextlib.suppress(OSError):  # no /proc
        others = len(os.listdir("/proc/self/task")) - 1
        if others:
            beside = f"the application started {others} thread{'s' * (others != 1)} when it was imported"
            advice = "workers are forked without, and may inherit a lock: start threads in on_worker_start"
            tell("worker.error", "warning", reason=f"{beside}; {advice}")
            warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")


def _freeze() -> None:
    """What was imported is never looked at again by a collection, in a worker neither: it stays shared."""
    gc.collect()
    gc.freeze()
    gc.disable()  # here for good: what a collection touches is no longer shared


# -- a worker ------------------------------------------------------------------


def _serve(template: Template) -> int:
    """Fork who is asked for, one after the other, until the master closes the channel."""
    while request := receive(template.channel):
        flush()  # what is in a buffer would be printed by the worker, too
        _beget(template, request)
    return WORKER_DONE


def _beget(template: Template, request: Request) -> None:
    """Fork a worker by way of a process that ends, and tell its pid."""
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # to C, then to W
    except OSError as error:
        refused = request.error or no_fork(template.birth.pool.name, error.errno or 0)
        answer(template.channel, request.number, refused)
        request.close()
        return
    with ours, theirs:
        outcome = request.error or _born(template, request, ours, theirs)
        if answer(template.channel, request.number, outcome) and isinstance(outcome, int):
            with contextlib.suppress(OSError):  # W is dead already, which the master will see
                ours.send(GO, socket.MSG_NOSIGNAL)
    request.close()


def _born(template: Template, request: Request, ours: socket.socket, theirs: socket.socket) -> int | str:
    """W's pid, once it is the master's child."""
    [middle] = fork_all([partial(_between, template, request, ours, theirs)])
    if isinstance(middle, OSError):
        return no_fork(template.birth.pool.name, middle.errno or 0)
    with contextlib.suppress(ChildProcessError):  # a thread of the application's waits for any child
        os.waitpid(middle, 0)
    try:
        said = int(ours.recv(LONGEST_PID, socket.MSG_DONTWAIT))
    except (OSError, ValueError):
        return "cannot fork: the process between template and worker was killed"
    return said if said > 0 else no_fork(template.birth.pool.name, -said)


def _between(template: Template, request: Request, ours: socket.socket, theirs: socket.socket) -> int:
    """C, all signals blocked.  A session of its own: who ends the template's group does not mean W."""
    template.channel.close()
    os.setsid()
    [worker] = fork_all([partial(_begin, template, request, ours, theirs)])
    said = worker if isinstance(worker, int) else -(worker.errno or 0)
    with contextlib.suppress(OSError):  # the template was killed: W will find out, too
        theirs.send(str(said).encode(), socket.MSG_NOSIGNAL)
    return WORKER_DONE


def _begin(template: Template, request: Request, ours: socket.socket, theirs: socket.socket) -> int:
    """W, all signals blocked until it hears them: it begins when the master knows it."""
    ours.close()
    known = _told_to_go(theirs)
    theirs.close()
    if not known:
        return WORKER_REPLACE
    birth = replace(template.birth, slot=request.slot, stdout=request.stdout, stderr=request.stderr)
    tell = _tell(birth, template.voice)
    os.close(template.stacks)
    try:
        take_stdio(birth)
    except OSError as error:
        refuse(tell, birth.notify_fd, shortage.words(birth.worker, birth.pool.name, error))
        return WORKER_FAILED
    # The environment of the pool stands, and what the application made of it when it was imported.
    be_somebody(replace(birth, account=None, pool=replace(birth.pool, env={})))
    if template.collects:
        gc.enable()
    return be_worker(birth, way_by(birth.notify_fd), tell, partial(_imported, template))


def _told_to_go(theirs: socket.socket) -> bool:
    """False if the template is dead: ECONNRESET where it had not read the pid yet."""
    with contextlib.suppress(OSError):
        return theirs.recv(len(GO)) == GO
    return False


def _imported(template: Template) -> Application:
    """As if it were imported now, after our own handlers were set."""
    for number, handler in template.handlers.items():
        handle((number,), handler)
    return template.application
