"""Run one command and turn whatever comes of it into an exit status and one line.

Knows every kind of failure and nothing of any command.  There is never a
traceback, except for developers (``python -X dev``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from supervisor.cli.commands import commands
from supervisor.errors import ConfigError, SupervisorError
from supervisor.exits import ClientExit

PROGRAM = "supervisord-lite"


def run(arguments: Sequence[str]) -> int:
    """The exit status of one command line."""
    try:
        result = commands.main(list(arguments), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
        return int(result or 0)
    except BrokenPipeError:
        return _unread()
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        lines, status = _explained(error)
    for line in lines:
        click.echo(line, err=True)
    return status


def _explained(error: Exception) -> tuple[list[str], int]:
    """What to tell of a failure, and the exit status it has."""
    match error:
        case ConfigError():
            return error.problems, error.status  # each line begins with the file's name
        case SupervisorError():
            return [f"{PROGRAM}: {error}"], error.status
        case click.ClickException():
            return [f"{PROGRAM}: {_usage(error)}"], error.exit_code
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return [f"{PROGRAM}: {where}{error.strerror or error}"], ClientExit.FAILED
        case _:  # a bug here, for which a user needs no traceback
            bug = f"internal error, please report it: {type(error).__name__}: {error}"
            return [f"{PROGRAM}: {bug}"], ClientExit.FAILED


def _usage(error: click.ClickException) -> str:
    """Click's message, as one line with a place to look further."""
    text = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    return f"{text}{' See' if text.endswith('?') else '; see'} '{path} --help'"


def _unread() -> int:
    """Whoever read our output has gone (``| head``): nothing is to be said about it."""
    # Python flushes stdout once more at exit, which would fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ClientExit.FAILED  # as click does it for a write that fails earlier
