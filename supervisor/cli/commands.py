"""All commands by name."""

from __future__ import annotations

import difflib
import os

import click

from supervisor import __version__
from supervisor.cli import local, remote
from supervisor.cli.tasks import tasks
from supervisor.exits import ClientExit


class Commands(click.Group):
    """Click's group; subclassing is click's own way to change how a name is looked up."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in self.commands or name.startswith("-"):
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(name, self.commands)
        guess = f". Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise click.UsageError(f"no command '{name}'{guess}", ctx)


def _show_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"supervisord-lite {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    invoke_without_command=True,
    epilog="Start here: 'supervisord-lite init', then 'supervisord-lite start'.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
@click.pass_context
def commands(ctx: click.Context) -> int:
    """Keep pools of worker processes running, and end them without losing work."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    if ctx.invoked_subcommand is not None:
        return ClientExit.DONE
    click.echo(ctx.get_help(), err=True)
    return ClientExit.USAGE


for command in (*local.COMMANDS, *remote.COMMANDS, tasks):
    commands.add_command(command)
