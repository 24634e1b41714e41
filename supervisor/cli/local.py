"""The commands that need no running master: start, check, init, completion."""

from __future__ import annotations

import os

import click

from supervisor.cli import options, words
from supervisor.errors import StartError
from supervisor.exits import ClientExit


@click.command(epilog="Example: supervisord-lite start -c /etc/shop.toml --daemon")
@options.config
@click.option("--daemon", is_flag=True, help="Run in the background; return once all pools are ready.")
def start(config: str, daemon: bool) -> int:
    """Start the master and its workers, here or in the background.

    Ends with the master's exit status: 0 stopped, 1 could not start, 2 bad
    configuration, 3 work was cut, 4 and 5 restart me, 6 gave up, 100 already running.
    """
    from supervisor.config import warnings

    settings = options.settings(config)
    for line in warnings(settings):
        click.echo(line, err=True)
    _warn_of_the_other_supervisor()
    if daemon:
        from supervisor.cli.daemon import launch

        return launch(settings)
    from supervisor import boot

    return boot.start(settings)  # never comes back


def _warn_of_the_other_supervisor() -> None:
    """Supervisor (supervisord) has the same import name: its files in our folder are ours in its."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if os.path.exists(os.path.join(folder, "supervisord.py")):
        advice = "give each an environment of its own"
        click.echo(
            f"supervisord-lite: {folder} also holds files of Supervisor (supervisord); {advice}", err=True
        )


@click.command(epilog="Example: supervisord-lite check -c /etc/shop.toml && systemctl reload shop")
@options.config
def check(config: str) -> int:
    """Look for mistakes in the configuration.

    Validates the file, and imports targets and hooks in a child.  Binds nothing
    and changes nothing.  Says all that is wrong, one a line, and
    then exits 2.
    """
    from supervisor.check import check as problems_of
    from supervisor.check import notes
    from supervisor.config import warnings

    settings = options.settings(config)
    problems = problems_of(settings)
    for line in (*warnings(settings), *notes(settings), *problems):
        click.echo(line, err=True)
    if problems:
        return ClientExit.USAGE
    counts = [(len(settings.pools), "pool"), (sum(p.workers for p in settings.pools.values()), "worker")]
    counts += [(len(settings.tasks), "task")] if settings.tasks else []
    click.echo(f"{config}: good: {', '.join(words.count(number, word) for number, word in counts)}")
    return ClientExit.DONE


@click.command(epilog="Example: supervisord-lite init shop.toml")
@click.argument("file", default="config.toml")
def init(file: str) -> int:
    """Write a commented configuration to start from.

    FILE is config.toml unless named.  Never writes over an existing file.
    """
    from supervisor.config import template

    try:
        with open(file, "x", encoding="utf-8") as new:  # "x": also not through a dangling symlink
            new.write(template())
    except FileExistsError:
        raise StartError(f"{file} exists already and was not touched; name another FILE") from None
    except OSError as error:
        raise StartError(f"cannot write {file}: {error.strerror}; name another FILE") from error
    click.echo(f"wrote {file}; next: edit it, then 'supervisord-lite check -c {file}' and 'start -c {file}'")
    return ClientExit.DONE


SHELLS = ("bash", "zsh", "fish")


@click.command(epilog='Example: eval "$(supervisord-lite completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> int:
    """Print the completion script of a shell, by default of $SHELL."""
    from click.shell_completion import get_completion_class

    name = shell or os.path.basename(os.environ.get("SHELL", ""))
    if name not in SHELLS:
        raise click.UsageError(f"name one of {', '.join(SHELLS)}", ctx)
    found = get_completion_class(name)
    assert found is not None  # click has these three
    command = ctx.find_root()
    script = found(command.command, {}, "supervisord-lite", "_SUPERVISORD_LITE_COMPLETE")
    click.echo(script.source())
    return ClientExit.DONE


COMMANDS = (start, check, init, completion)
