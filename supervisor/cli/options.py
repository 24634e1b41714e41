"""The options that commands share, and the master that they lead to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, TypeVar

import click

from supervisor.cli import elsewhere
from supervisor.control.client import Client, NoMasterError
from supervisor.errors import ConfigError, SupervisorError
from supervisor.settings import MasterSettings, Settings

Function = TypeVar("Function", bound=Callable[..., Any])

DEFAULT_TIMEOUT = 30.0
SLACK = 5.0  # seconds on top of a timeout of the configuration

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

    @wraps(function)
    def asked(config: str, socket: str | None, **more: Any) -> Any:
        try:
            return function(config=config, socket=socket, **more)
        except NoMasterError as error:
            if socket is not None:
                raise
            raise NoMasterError(f"{error}{elsewhere.advice(config)}") from None

    return config(socket(asked))  # type: ignore[return-value]  # as a click option is one


@dataclass(frozen=True)
class Master:
    """A running master as a command reaches it; its longest timeouts in seconds, as far as they are known."""

    client: Client
    start_timeout: float = DEFAULT_TIMEOUT
    stop_timeout: float = DEFAULT_TIMEOUT
    stable_after: Mapping[str, float] = field(default_factory=dict)  # by pool
    mistakes: tuple[str, ...] = ()  # of the file: a master that starts now would refuse it


def settings(path: str) -> Settings:
    from supervisor.config import read  # heavy, and --socket needs none of it

    return read(path, os.environ)


def master(config: str, socket: str | None) -> Master:
    """The master named by ``socket``, or else by the file ``config``.

    A file with mistakes still leads to the master that runs with an earlier one.

    Raises:
        ConfigError: the file cannot be used, and nobody is running; says how to do without.
    """
    if socket is not None:
        return Master(Client(socket))
    try:
        found = settings(config)
    except ConfigError as error:
        if (running := _running(config)) is not None:
            return replace(running, mistakes=tuple(error.problems))
        advice = "supervisord-lite: to reach a running master without its file, use --socket PATH"
        raise ConfigError([*error.problems, advice + elsewhere.advice(config)]) from None
    stable = {name: pool.stable_after for name, pool in found.pools.items()}
    return Master(Client(found.master.socket), longest_start(found), found.master.stop_timeout, stable)


def _running(config: str) -> Master | None:
    """The master of a file with mistakes, if ``[master]`` can be read and somebody answers there."""
    found = _master_of(config)
    if found is None:
        return None
    client = Client(found.socket)
    try:
        client.call("ping")
    except SupervisorError:
        return None
    return Master(client, stop_timeout=found.stop_timeout)


def _master_of(path: str) -> MasterSettings | None:
    from supervisor.config.master_alone import read

    return read(path, os.environ)


def longest_start(settings: Settings) -> float:
    return max((pool.start_timeout for pool in settings.pools.values()), default=DEFAULT_TIMEOUT)


def complete_pool(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The pools in the configuration, for the shell's completion."""
    try:
        pools = settings(ctx.params.get("config") or "config.toml").pools
    except SupervisorError:
        return []
    return [name for name in pools if name.startswith(incomplete)]
