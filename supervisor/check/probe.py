"""In the child of `check`: import what a configuration names and say what is wrong with it.

Runs user code and so expects anything of it: an exit, a signal, a hang, a module
that closes or floods stdout.  Before each reference it notes which one, so that
the parent can tell what a process that is gone died of.  Knows no configuration.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

AS_TARGET = ((object(),), ())  # a target is called with its worker, or with nothing
AS_HOOK = ((object(),),)


def answer(request: dict[str, Any], result: int) -> None:
    """Look at each of ``request["references"]``; one JSON line each before and after."""
    sys.path[:] = request["path"]
    sys.dont_write_bytecode = True  # a check changes nothing
    for index, wanted in enumerate(request["references"]):
        _write(result, {"looking_at": index})
        _write(
            result,
            {"at": index, "problem": problem(wanted["reference"], wanted["kind"], request["looked_in"])},
        )


def _write(result: int, note: dict[str, Any]) -> None:
    os.write(result, json.dumps(note).encode() + b"\n")


def problem(reference: str, kind: str, looked_in: str) -> str | None:
    """What is wrong, or None; `kind` is ``target``, ``hook`` or ``module``."""
    module_name, _, attributes = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:  # user code ran, and SystemExit is a mistake here as well
        return _not_imported(module_name, error, looked_in)
    return _wrong_with(module, attributes, kind) if attributes else None


def _not_imported(module: str, error: BaseException, looked_in: str) -> str:
    if isinstance(error, SystemExit):
        return f"cannot import {module!r}: it called sys.exit({error.code!r})"
    where = f" (looked in {looked_in})" if isinstance(error, ModuleNotFoundError) else _raised_at(error)
    return f"cannot import {module!r}: {_summary(error)}{where}"


def _summary(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception_only(type(error), error)[-1:]).strip()
    except BaseException:  # an exception of theirs whose __str__ raises
        return type(error).__name__


def _raised_at(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f" (at {error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith("<frozen") and f.filename != importlib.__file__]
    theirs = [f for f in own if f.filename != __file__]
    return f" (at {theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""


def _wrong_with(module: ModuleType, attributes: str, kind: str) -> str | None:
    found: Any = module
    path, name = module.__name__, ""
    try:
        for name in attributes.split("."):
            found, path = getattr(found, name), f"{path}.{name}"
    except AttributeError:
        return f"{_what(found)} {path!r} has no attribute {name!r}{_meant(name, dir(found))}"
    except BaseException as error:  # a module's own __getattr__, a property
        return f"reading {name!r} of {path!r} raised {_summary(error)}"
    return _not_callable(found, path) or _called_wrongly(found, path, kind)


def _what(found: Any) -> str:
    if isinstance(found, ModuleType):
        return "module"
    return "class" if isinstance(found, type) else "object"


def _meant(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f", did you mean {close[0]!r}?" if close else ""


def _not_callable(found: Any, path: str) -> str | None:
    if not callable(found):
        return f"{path!r} is not callable: it is of type {type(found).__name__!r}"
    return None


def _called_wrongly(found: Callable[..., Any], path: str, kind: str) -> str | None:
    if inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
        return f"{path!r} is a generator: called, it would do nothing; take 'yield' out of it"
    if kind == "hook" and inspect.iscoroutinefunction(found):
        return f"{path!r} is async: called, it would do nothing; a hook is a plain function"
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):  # written in C: it does not say
        return None
    possible = AS_TARGET if kind == "target" else AS_HOOK
    if any(_takes(signature, arguments) for arguments in possible):
        return None
    called = (
        "with one argument, the worker, or with none"
        if kind == "target"
        else "with one argument, its context"
    )
    return f"{path!r} takes {signature}; a {kind} is called {called}"


def _takes(signature: inspect.Signature, arguments: tuple[object, ...]) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True
