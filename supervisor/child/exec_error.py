"""Why a program could not be executed: what was tried, what the kernel said, what it probably means.

execve(2) gives one number for many reasons: ENOENT may be the program, its
interpreter or its loader.  So this looks at the file afterwards.  Runs as the
user who may not read it; changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

SHOWN = 60  # characters of PATH; a machine has one of many hundreds
HEAD = 256  # bytes of a file that hold its #! line: BINPRM_BUF_SIZE


def words(argv: Sequence[str], error: OSError, folder: str) -> str:
    """``error.filename`` is the file that was found, None where none was; ``folder`` where we are."""
    program, found = argv[0], error.filename
    if found is None and "/" not in program:
        where = f"PATH={_few(os.environ.get('PATH', os.defpath))}, in {folder}"
    else:
        path = str(found or program)
        where = path if os.path.isabs(path) else f"{path} in {folder}"
    hint = _hint(error, str(found or program), argv)
    return f"cannot execute {program!r}: {error.strerror} ({where})" + (f": {hint}" if hint else "")


def _few(path: str) -> str:
    """The first of its folders, and how many there are; all of them where that is short."""
    folders = path.split(":")
    if len(path) <= SHOWN or len(folders) == 1:
        return path
    few = path[:SHOWN].rpartition(":")[0] or folders[0]
    return f"{few}:... of {len(folders)} folders"


def _hint(error: OSError, path: str, argv: Sequence[str]) -> str:
    match error.errno:
        case errno.ENOENT if error.filename is not None:
            return _about_interpreter(path)
        case errno.ENOEXEC:
            return _about_format(path)
        case errno.EACCES:
            return _about_rights(path)
        case errno.E2BIG:
            return f"its arguments and environment have {_size(argv)} bytes"
        case errno.EAGAIN:
            return f"uid {os.geteuid()} has as many processes as limits.nproc allows"
    return ""


def _size(argv: Sequence[str]) -> int:
    words = [*argv, *(f"{name}={value}" for name, value in os.environ.items())]
    return sum(len(os.fsencode(word)) + 1 for word in words)


def _about_interpreter(path: str) -> str:
    """The file is there, so what is missing is what the file asks for."""
    if not os.path.exists(path):
        return f"it is a symlink to {os.path.realpath(path)}, which is not there"
    if interpreter := _interpreter(path):
        ends = "; the file has the line ends of Windows" if interpreter.endswith("\r") else ""
        return f"its interpreter {interpreter!r} is not there{ends}"
    return "the loader that it was linked for is not there; was it built for another system?"


def _about_format(path: str) -> str:
    head = _head(path)
    if not head:
        return "it is empty, or may not be read"
    if head.startswith(b"\x7fELF"):
        return "it was built for another kind of machine"
    return "it has no #! line that names its interpreter, such as #!/bin/sh"


def _about_rights(path: str) -> str:
    uid = os.geteuid()
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return f"uid {uid} may not enter a folder above it"
    if stat.S_ISDIR(mode):
        return "it is a folder"
    if not os.access(path, os.X_OK, effective_ids=True):
        return f"uid {uid} may not execute it, chmod +x?"
    if interpreter := _interpreter(path):
        return f"its interpreter {interpreter!r} may not be executed"
    return "is its file system mounted noexec?"


def _interpreter(path: str) -> str:
    """What the #! line names, a carriage return included; empty where there is none."""
    line = _head(path).split(b"\n")[0]
    words = [w for w in line[2:].replace(b"\t", b" ").split(b" ") if w]
    return os.fsdecode(words[0]) if line.startswith(b"#!") and words else ""


def _head(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        return os.read(fd, HEAD)
    except OSError:
        return b""
    finally:
        os.close(fd)
