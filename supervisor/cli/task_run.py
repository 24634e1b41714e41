"""``tasks run --wait``: what the run prints, until it is over; and the status that it left with.

The run's number tells its events from those of others.
"""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli import words
from supervisor.cli.follow import SILENCE, Following, following
from supervisor.cli.stream import DROPPED, left
from supervisor.control.client import Client, ControlError, Event
from supervisor.exits import ClientExit, signal_number

# The event of an end, by outcome; all other outcomes are failures.
EVENTS = {"ok": "task.finished", "interrupted": "task.interrupted", "skipped": "task.skipped"}
FAILED = "task.failed"
ENDS = frozenset({*EVENTS.values(), FAILED})
BY_SIGNAL = 128  # and its number: what a shell makes of it


def ask(client: Client, method: str, **params: object) -> dict[str, Any]:
    """The answer to a change of tasks; what else is to be told goes to stderr."""
    found: dict[str, Any] = client.call(method, **params)
    if why := found.get("unsaved"):
        click.echo(f"supervisord-lite: it runs, but that could not be stored: {words.plain(why)}", err=True)
    return found


def follow(client: Client, name: str) -> int:
    """Run the task and follow it; its exit status."""
    with following(client, f"tasks history {name}") as followed:
        found = ask(client, "tasks.run", name=name)
        if found.get("queued"):
            followed.screen.show(f"{name}: waits for the run that goes on")
        try:
            end, printed = _followed(followed, name, found["run"])
        except EOFError:
            raise left() from None
    if not printed:  # its lines were not streamed: the last ones are better than none
        _print(end.get("output") or end.get("lines") or ())
    if end["event"] != "task.finished":
        click.echo(f"supervisord-lite: {_failure(name, end)}", err=True)
    return _status(end)


def _followed(followed: Following, name: str, run: int) -> tuple[Event, bool]:
    """The event of its end, and whether what it printed last was printed here."""
    printed = False
    for event in followed.news(SILENCE):
        if event is None:
            followed.ask("ping")  # a master that is stuck must not be waited for
        elif event.get("event") == DROPPED:
            if (end := _ended(followed, name, run)) is not None:
                return end, False
        elif event.get("event") == "output.lost" and str(event.get("stream")).startswith(f"tasks.{name}."):
            click.echo(f"supervisord-lite: {words.plain(event.get('reason'))}", err=True)
        elif event.get("run") != run:
            continue
        elif event.get("event") == "task.output":
            followed.screen.clear()
            _print(event.get("lines") or ())
            printed = True
        elif event.get("event") in ENDS:
            return event, printed
    raise EOFError


def _ended(followed: Following, name: str, run: int) -> Event | None:
    """Its end, if that came while events were left out; None if it is still to come.

    In the history it has what was printed last; what the master shows does not wait for a disk.
    """
    task = followed.ask("tasks.list").get(name) or {}
    if (task.get("running") or {}).get("run") == run:
        return None
    history = followed.ask("tasks.history", name=name, limit=1, before=run + 1)["runs"]
    for row in (*history, task.get("last_run") or {}):
        if row.get("run") == run and row.get("outcome") not in {"running", "queued"}:
            return {"event": EVENTS.get(str(row.get("outcome")), FAILED), **row}
    if task.get("waiting") or not task:  # without one it was removed, and its run is let finish
        return None
    raise ControlError(f"{name}: how run {run} ended was left out; see 'tasks history {name}'")


def _print(lines: Any) -> None:
    for line in lines:
        click.echo(words.plain(line))


def _failure(name: str, end: Event) -> str:
    found = {"task.interrupted": "was interrupted", "task.skipped": "did not begin"}.get(
        end["event"], "failed"
    )
    after = f" after {words.age(end['seconds'])}" if end.get("seconds") is not None else ""
    reason = f": {words.plain(end['reason'])}" if end.get("reason") else ""
    return f"{words.plain(name)}: run {end['run']} {found}{after}{reason}; see 'tasks history {name}'"


def _status(end: Event) -> int:
    """As a shell would have it; never 0 for a run that did not go well."""
    if end["event"] == "task.finished":
        return ClientExit.DONE
    if isinstance(end.get("signal"), str):
        return BY_SIGNAL + _number(end["signal"])
    return end["code"] if isinstance(end.get("code"), int) and end["code"] else ClientExit.FAILED


def _number(name: str) -> int:
    """9 for ``SIGKILL``, 37 for ``SIGRTMIN+3``; 0 for one that this Python has no name for."""
    first, _, beyond = name.partition("+")
    try:
        return signal_number(first) + int(beyond or 0)
    except (KeyError, ValueError):
        return 0
