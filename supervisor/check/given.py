"""What a check cannot know: the sockets that a service manager passes to the master alone."""

from __future__ import annotations

from supervisor.config.problems import Problem, line
from supervisor.settings import Settings
from supervisor.unix.addresses import parse


def notes(settings: Settings) -> list[str]:
    """A line for each, in the form of errors; none of them is one."""
    bound = {name: parse(socket.bind) for name, socket in settings.sockets.items()}
    return [
        line(settings.file, Problem(("sockets", name, "bind"), _words(address.where)))
        for name, address in bound.items()
        if address.kind == "fd"
    ]


def _words(name: str) -> str:
    return f"is not checked: only the start can tell whether a socket unit passes one by the name {name!r}"
