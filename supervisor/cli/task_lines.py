"""Tasks and their runs as lines for a person: as wide as the terminal, readable without colour.

Pure: objects in, lines out; without a width nothing is cut.  A key that an older
or newer master does not send is left out, never an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import click

from supervisor.cli import words
from supervisor.cli.moments import ahead, clock, moment, past

Object = dict[str, Any]

COLOURS = {"running": "green", "paused": "yellow", "errored": "red"}
WIDEST = 20  # a longer name has a line of its own
SHOWN = 3  # last lines of a run that went wrong
QUIET = "the master is quiet: nothing that is due begins until 'supervisord-lite unquiet'"
NAMED = 10  # names that are written out
_STATE_FILE = re.compile("^state file .*?: ")


def listed(tasks: Object, now: datetime, width: int | None) -> Iterator[str]:
    """``tasks list``: state, next run, last run; below that, why it is not running."""
    if not tasks:
        yield "no tasks: the configuration has no [tasks.NAME]"
        return
    column = min(WIDEST, max(4, *map(len, tasks)))
    coming = {name: _next(task, now) for name, task in tasks.items()}
    second = max(len("NEXT RUN"), *map(len, coming.values()))
    yield f"{'NAME':{column}}  STATE    {'NEXT RUN':{second}}  LAST RUN"
    for name, task in tasks.items():
        first = words.plain(name)
        if len(first) > column:
            yield words.cut(first, width)
            first = ""
        state = str(task.get("state", "?"))
        line = f"{first:{column}}  {state:7}  {coming[name]:{second}}  {_last(task, now)}"
        yield _coloured(words.cut(line.rstrip(), width), state)
        yield from (words.cut(f"    {words.plain(note)}", width) for note in _notes(task, now))
    if any(task.get("quiet") for task in tasks.values()):
        yield QUIET


def _coloured(line: str, state: str) -> str:
    before, found, after = line.partition(f"  {state}")
    return before + click.style(found, fg=COLOURS[state]) + after if state in COLOURS else line


def _next(task: Object, now: datetime) -> str:
    when = moment(task.get("next_run"))
    if _is_held(task, now):
        return "due, held by quiet"
    return "-" if when is None else f"{clock(when, now)}, {ahead(when, now)}"


def _is_held(task: Object, now: datetime) -> bool:
    """It is due, and begins only when the master is quiet no more."""
    when = moment(task.get("next_run"))
    return bool(task.get("quiet")) and when is not None and when <= now


def _last(task: Object, now: datetime) -> str:
    running, last = task.get("running"), task.get("last_run")
    if isinstance(running, dict):
        if running.get("reason"):
            return "cannot begin yet"
        since = moment(running.get("started_at"))
        return "runs now" if since is None else f"runs for {words.age(past(since, now))}"
    if not last:
        return "never"
    started = moment(last.get("started_at"))
    when = "" if started is None else f" {words.age(past(started, now))} ago"
    return f"{words.plain(last.get('outcome', '?'))}{when}"


def _notes(task: Object, now: datetime) -> Iterator[str]:
    """Why it is paused or errored, and who and what for."""
    if task.get("state") == "paused":
        by = f" by {task['by']}" if task.get("by") else ""
        until = moment(task.get("paused_until"))
        left = "" if until is None else f" until {clock(until, now)}, over {ahead(until, now)}"
        yield f"paused{by}{left}{_because(task.get('reason'))}"
    if task.get("error") or task.get("state") == "errored":
        again = moment(task.get("next_run")) if task.get("state") == "errored" else None
        trial = "" if again is None or _is_held(task, now) else f"; tried again {ahead(again, now)}"
        yield f"errored{_because(task.get('error') or task.get('reason'))}{trial}"
    elif task.get("failures"):
        yield f"failed {words.count(task['failures'], 'time')} in a row"
    if (running := task.get("running")) and running.get("reason"):
        yield f"run {running.get('run', '?')} cannot begin yet{_because(running['reason'])}"
    if task.get("waiting"):
        yield "one more run waits for this one"


def _because(reason: object) -> str:
    return f": {reason}" if reason else ""


# -- in the tree of `status` ---------------------------------------------------


def summary(tasks: Object) -> str:
    """``12 tasks: 10 running, 1 paused, 1 errored``."""
    counts = Counter(str(task.get("state", "?")) for task in tasks.values())
    found = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{words.count(len(tasks), 'task')}: {found}; see 'tasks list'"


def notable(tasks: Object) -> Iterator[str]:
    """Those that run now, and those that do not run by themselves."""
    for name, task in tasks.items():
        if isinstance(task.get("running"), dict):
            why = words.plain(task["running"].get("reason") or "")
            how = f"cannot begin yet{_because(why)}" if why else "runs now"
            yield f"{words.plain(name)}: {how} (run {task['running'].get('run', '?')})"
        if task.get("state") in {"paused", "errored"}:
            yield f"{words.plain(name)}: {task['state']}{_because(words.plain(task.get('reason') or ''))}"


def not_stored(tasks: Object, now: datetime) -> Iterator[str]:
    """That what happens to them is in the master's memory only: of all the same."""
    if trouble := next((task["not_stored"] for task in tasks.values() if task.get("not_stored")), None):
        since = moment(trouble.get("since"))
        when = "" if since is None else f" since {clock(since, now)}"
        why = _STATE_FILE.sub("", words.plain(trouble.get("reason") or ""))  # its path fills the line
        yield f"not stored{when}{_because(why)}"


# -- runs ----------------------------------------------------------------------


def runs(found: Iterable[Object], width: int | None, *, whole: bool) -> Iterator[str]:
    """``tasks history``: a line a run, newest first; of those that went wrong, what they printed last."""
    yield f"{'RUN':>7}  {'STARTED':19}  {'TOOK':>6}  {'BY':10}  OUTCOME"
    for run in found:
        started, seconds = moment(run.get("started_at")), run.get("seconds")
        begun = run.get("outcome") not in {"queued", "skipped"}
        when = "" if started is None else started.strftime("%Y-%m-%d %H:%M:%S") if begun else "not begun"
        took = "" if seconds is None else words.age(seconds)
        by = words.cut(words.plain(run.get("by") or ""), width and 10)
        line = f"{run.get('run', '?'):>7}  {when:19}  {took:>6}  {by:10}  {outcome(run)}"
        yield words.cut(line, width)
        if run.get("reason") and run.get("outcome") != "running":
            yield words.cut(f"{'':7}  {words.plain(run['reason'])}", width)
        lines = [words.plain(line) for line in run.get("lines") or ()]
        shown = lines if whole else lines[-SHOWN:] if run.get("outcome") not in {"ok", "running"} else []
        yield from (words.cut(f"{'':7}  | {line}", width) for line in shown)


def outcome(run: Object) -> str:
    """``ok``, ``failed (status 1)``, ``timed out (SIGKILL)``."""
    found = words.plain(run.get("outcome", "?"))
    if run.get("signal"):
        return f"{found} ({words.plain(run['signal'])})"
    return f"{found} (status {run['code']})" if run.get("code") else found


# -- words ---------------------------------------------------------------------


def named(names: Iterable[object]) -> str:
    """``a, b and 7 more``."""
    found = [words.plain(name) for name in names]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more
