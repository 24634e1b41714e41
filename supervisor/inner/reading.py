"""The master's half of reading the configuration again: whom to start, and what came of it.

The file is read by a process of its own, `supervisor.config.reader`: its
libraries are heavy, its files may block, and what it tries out may crash.  Both
ends share one memory file: the question is in it when the reader starts, the
answer when it has left.  Knows no TOML and starts nothing; light, for the master.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from supervisor.settings import Settings
from supervisor.stored import Stored
from supervisor.unix.descriptors import FIRST

DESCRIPTOR = FIRST  # where the reader finds the memory file
LARGEST = 64 << 20  # bytes of an answer: a file has 1 MiB, and so has each env_file

# Bound, locked or read once, when the master starts; workers and clients know them.
FIXED = ("name", "socket", "pidfile", "state_dir")


@dataclass(frozen=True)
class Reading:
    """The new settings with what is to be warned of; or None with all mistakes, a line each.

    `stored` is what the state file holds of their tasks, if that was asked for.
    """

    settings: Settings | None
    lines: tuple[str, ...] = ()
    stored: Mapping[str, Stored] = field(default_factory=dict)


def argv(settings: Settings, base_path: Sequence[str]) -> tuple[str, ...]:
    """The reader's command: this interpreter with its flags, and ``base_path`` as its ``sys.path``."""
    start = "from supervisor.config.reader import main"
    code = (
        f"import sys; sys.path[:] = {list(base_path)!r}; {start}; main({settings.path!r}, {settings.file!r})"
    )
    return (sys.executable, *_flags(), "-c", code)


def _flags() -> list[str]:
    """Those that the master itself was started with, see `boot.argv`."""
    words = sys.orig_argv
    return words[1 : words.index("-c")] if "-c" in words else []


def question(environ: Mapping[str, str], state_file: str | None = None, *, ours: bool = False) -> int:
    """A memory file for one reader; ``environ`` is what the master was started with.

    ``state_file`` is to be read if there are tasks now, for a master that had none; it is ``ours``
    if that has locked it already, for a reload that failed.
    """
    fd = os.memfd_create("supervisor-reading")
    with open(fd, "wb", closefd=False) as file:
        pickle.dump((dict(environ), state_file, ours), file)
    os.lseek(fd, 0, os.SEEK_SET)  # the offset is shared with the reader
    return fd


def result(fd: int) -> Reading:
    """What the reader left in the memory file, which is closed; any rubbish is an error like others."""
    try:
        return _answer(os.pread(fd, min(LARGEST, os.fstat(fd).st_size), 0))
    except Exception as error:  # a torso, or nothing that can be unpickled
        return _unread(f"its answer is damaged ({type(error).__name__})")
    finally:
        os.close(fd)


def _answer(data: bytes) -> Reading:
    match pickle.loads(data):  # noqa: S301  # written by our own process, which runs no code of a user's
        case ("settings", Settings() as settings, dict(stored), list(lines)):
            return Reading(settings, tuple(map(str, lines)), stored)
        case ("errors", list(lines)) if lines:
            return Reading(None, tuple(map(str, lines)))
    return _unread("its reader left without an answer")  # it is still the question


def _unread(why: str) -> Reading:
    return Reading(None, (f"the configuration could not be read: {why}; try again, see the log",))


# -- what cannot change --------------------------------------------------------


def unchangeable(old: Settings, new: Settings) -> list[str]:
    """What the new file wants and a running master cannot do, as words."""
    wanted = (key for key in FIXED if getattr(old.master, key) != getattr(new.master, key))
    return [f"master.{key}: needs a restart (USR2), the running value is kept" for key in wanted]


def kept(old: Settings, new: Settings) -> Settings:
    """The new settings with the running values of what cannot change."""
    running = {key: getattr(old.master, key) for key in FIXED}
    return replace(new, master=replace(new.master, **running, log_file=_log_file(old, new)))


def _log_file(old: Settings, new: Settings) -> str | None:
    """``start --daemon`` logs to a file of its own choice where the configuration names none."""
    chosen = os.path.join(old.master.state_dir, f"{old.master.name}.log")
    if new.master.log_file is None and old.master.log_file == chosen:
        return chosen
    return new.master.log_file
