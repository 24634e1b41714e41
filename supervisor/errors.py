"""Errors that know their exit status and say what to do now.

A person reads ``str(error)``: what was being done, with which value, from
where, and what to do.  Nothing here prints or exits.
"""

from __future__ import annotations

from supervisor.exits import Exit


class SupervisorError(Exception):
    """The base of all that is a user's or the machine's fault, never a bug here."""

    status: int = Exit.FAILED


class ConfigError(SupervisorError):
    """The configuration cannot be used.

    ``problems`` holds one line per mistake, each ``FILE: KEY: what, and what to do``.
    """

    status = Exit.USAGE

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StartError(SupervisorError):
    """The machine does not let the master start: a file, a socket, a limit."""

    status = Exit.FAILED


class AlreadyRunningError(SupervisorError):
    """Another master holds the pidfile or the control socket; it was not disturbed."""

    status = Exit.ALREADY_RUNNING


class StandingError(SupervisorError):
    """A worker cannot become what its pool says: a limit, a user, a folder.  It must not run then."""

    status = Exit.FAILED
