"""The options that commands share, and the master that they lead to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from supervisor.control.client import Client
from supervisor.errors import ConfigError
from supervisor.settings import Settings

Function = TypeVar("Function", bound=Callable[..., Any])

DEFAULT_TIMEOUT = 30.0

config = click.option(
    "-c",
    "--config",
    envvar="SUPERVISORD_LITE_CONFIG",
    default="config.toml",
    show_default=True,
    metavar="FILE",
    help="The configuration file; also $SUPERVISORD_LITE_CONFIG.",
)
socket = click.option(
    "--socket",
    metavar="PATH",
    help="The master's control socket; then no configuration is read.",
)
wait = click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Follow it to the end, or only ask for it.",
)


def to_master(function: Function) -> Function:
    """The options by which a client command finds its master."""
    return config(socket(function))


@dataclass(frozen=True)
class Master:
    """A running master as a command reaches it; its longest timeouts in seconds."""

    client: Client
    start_timeout: float = DEFAULT_TIMEOUT
    stop_timeout: float = DEFAULT_TIMEOUT


def settings(path: str) -> Settings:
    from supervisor.config import read  # heavy, and --socket needs none of it

    return read(path, os.environ)


def master(config: str, socket: str | None) -> Master:
    """The master named by ``socket``, or else by the file ``config``.

    Raises:
        ConfigError: the file cannot be used; says how to do without.
    """
    if socket is not None:
        return Master(Client(socket))
    try:
        found = settings(config)
    except ConfigError as error:
        advice = "supervisord-lite: to reach a running master without its file, use --socket PATH"
        raise ConfigError([*error.problems, advice]) from None
    return Master(Client(found.master.socket), longest_start(found), found.master.stop_timeout)


def longest_start(settings: Settings) -> float:
    return max((pool.start_timeout for pool in settings.pools.values()), default=DEFAULT_TIMEOUT)
