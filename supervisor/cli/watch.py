"""Show the status, once or as it changes, and the events as they come."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from supervisor.cli import tree
from supervisor.cli.stream import Stream, left, streamed
from supervisor.control.client import Client, NoMasterError
from supervisor.exits import ClientExit

QUICKEST = 0.2  # seconds between two refreshes, however much happens
SLOWEST = 2.0  # and however little: ages and memory move without an event

HOME, TO_LINE_END, TO_END, CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"


def draw(status: dict[str, Any]) -> None:
    for line in tree.lines(status, width()):
        click.echo(line)


def width() -> int | None:
    """That of the terminal; None where there is none, for a log or a mail needs the whole reason."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None


def status(client: Client, as_json: bool) -> int:
    """Redraw until Ctrl-C; 3 when the master leaves meanwhile."""
    try:
        with interruptible(), streamed(client) as events:
            _redraw(client.status(), as_json, first=True)
            while True:
                _wait_for_news(events)
                _redraw(client.status(), as_json, first=False)
    except KeyboardInterrupt:
        return ClientExit.DONE
    except EOFError:
        raise NoMasterError("the master has left") from None


def _wait_for_news(events: Stream) -> None:
    """Until something happens, but not too soon and not too late."""
    quickest = time.monotonic() + QUICKEST
    events.next(timeout=SLOWEST)
    while (left := quickest - time.monotonic()) > 0:
        events.next(timeout=left)


def _redraw(status: dict[str, Any], as_json: bool, first: bool) -> None:
    if as_json:
        click.echo(json.dumps(status))
    elif not sys.stdout.isatty():
        draw(status)
        click.echo()
    else:
        columns, rows = shutil.get_terminal_size((80, 24))
        lines = list(tree.lines(status, columns))
        if len(lines) >= rows:
            lines[rows - 2 :] = [f"... {len(lines) - rows + 2} more lines; 'status' shows all"]
        text = "".join(f"{line}{TO_LINE_END}\n" for line in lines)
        click.echo((CLEAR if first else "") + HOME + text + TO_END, nl=False)


def events(client: Client, as_json: bool) -> int:
    """Print events until the master leaves or Ctrl-C."""
    from supervisor import log

    colour = log.choose_colour(sys.stdout.fileno(), os.environ)
    last = None
    try:
        with interruptible(), streamed(client) as stream:
            while (event := stream.next()) is not None:
                last = event.get("event")
                line = log.render(event, "json" if as_json else "text", colour)
                click.echo(line.rstrip(b"\n"), color=True)
    except KeyboardInterrupt:
        return ClientExit.DONE
    except EOFError:
        if last != "master.exiting":
            raise left() from None
    return ClientExit.DONE


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is how a person ends what has no end: a KeyboardInterrupt here, and no fault."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
