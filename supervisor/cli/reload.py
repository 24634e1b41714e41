"""``reload --wait``: until the reload that includes this request is done, or has failed.

Its events carry its number; the status only tells how far it is.
"""

from __future__ import annotations

import time
from typing import Any

import click

from supervisor.cli import words
from supervisor.cli.follow import REFRESH, SILENCE, Following, Status, following, left
from supervisor.cli.options import Master
from supervisor.cli.progress import Trial, reloading
from supervisor.control.client import ControlError, Event
from supervisor.exits import ClientExit

CHANGED = 10  # so many of what changed are named


def reload(master: Master) -> int:
    """Reload and follow; 0 if the new generation serves, 1 if the old one goes on."""
    with following(master.client) as followed:
        number = followed.ask("reload")["reload"]
        try:
            done = _outcome(followed, number, master)
        except EOFError:
            raise left() from None
    if done["event"] == "reload.failed":
        raise _failure(str(done.get("error") or done.get("message") or "no reason was told"))
    after = f" after {words.age(done['seconds'])}" if done.get("seconds") is not None else ""
    click.echo(f"reloaded{after}: generation {done.get('generation')}{_changed(done.get('changed'))}")
    return ClientExit.DONE


def _outcome(followed: Following, number: int, master: Master) -> Event:
    """The last event of this reload."""
    trial = Trial(None, master.stable_after)
    for event in followed.news(REFRESH if followed.screen.live else SILENCE):
        if event is None:
            _look(followed, trial)
            continue
        name, ours = event.get("event"), event.get("reload") == number
        if name == "master.stopping":
            reason = event.get("reason") or "it was told to"
            raise ControlError(f"the master stops ({reason}), the reload is abandoned; start it again then")
        if name == "worker.ready" and event.get("generation") == trial.generation:
            trial.ready.setdefault(str(event.get("pool")), time.monotonic())
        if name == "reload.started" and ours:
            trial.generation = event.get("generation")
        if name == "reload.rolled" and ours:
            trial.until = time.monotonic() + event["seconds"]
        if name in {"reload.done", "reload.failed"} and ours:
            return event
    raise EOFError


def _look(followed: Following, trial: Trial) -> None:
    """Draw how far it is; where nothing is drawn, say it now and then, for it may take long."""
    status: Status = followed.status()
    text = reloading(status, trial, time.monotonic())
    if followed.screen.live:
        followed.screen.show(text)
    elif followed.since() >= SILENCE:
        followed.screen.say(text)


def _failure(error: str) -> ControlError:
    """Several mistakes are a line each, like everywhere; then the one line of the outcome."""
    lines = [words.plain(line) for line in error.splitlines() if line.strip()]
    if len(lines) > 1:
        for line in lines:
            click.echo(line, err=True)
        lines = [f"{len(lines)} mistakes"]
    advice = "mend that and reload again, the log has more"
    return ControlError(f"not reloaded, the last good generation goes on: {' '.join(lines)}; {advice}")


def _changed(changed: Any) -> str:
    found = [words.plain(one) for one in changed or ()]
    more = f" and {len(found) - CHANGED} more" if len(found) > CHANGED else ""
    return f"; changed: {', '.join(found[:CHANGED])}{more}" if found else ""
