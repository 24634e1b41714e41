"""Where files are when the configuration does not say, and what relative paths mean.

Knows SPEC's defaults for the control socket and the state, the variables that
systemd and the desktop set, and nothing of what is on disk: nothing is created
or looked up here.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping

PROJECT = "supervisord-lite"


def absolute(folder: str, path: str) -> str:
    """Tidied, but for ``..``: behind a symlink it does not mean what the text says."""
    joined = os.path.join(folder, path)
    return joined if ".." in joined.split("/") else os.path.normpath(joined)


def folder_of(path: str) -> str:
    """The folder of the path as given: a symlink to a configuration takes its own folder along."""
    folder = os.path.dirname(path)
    return absolute(folder if os.path.isabs(folder) else os.getcwd(), folder)


def of_file(path: str) -> str:
    """The file itself, by a path that holds everywhere."""
    return absolute(folder_of(path), os.path.basename(path))


def name_of(path: str) -> str:
    """The file's stem, as far as it can be part of a file name and of a log line."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:64] or PROJECT


def runtime_dir(environ: Mapping[str, str], uid: int) -> str:
    if given := _first(environ, "RUNTIME_DIRECTORY"):
        return given
    if uid == 0:
        return f"/run/{PROJECT}"
    if home := _xdg(environ, "XDG_RUNTIME_DIR"):
        return os.path.join(home, PROJECT)
    return f"/tmp/{PROJECT}-{uid}"  # noqa: S108 - whoever makes it makes it 0700 and checks the owner


def state_dir(environ: Mapping[str, str], uid: int) -> str:
    if given := _first(environ, "STATE_DIRECTORY"):
        return given
    if uid == 0:
        return f"/var/lib/{PROJECT}"
    home = _xdg(environ, "XDG_STATE_HOME") or os.path.join(_home(environ, uid), ".local/state")
    return os.path.join(home, PROJECT)


def _first(environ: Mapping[str, str], variable: str) -> str:
    """In systemd's variables these are lists with ':' when a unit names several directories."""
    return environ.get(variable, "").split(":")[0]


def _xdg(environ: Mapping[str, str], variable: str) -> str:
    """The XDG specification has relative paths ignored."""
    value = environ.get(variable, "")
    return value if os.path.isabs(value) else ""


def _home(environ: Mapping[str, str], uid: int) -> str:
    if home := environ.get("HOME"):
        return home
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:  # a uid without an account, as in many containers
        return "/"
