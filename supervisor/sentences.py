"""The name, level and sentence of every event: what a person reads.

Code emits names and fields; this one table turns them into words.  Knows nothing
of lines, formats, or where they go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

NAMED = 10  # so many of a list are written out

# Name: level, sentence.  `[...]` is left out unless all its fields are there; `|` parts what to
# try next; a field that is missing elsewhere reads `?`.
_CAUSE = "[: {reason}|: {signal}|: exit status {code}]"
_UNSAVED = (
    "[the state file could not be written, {lost} of the changes of tasks lost|"
    "tasks go on from memory, the state file cannot be written]"
)
WORDS: dict[str, tuple[str, str]] = {
    "master.started": ("info", "supervisord-lite[ {version}] starts[ {name}][ from {file}][ (pid {pid})]"),
    "master.ready": ("info", "all pools are ready[ after {seconds}]"),
    "master.quiet": ("info", "quiet: workers take no new work"),
    "master.unquiet": ("info", "no longer quiet: workers take work again"),
    "master.stopping": ("info", "stopping[: {reason}][ by {by}][, {seconds} until SIGKILL]"),
    "master.exiting": ("info", "exiting with status {status}[: {reason}]"),
    "master.error": ("error", "internal error, please report it[: {error}]"),
    "worker.started": ("info", "{worker} starts[ (pid {pid})]"),
    "worker.ready": ("info", "{worker} is ready[ after {seconds}][ (pid {pid})]"),
    "worker.stopping": ("info", "{worker} is told to stop[: {signal}|: {reason}][ (pid {pid})]"),
    "worker.acknowledged": (
        "info",
        "{worker} takes no new work[, {in_flight} in flight][ (after {seconds})]",
    ),
    "worker.exited": ("info", "{worker} is gone" + _CAUSE + "[ (up {uptime})]"),
    "worker.failed": ("warning", "{worker} failed" + _CAUSE + "[ (up {uptime})][; restarting {delay}]"),
    "worker.killed": ("warning", "{worker} had to be killed[ after {seconds}][: {reason}][ (pid {pid})]"),
    "worker.worn": ("info", "{worker} is to be replaced: it {reason}[ (pid {pid})]"),
    "worker.error": ("error", "{worker}: {reason}"),
    "worker.flooded": ("warning", "{worker} said too much at once: {count} of its events are left out"),
    "worker.stack": ("warning", "{worker}[ (pid {pid})] was busy here:"),
    "pool.ready": ("info", "pool {pool} is ready[: {ready} of {desired}]"),
    "pool.degraded": (
        "warning",
        "pool {pool} [{reason}|is not at full strength][: {ready} of {desired} ready]",
    ),
    "pool.parked": ("error", "pool {pool} is parked, nothing is started in it any more[: {reason}]"),
    "pool.scaled": ("info", "pool {pool} is to have {workers} in place of {before}"),
    "reload.started": ("info", "reloading[: {reason}][ (generation {generation})]"),
    "reload.queued": ("info", "one more reload will follow the present one[: {reason}]"),
    "reload.warning": ("warning", "{reason}"),
    "reload.rolled": ("info", "all workers are new[ (generation {generation})], watched for {seconds}"),
    "reload.done": ("info", "reloaded[ after {seconds}][ (generation {generation})]"),
    "reload.failed": ("error", "reload failed, the old workers go on[: {error}|: {reason}]"),
    "task.started": ("info", "task {task} starts (run {run}[, by {by}][, pid {pid}])"),
    "task.delayed": ("warning", "task {task} cannot begin yet[: {reason}] (run {run}, tried again)"),
    "task.output": ("info", "task {task} (run {run}) says:"),
    "task.finished": ("info", "task {task} finished[ after {seconds}] (run {run})"),
    "task.failed": ("warning", "task {task} failed[ after {seconds}][: {reason}] (run {run})"),
    "task.interrupted": ("warning", "task {task} was interrupted[ after {seconds}][: {reason}] (run {run})"),
    "task.missed": ("warning", "task {task} missed a run that was due[ at {due}][: {reason}]"),
    "task.skipped": (
        "warning",
        "task {task} leaves out [run {run}|a run][ that was due at {due}][: {reason}]",
    ),
    "stream.dropped": ("warning", "lines are left out here: they came faster than they were read"),
    "task.unsaved": ("error", _UNSAVED + "[: {reason}]"),
    "task.stored": ("info", "the state file can be written again[ ({reason})][; runs not recorded: {lost}]"),
    "task.paused": ("info", "task {task} is paused[ by {by}][ until {until}][: {reason}]"),
    "task.resumed": ("info", "task {task} is running again[, resumed by {by}][: {reason}]"),
    "task.errored": (
        "error",
        "task {task} is errored[, tried again at {next_run}|, until it is resumed][: {reason}]",
    ),
    "stop.phase": ("info", "phase {phase}[ took {seconds}]"),
    "stop.waiting": ("warning", "not acknowledged yet: {workers}"),
    "stop.stuck": ("error", "still there {seconds} after SIGKILL, left to the kernel: {workers}"),
    "stop.report": ("info", "stopped[: {reason}][, after {seconds}][, exit status {status}]; {told}"),
    "inner.started": ("debug", "{worker} of the master itself starts[ (pid {pid})]"),
    "inner.ready": ("debug", "[{worker} of the master itself|{pool}] is ready[ (pid {pid})]"),
    "inner.stopping": ("debug", "{worker} of the master itself is told to stop[: {reason}][ (pid {pid})]"),
    "inner.acknowledged": ("debug", "{worker} of the master itself will leave"),
    "inner.exited": ("debug", "{worker} of the master itself is gone" + _CAUSE),
    "inner.failed": (
        "error",
        "{worker} of the master itself failed" + _CAUSE + "[ (up {uptime})][; restarting {delay}]",
    ),
    "inner.killed": ("error", "{worker} of the master itself had to be killed[: {reason}][ (pid {pid})]"),
    "inner.continued": (
        "warning",
        "{worker} of the master itself was stopped (SIGSTOP), and goes on[ (pid {pid})]",
    ),
    "inner.stack": ("warning", "{worker} of the master itself[ (pid {pid})] was busy here:"),
    "inner.degraded": ("debug", "{pool} is being replaced"),
    "inner.parked": ("debug", "{pool} of the master itself is not tried any more[: {reason}]"),
    "output.lost": ("warning", "output of workers is lost[: {reason}]"),
    "hook.failed": ("error", "hook {hook} failed[ in {worker}][: {error}]"),
    "hook.timeout": ("error", "hook {hook}[ in {worker}] did not end within {seconds}, left behind"),
    "signal.ignored": ("info", "{signal} is ignored[: {reason}]"),
    "signal.denied": ("error", "not allowed to signal {worker}[ (pid {pid})]: it has another user"),
    "start.waiting": (
        "warning",
        "{address} is still in use[ by workers of a dead master: {holders}][; waiting {seconds} at most]",
    ),
    "start.waited": ("info", "{address} is free[ after {seconds}]"),
    "start.aborted": ("error", "the start is aborted[: {reason}]"),
    "log.failed": ("error", "{reason}"),
    "master.warning": ("warning", "{reason}"),
    "service.unreachable": ("warning", "{reason}"),
    "orphan.reaped": ("debug", "process {pid} outlived its parent, and is gone now"),
    "orphans.ended": ("warning", "ended what outlived its worker[ {worker}][: processes: {count}]"),
    "log.dropped": ("warning", "{count} log lines are lost: the log could not be written"),
}


def said(sentence: str, fields: Mapping[str, Any]) -> str:
    return "".join([_first_complete(part, fields) for part in _parts(sentence)])


@lru_cache(maxsize=256)
def _parts(sentence: str) -> list[list[_Choice]]:
    """A sentence taken apart, once; what stands outside of brackets is always said."""
    parts = []
    for place, part in enumerate(re.split(r"\[(.*?)\]", sentence)):
        in_brackets = place % 2 == 1
        choices = part.split("|") if in_brackets else [part]
        # Texts at the even places, names of fields at the odd ones.
        pieces = [re.split(r"\{(\w+)\}", choice) for choice in choices]
        parts.append([_Choice(in_brackets, texts, texts[1::2]) for texts in pieces])
    return parts


class _Choice(NamedTuple):
    """One text with fields in it, which may depend on whether all of them are there."""

    must_be_complete: bool
    pieces: list[str]
    names: list[str]


def _first_complete(choices: list[_Choice], fields: Mapping[str, Any]) -> str:
    for must_be_complete, pieces, names in choices:
        values = [fields.get(name) for name in names]
        if not (must_be_complete and None in values):
            said = pieces.copy()
            said[1::2] = map(_spoken, names, values)
            return "".join(said)
    return ""


def _spoken(name: str, value: Any) -> str:
    if type(value) is str:
        return value
    if value is None:
        return "?"
    if isinstance(value, list):
        return ", ".join(map(str, value[:NAMED])) + f" and {len(value) - NAMED} more" * (len(value) > NAMED)
    if name == "delay" and isinstance(value, (int, float)):
        return f"in {duration(value)}" if value > 0 else "at once"
    if name.endswith(("seconds", "uptime", "_after")) and isinstance(value, (int, float)):
        return duration(value)
    return str(value)


def duration(seconds: float) -> str:
    if seconds < 10:  # noqa: PLR2004 - two decimals say something only below
        return f"{seconds:.2f}".removesuffix("0") + " s"
    if seconds < 120:  # noqa: PLR2004 - people count two minutes in seconds
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"  # noqa: PLR2004
