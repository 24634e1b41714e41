"""Whether what the configuration names for output, and for sockets, can be made, as far as a look can tell.

Looks as the user who checks, who should be the one who will start the master:
the master makes these files, and no folder for them.  Changes nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from supervisor.config.problems import KeyPath, Problem
from supervisor.settings import Output, Settings


def problems(settings: Settings) -> Iterator[Problem]:
    """Of the log, of the output of each pool, and of the folders of unix sockets."""
    for path, file in _files(settings):
        if wrong := wrong_with(file):
            yield Problem(path, wrong)
    for name, socket in settings.sockets.items():
        scheme, _, file = socket.bind.partition(":")
        if scheme == "unix" and (wrong := _wrong_with_folder(os.path.dirname(file))):
            yield Problem(("sockets", name, "bind"), wrong)


def _files(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    if settings.master.log_file:
        yield ("master", "log_file"), settings.master.log_file
    for pool in settings.pools.values():
        for key, output in (("stdout", pool.stdout), ("stderr", pool.stderr)):
            if isinstance(output, Output):
                yield ("pools", pool.name, key), output.file


def wrong_with(file: str) -> str | None:
    """What keeps a file from being written to, or from being made, or None."""
    real = os.path.realpath(file)
    try:
        mode = os.stat(real).st_mode
    except FileNotFoundError:
        return _wrong_with_folder(os.path.dirname(real))
    except OSError as error:
        return f"cannot look at {file}: {error.strerror}"
    if stat.S_ISDIR(mode):
        return f"{file} is a folder: name a file in it"
    return None if _may(real, os.W_OK) else f"uid {os.geteuid()} may not write to {file}"


def _wrong_with_folder(folder: str) -> str | None:
    if not os.path.exists(folder):
        return f"there is no folder {folder}: make it, or name another file"
    return None if _may(folder, os.W_OK | os.X_OK) else f"uid {os.geteuid()} may not make a file in {folder}"


def _may(path: str, what: int) -> bool:
    return os.access(path, what, effective_ids=True)
