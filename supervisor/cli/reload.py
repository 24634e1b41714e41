"""``reload --wait``: until the reload that includes this request is done, or has failed.

Its events carry its number; the status only tells how far it is.
"""

from __future__ import annotations

import time
from typing import Any

import click

from supervisor.cli import words
from supervisor.cli.follow import REFRESH, SILENCE, Following, Status, following
from supervisor.cli.options import Master
from supervisor.cli.progress import Trial, reloading
from supervisor.cli.stream import DROPPED, left
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
    trial, whole = Trial(None, master.stable_after), True
    for event in followed.news(REFRESH if followed.screen.live else SILENCE):
        if event is None or event.get("event") == DROPPED:
            whole = whole and event is None
            if (end := _look(followed, trial, whole)) is not None:
                return end
        elif event.get("event") in {"reload.done", "reload.failed"} and event.get("reload") == number:
            return event
        else:
            _learn(event, number, trial)
    raise EOFError


def _learn(event: Event, number: int, trial: Trial) -> None:
    """How far it is."""
    name, ours = event.get("event"), event.get("reload") == number
    if name == "master.stopping":
        raise _abandoned(f"stops ({event.get('reason') or 'it was told to'})")
    if name == "worker.ready" and event.get("generation") == trial.generation:
        trial.ready.setdefault(str(event.get("pool")), time.monotonic())
    if name == "reload.started" and ours:
        trial.generation = event.get("generation")
    if name == "reload.rolled" and ours:
        trial.until = time.monotonic() + event["seconds"]


def _look(followed: Following, trial: Trial, whole: bool) -> Event | None:
    """Show how far it is; its end, if that is among what was left out of the events."""
    status = followed.status()
    if not whole and (end := _missed(status, followed.since())) is not None:
        return end
    text = reloading(status, trial, time.monotonic())
    if followed.screen.live:
        followed.screen.show(text)
    elif followed.since() >= SILENCE:  # said now and then, for it may take long
        followed.screen.say(text)
    return None


def _missed(status: Status, since: float) -> Event | None:
    if status["state"] in {"stopping", "restarting"}:
        raise _abandoned(f"is {status['state']}")
    last = status.get("last_reload") or {}
    ended = words.until(last.get("at"))
    if status["state"] == "reloading" or ended is None or -ended > since:
        return None
    generation = status.get("generation")
    return {"event": "reload.done" if last["ok"] else "reload.failed", "generation": generation, **last}


def _abandoned(why: str) -> ControlError:
    return ControlError(f"the master {why}, the reload is abandoned; start it again then")


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
