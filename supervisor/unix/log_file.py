"""How the log file is opened: never waits, and never leads where somebody else wants it.  open(2)

It may be a FIFO or a device: what it is written with (`output`) does not block.
"""

from __future__ import annotations

import errno
import os

from supervisor.errors import StartError
from supervisor.unix.files import where_it_leads

# Links of the kernel's, which nobody can plant.
OWN = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")


def open_log(path: str) -> int:
    """Open the log for appending, made if missing; not by a symlink that somebody else could have made.

    Raises:
        StartError: it cannot be opened, with what to do.
    """
    # O_NONBLOCK: open(2) of a FIFO would otherwise wait for its reader.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        if path.startswith(OWN):
            return os.open(path, flags)
        return os.open(where_it_leads(path), flags | os.O_NOFOLLOW, 0o640)
    except OSError as error:
        raise StartError(f"cannot open the log file {path}: {_advice(error)}") from error


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.ENXIO:
            return "it is a FIFO without a reader, or a socket; start its reader, or log to stderr"
        case errno.EISDIR:
            return "it is a directory; name a file in it"
        case errno.ELOOP:
            words = "it has just become a symlink" if error.filename else error.strerror
            return f"{words}; name the file that is meant"
        case errno.ENOENT:
            return "its folder does not exist; create it or name another log_file"
        case _:
            return f"{error.strerror}; allow it or name another log_file"
