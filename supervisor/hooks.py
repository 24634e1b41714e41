"""Hooks: how they are declared, found and called.

A decorator only marks its function; `collect` reads the marks off a module, so
importing one registers nothing anywhere.  Knows neither when a moment comes nor
which process it is in.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, TypeVar

Hook = Callable[[Any], object]
F = TypeVar("F", bound=Callable[..., object])

MARK = "__supervisor_hooks__"
MASTER_MOMENTS = ("on_start", "on_ready", "on_stop", "on_exit")
WORKER_MOMENTS = ("on_worker_start", "on_worker_quiet", "on_worker_stop", "on_worker_exit")
GOING_DOWN = ("on_stop", "on_exit", "on_worker_stop", "on_worker_exit")


def _marker(moment: str, what: str) -> Callable[[F], F]:
    def mark(function: F) -> F:
        setattr(function, MARK, (*getattr(function, MARK, ()), moment))
        return function

    mark.__name__ = mark.__qualname__ = moment
    mark.__doc__ = what
    return mark


on_start = _marker("on_start", "In the master, before the first fork; raising aborts the start.")
on_ready = _marker("on_ready", "In the master, when every pool is up.")
on_stop = _marker("on_stop", "In the master, when a stop was asked for, before workers are told.")
on_exit = _marker("on_exit", "In the master, when every worker is gone.")
on_worker_start = _marker("on_worker_start", "In the worker, after fork, before the target.")
on_worker_quiet = _marker("on_worker_quiet", "In the worker, when it is to take no new work.")
on_worker_stop = _marker("on_worker_stop", "In the worker, when it was asked to stop; work may still run.")
on_worker_exit = _marker("on_worker_exit", "In the worker, when its work is done, just before it exits.")


class Hooks:
    """Functions by moment, each in the order in which it is to be called."""

    def __init__(self) -> None:
        self._declared: dict[str, list[Hook]] = {}

    def add(self, moment: str, hook: Hook) -> None:
        """Declare one; the same function at the same moment counts once."""
        known = self._declared.setdefault(moment, [])
        if hook not in known:
            known.append(hook)

    def collect(self, module: ModuleType) -> None:
        """Declare what is marked in ``module``, in the order it is written."""
        for value in list(vars(module).values()):
            marks = getattr(value, MARK, ()) if callable(value) else ()
            for moment in marks if isinstance(marks, tuple) else ():
                self.add(moment, value)

    def at(self, moment: str) -> list[Hook]:
        """As declared going up, reversed going down."""
        hooks = self._declared.get(moment, [])
        return hooks[::-1] if moment in GOING_DOWN else list(hooks)


def resolve(reference: str) -> Any:
    """The object that ``module:attribute`` names; ImportError or AttributeError if there is none."""
    module, _, attribute = reference.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def load(references: dict[str, tuple[str, ...]], modules: Iterable[str]) -> Hooks:
    """Import hooks named in the configuration and those marked in ``modules``."""
    hooks = Hooks()
    for moment, names in references.items():
        for name in names:
            hooks.add(moment, resolve(name))
    for module in modules:
        hooks.collect(importlib.import_module(module))
    return hooks


def name_of(hook: Hook) -> str:
    """``module:function``, for people."""
    module = getattr(hook, "__module__", "?")
    return f"{module}:{getattr(hook, '__qualname__', repr(hook))}"


def call(hook: Hook, context: object) -> str | None:
    """Call it and contain whatever it raises; the traceback as text, or None.

    SystemExit, KeyboardInterrupt and GeneratorExit end a hook, never its process.
    If the hook forked, its child ends here: it must not become a second master or worker.
    """
    process, error = os.getpid(), None
    try:
        result = hook(context)
        if inspect.iscoroutine(result):
            result.close()
            error = f"TypeError: {name_of(hook)} is async, and a hook is a plain function: it did not run"
    except BaseException:
        error = traceback.format_exc()
    flush()
    if os.getpid() != process:
        os._exit(0 if error is None else 1)
    return error


def flush() -> None:
    """Write out what was printed, here and not at a fork, where it would be copied."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed, full, or None
            continue
