"""The process that reads the configuration again for a running master.

Started by the master as the command of an inner pool; `supervisor.inner.reading`
is the master's half.  Reads the file, tries the master's own hooks in a child,
reads what is remembered of tasks where the master had none, writes one answer
into the memory file and leaves.  Changes nothing else.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from types import FrameType
from typing import NoReturn

from supervisor.check import check
from supervisor.config import read, warnings
from supervisor.config.problems import clean
from supervisor.errors import ConfigError, StartError
from supervisor.inner.reading import DESCRIPTOR
from supervisor.settings import Settings
from supervisor.store import load
from supervisor.stored import Stored
from supervisor.unix.held import PATIENCE, hold

Answer = tuple[str, Settings, dict[str, Stored], list[str]] | tuple[str, list[str]]


def main(path: str, file: str, fd: int = DESCRIPTOR) -> NoReturn:
    """Answer what is asked in ``fd``; ``path`` is read, and called ``file`` in messages."""
    signal.signal(signal.SIGTERM, _leave)
    _write(fd, _contained(path, file, fd))
    os._exit(0)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Told to stop: raised through `check`, which takes its child along."""
    sys.exit(128 + number)


def _contained(path: str, file: str, fd: int) -> Answer:
    try:
        return answer(path, file, *_asked(fd))
    except ConfigError as error:
        return "errors", error.problems
    except StartError as error:
        return "errors", [str(error)]
    except Exception as error:  # a bug here must not read as a file without mistakes
        return "errors", [f"{file}: internal error, please report it: {type(error).__name__}: {error}"]


def answer(
    path: str, file: str, environ: Mapping[str, str], state_file: str | None = None, ours: bool = False
) -> Answer:
    """The settings with what is remembered of their tasks and with their warnings, or all mistakes."""
    try:
        settings = replace(read(path, environ), file=file)
    except ConfigError as error:
        raise ConfigError([_renamed(line, path, file) for line in error.problems]) from None
    # The master imports the modules of its hooks itself: they must not be the end of it.
    if problems := check(replace(settings, pools={})):
        raise ConfigError(problems)
    stored = _stored(state_file, ours) if state_file is not None and settings.tasks else {}
    return "settings", settings, stored, warnings(settings)


def _stored(state_file: str, ours: bool) -> dict[str, Stored]:
    """Once nobody writes it any more; the master takes it for itself when it has our answer."""
    if ours:
        return load(state_file)
    lock = hold(state_file, PATIENCE)
    try:
        return load(state_file)
    finally:
        os.close(lock)


def _renamed(line: str, path: str, file: str) -> str:
    """A line of `ConfigError` begins with the file's name: as the user gave it."""
    rest = line.removeprefix(clean(path))
    return line if rest == line else clean(file) + rest


def _asked(fd: int) -> tuple[dict[str, str], str | None, bool]:
    with open(fd, "rb", closefd=False) as asked:
        environ, state_file, ours = pickle.load(asked)  # noqa: S301  # written by the master that started us
    return environ, state_file, ours


def _write(fd: int, found: Answer) -> None:
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "wb", closefd=False) as file:
        pickle.dump(found, file)
