"""The commands that talk to a running master over its control socket."""

from __future__ import annotations

import json

import click

from supervisor.cli import ends, options, states, watch
from supervisor.cli.reload import reload as follow_reload
from supervisor.control.protocol import MOST_WORKERS
from supervisor.errors import ConfigError
from supervisor.exits import ClientExit


@click.command(epilog="Example: supervisord-lite status --json | jq .pools")
@options.to_master
@click.option("--json", "as_json", is_flag=True, help="Print the status object as JSON.")
@click.option("--watch", "watching", is_flag=True, help="Refresh as things happen, until Ctrl-C.")
def status(config: str, socket: str | None, as_json: bool, watching: bool) -> int:
    """Show the master, its pools and their workers.

    Of a worker: pid, uptime, memory (its RSS, where shared pages count in full;
    max_memory is about the PSS, where they count in part), CPU and jobs.
    """
    client = options.master(config, socket).client
    if watching:
        return watch.status(client, as_json)
    found = client.status()
    if as_json:
        click.echo(json.dumps(found))
    else:
        watch.draw(found)
    return ClientExit.DONE


def _ask(master: options.Master, method: str, **params: object) -> int:
    """Only ask, for ``--no-wait``."""
    master.client.call(method, **params)
    return ClientExit.DONE


@click.command(epilog="Example: supervisord-lite stop -c shop.toml")
@options.to_master
@click.option("--force", is_flag=True, help="SIGKILL now: work is cut.")
@options.wait
def stop(config: str, socket: str | None, force: bool, wait: bool) -> int:
    """Stop, with all work finished.

    Workers take no new work, finish what they have, and leave.  Exits 0 only if
    all work was finished, or --force was given.
    """
    master = options.master(config, socket)
    return ends.stop(master, force) if wait else _ask(master, "stop", force=force)


@click.command(epilog="Example: supervisord-lite restart -c shop.toml")
@options.to_master
@options.wait
def restart(config: str, socket: str | None, wait: bool) -> int:
    """Stop, with all work finished, to be started again.

    The master leaves with status 4 (5 if work was cut).  Whoever started the
    master starts it again: systemd, or a loop in a shell.  A file with mistakes is
    refused while the present master still runs.
    """
    master = options.master(config, socket)
    if master.mistakes:
        advice = "supervisord-lite: not restarted, the next master would not start: mend the file first"
        raise ConfigError([*master.mistakes, advice])
    return ends.restart(master) if wait else _ask(master, "restart")


@click.command(epilog="Example: supervisord-lite reload -c shop.toml")
@options.to_master
@options.wait
def reload(config: str, socket: str | None, wait: bool) -> int:
    """Read the configuration again, replace the workers one by one.

    Never fewer ready workers than before.  If the file has mistakes or the new
    workers fail, the old ones go on, and it exits 1 with the reason.
    """
    master = options.master(config, socket)
    return follow_reload(master) if wait else _ask(master, "reload")


@click.command(epilog="Example: supervisord-lite quiet -c shop.toml")
@options.to_master
@options.wait
def quiet(config: str, socket: str | None, wait: bool) -> int:
    """Take no new work, finish what there is, and stay."""
    master = options.master(config, socket)
    return states.quiet(master) if wait else _ask(master, "quiet")


@click.command(epilog="Example: supervisord-lite unquiet -c shop.toml")
@options.to_master
@options.wait
def unquiet(config: str, socket: str | None, wait: bool) -> int:
    """Take work again after 'quiet'."""
    master = options.master(config, socket)
    return states.unquiet(master) if wait else _ask(master, "unquiet")


@click.command(epilog="Example: supervisord-lite scale consumer 8")
@options.to_master
@options.wait
@click.argument("pool", shell_complete=options.complete_pool)
@click.argument("workers", type=click.IntRange(0, MOST_WORKERS))
def scale(config: str, socket: str | None, wait: bool, pool: str, workers: int) -> int:
    """Change how many workers a pool has, until the next start."""
    master = options.master(config, socket)
    return states.scale(master, pool, workers) if wait else _ask(master, "scale", pool=pool, workers=workers)


@click.command(epilog="Example: supervisord-lite events --json | jq -r .message")
@options.to_master
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def events(config: str, socket: str | None, as_json: bool) -> int:
    """Follow what happens, until Ctrl-C or the master leaves."""
    return watch.events(options.master(config, socket).client, as_json)


COMMANDS = (status, stop, restart, reload, quiet, unquiet, scale, events)
