"""``tasks``: what a person does with the periodic tasks of a running master."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

from supervisor.cli import moments, options, task_lines, words
from supervisor.cli.task_run import ask, follow
from supervisor.cli.watch import width
from supervisor.control.client import Client, ControlError
from supervisor.control.tasks import LONGEST_PAUSE, LONGEST_REASON
from supervisor.errors import SupervisorError
from supervisor.exits import ClientExit
from supervisor.stored import KEPT_RUNS

ANSWER = 15.0  # seconds: the master gives its disk 10 to store what was asked for


@click.group(invoke_without_command=True)
@click.pass_context
def tasks(ctx: click.Context) -> int:
    """See, pause, resume and run the periodic tasks.

    What was answered is stored: it outlives a restart.
    """
    if ctx.invoked_subcommand is not None:
        return ClientExit.DONE
    click.echo(ctx.get_help(), err=True)
    return ClientExit.USAGE


def complete_task(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The tasks in the configuration, for the shell's completion."""
    try:
        found = options.settings(ctx.params.get("config") or "config.toml").tasks
    except SupervisorError:
        return []
    return [name for name in found if name.startswith(incomplete)]


names = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_task)
name = click.argument("name", shell_complete=complete_task)
every = click.option("--all", "every", is_flag=True, help="All tasks.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print what the master answers as JSON.")


def _client(config: str, socket: str | None) -> Client:
    return Client(options.master(config, socket).client.path, ANSWER)


@tasks.command("list", epilog="Example: supervisord-lite tasks list --json | jq 'keys'")
@options.to_master
@as_json
def list_(config: str, socket: str | None, as_json: bool) -> int:
    """Show each task: its state, its next run and its last one."""
    found, now = _client(config, socket).call("tasks.list"), moments.now()
    if as_json:
        click.echo(json.dumps(found))
    else:
        _show(task_lines.listed(found, now, width()))
        _show(task_lines.not_stored(found, now))
    return ClientExit.DONE


# -- pausing -------------------------------------------------------------------


def _seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Written as in the configuration; there, a number of seconds has no quotes."""
    from supervisor.config.units import duration  # what it imports is not needed by other commands

    if value is None:
        return None
    try:
        seconds = float(value) if value.isdecimal() else float(duration(value))
    except (TypeError, ValueError) as error:
        raise click.BadParameter(str(error), ctx, param) from None
    if not 0 < seconds <= LONGEST_PAUSE:
        raise click.BadParameter(f"{value} is over at once; leave it out to pause for good", ctx, param)
    return seconds


@tasks.command(epilog="Example: supervisord-lite tasks pause --all --for 1h --reason 'new disk'")
@options.to_master
@names
@every
@click.option(
    "--for", "seconds", callback=_seconds, metavar="TIME", help="Be over by itself, e.g. after 1h30m."
)
@click.option("--reason", metavar="TEXT", help="What for; shown wherever the task is.")
@as_json
def pause(
    *,
    config: str,
    socket: str | None,
    names: tuple[str, ...],
    every: bool,
    seconds: float | None,
    reason: str | None,
    as_json: bool,
) -> int:
    """Have tasks not run by themselves, for some time or for good.

    A run that goes on is let finish.  --all --for makes a maintenance window.
    """
    _insist(names, every)
    if reason is not None and len(reason) > LONGEST_REASON:
        raise click.UsageError(f"--reason has at most {LONGEST_REASON} characters")
    asked = {"names": [*names], "all": every, "for": seconds, "reason": reason}
    found = ask(_client(config, socket), "tasks.pause", **asked)
    return _told(found, as_json, f"paused{_until(found)}", "paused already, for no shorter time")


def _until(found: dict[str, Any]) -> str:
    until, now = moments.moment(found.get("until")), moments.now()
    return "" if until is None else f" until {moments.clock(until, now)} ({moments.ahead(until, now)})"


@tasks.command(epilog="Example: supervisord-lite tasks resume vacuum")
@options.to_master
@names
@every
@as_json
def resume(config: str, socket: str | None, names: tuple[str, ...], every: bool, as_json: bool) -> int:
    """Have tasks that are paused or errored run again as scheduled.

    Failures are forgotten.  Of what was missed at most one run is made up for, if
    the task has missed = "once".
    """
    _insist(names, every)
    found = ask(_client(config, socket), "tasks.resume", names=[*names], all=every)
    return _told(found, as_json, "running again", "not paused")


def _insist(names: tuple[str, ...], every: bool) -> None:
    if bool(names) == every:
        raise click.UsageError("give either the names of tasks, or --all")


def _told(found: dict[str, Any], as_json: bool, changed: str, unchanged: str) -> int:
    if as_json:
        click.echo(json.dumps(found))
        return ClientExit.DONE
    for said, names in ((changed, found.get("changed")), (unchanged, found.get("unchanged"))):
        if names:
            click.echo(f"{said}: {task_lines.named(names)}")
    if not found.get("changed") and not found.get("unchanged"):
        click.echo("there are no tasks")
    return ClientExit.DONE


# -- running -------------------------------------------------------------------


@tasks.command(epilog="Example: supervisord-lite tasks run vacuum && echo done")
@options.to_master
@options.wait
@name
def run(config: str, socket: str | None, wait: bool, name: str) -> int:
    """Run a task now, whatever its state, and change none.

    --wait prints what it prints, and exits with its status: 128 and the signal's
    number if a signal ended it.  While it runs already, this is refused, or waits
    for that, as its overlap says.
    """
    client = _client(config, socket)
    if wait:
        return follow(client, name)
    found = ask(client, "tasks.run", name=name)
    waits = " when the run that goes on is over" if found.get("queued") else ""
    click.echo(f"{words.plain(name)}: run {found.get('run', '?')} begins{waits}")
    return ClientExit.DONE


@tasks.command(epilog="Example: supervisord-lite tasks history vacuum --output")
@options.to_master
@name
@click.option(
    "-n", "--limit", type=click.IntRange(1, KEPT_RUNS), default=20, show_default=True, metavar="COUNT"
)
@click.option("--output", is_flag=True, help="Show the last lines of each run, not only of what went wrong.")
@as_json
def history(*, config: str, socket: str | None, name: str, limit: int, output: bool, as_json: bool) -> int:
    """Show the last runs of a task, the newest first; also of one that was removed."""
    client = _client(config, socket)
    found = _runs(client, name, limit)
    if as_json:
        click.echo(json.dumps({"runs": found}))
    elif found:
        _show(task_lines.runs(found, width(), whole=output))
    elif name not in (known := client.call("tasks.list")):
        there = task_lines.named(known) or "none"
        raise ControlError(f"no task {name!r} and no history of one; there are: {there}")
    else:
        click.echo(f"{words.plain(name)} has not run yet")
    return ClientExit.DONE


def _runs(client: Client, name: str, limit: int) -> list[dict[str, Any]]:
    """All that was asked for, in as many replies as it needs."""
    found: list[dict[str, Any]] = []
    before: dict[str, int] = {}
    while len(found) < limit:
        part = client.call("tasks.history", name=name, limit=limit - len(found), **before)
        whole = part.get("whole")
        found += part["runs"] if whole is None else part["runs"][: max(1, whole)]
        if whole is None:
            break
        before = {"before": found[-1]["run"]}
    return found


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
