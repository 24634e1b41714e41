"""The commands that talk to a running master over its control socket."""

from __future__ import annotations

import json

import click

from supervisor.cli import follow, options, watch
from supervisor.control.protocol import MOST_WORKERS
from supervisor.exits import ClientExit


@click.command(epilog="Example: supervisord-lite status --json | jq .pools")
@options.to_master
@click.option("--json", "as_json", is_flag=True, help="Print the status object as JSON.")
@click.option("--watch", "watching", is_flag=True, help="Refresh as things happen, until Ctrl-C.")
def status(config: str, socket: str | None, as_json: bool, watching: bool) -> int:
    """Show the master, its pools and their workers."""
    client = options.master(config, socket).client
    if watching:
        return watch.status(client, as_json)
    found = client.status()
    if as_json:
        click.echo(json.dumps(found))
    else:
        watch.draw(found)
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
    if wait:
        return follow.stop(master, force)
    master.client.call("stop", force=force)
    return ClientExit.DONE


@click.command(epilog="Example: supervisord-lite restart -c shop.toml")
@options.to_master
@options.wait
def restart(config: str, socket: str | None, wait: bool) -> int:
    """Stop, with all work finished, to be started again.

    The master leaves with status 4 (5 if work was cut).  Whoever started the
    master starts it again: systemd, or a loop in a shell.
    """
    master = options.master(config, socket)
    if wait:
        return follow.restart(master)
    master.client.call("restart")
    return ClientExit.DONE


@click.command(epilog="Example: supervisord-lite reload -c shop.toml")
@options.to_master
@options.wait
def reload(config: str, socket: str | None, wait: bool) -> int:
    """Read the configuration again, replace the workers."""
    del wait  # there is nothing to follow yet
    options.master(config, socket).client.call("reload")
    return ClientExit.DONE


@click.command(epilog="Example: supervisord-lite quiet -c shop.toml")
@options.to_master
@options.wait
def quiet(config: str, socket: str | None, wait: bool) -> int:
    """Take no new work, finish what there is, and stay."""
    master = options.master(config, socket)
    if wait:
        return follow.quiet(master)
    master.client.call("quiet")
    return ClientExit.DONE


@click.command(epilog="Example: supervisord-lite unquiet -c shop.toml")
@options.to_master
@options.wait
def unquiet(config: str, socket: str | None, wait: bool) -> int:
    """Take work again after 'quiet'."""
    master = options.master(config, socket)
    if wait:
        return follow.unquiet(master)
    master.client.call("unquiet")
    return ClientExit.DONE


@click.command(epilog="Example: supervisord-lite scale consumer 8")
@options.to_master
@options.wait
@click.argument("pool")
@click.argument("workers", type=click.IntRange(0, MOST_WORKERS))
def scale(config: str, socket: str | None, wait: bool, pool: str, workers: int) -> int:
    """Change how many workers a pool has, until the next start."""
    master = options.master(config, socket)
    if wait:
        return follow.scale(master, pool, workers)
    master.client.call("scale", pool=pool, workers=workers)
    return ClientExit.DONE


@click.command(epilog="Example: supervisord-lite events --json | jq -r .message")
@options.to_master
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def events(config: str, socket: str | None, as_json: bool) -> int:
    """Follow what happens, until Ctrl-C or the master leaves."""
    return watch.events(options.master(config, socket).client, as_json)


COMMANDS = (status, stop, restart, reload, quiet, unquiet, scale, events)
