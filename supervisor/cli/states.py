"""``quiet``, ``unquiet`` and ``scale`` with ``--wait``: until the status says that it is so."""

from __future__ import annotations

from collections.abc import Callable

import click

from supervisor.cli.follow import REFRESH, Status, following
from supervisor.cli.options import SLACK, Master
from supervisor.cli.progress import names
from supervisor.cli.stream import left
from supervisor.control.client import ControlError
from supervisor.exits import ClientExit

Missing = Callable[[Status], str | None]  # what is not as it was asked for, in words


def quiet(master: Master) -> int:
    """Quiet, until each worker that lives has said that it is."""

    def missing(status: Status) -> str | None:
        busy = [w for w in _living(status) if w["state"] != "quiet"]
        return f"not quiet yet: {len(busy)}{names(busy)}" if busy or status["state"] != "quiet" else None

    _until(master, missing, master.stop_timeout, "quiet")
    click.echo("quiet: no worker takes new work; 'supervisord-lite unquiet' ends this")
    return ClientExit.DONE


def unquiet(master: Master) -> int:
    """Un-quiet, until no worker is quiet."""

    def missing(status: Status) -> str | None:
        still = [w for w in _living(status) if w["state"] == "quiet"]
        return f"still quiet: {len(still)}{names(still)}" if still or status["state"] == "quiet" else None

    _until(master, missing, master.stop_timeout, "unquiet")
    click.echo("workers take work again")
    return ClientExit.DONE


def scale(master: Master, pool: str, workers: int) -> int:
    """Scale, until so many workers are there and ready, and no others."""

    def missing(status: Status) -> str | None:
        return _unscaled(status["pools"].get(pool) or {}, pool, workers)

    within = max(master.start_timeout, master.stop_timeout)
    _until(master, missing, within, "scale", pool=pool, workers=workers)
    click.echo(f"{pool}: {workers} ready")
    return ClientExit.DONE


def _unscaled(pool: Status, name: str, wanted: int) -> str | None:
    if pool.get("state") == "parked":
        raise ControlError(f"pool {name} is parked, the log says why; see 'supervisord-lite status'")
    there = pool.get("workers") or []
    ready = [w for w in there if w["state"] in {"ready", "quiet"}]
    if pool.get("desired") == wanted and len(ready) == len(there) == wanted:
        return None
    return f"{name}: {len(ready)} of {wanted} ready"


def _living(status: Status) -> list[Status]:
    return [w for pool in status["pools"].values() for w in pool["workers"] if w.get("pid")]


def _until(master: Master, missing: Missing, within: float, method: str, **params: object) -> None:
    """Ask for ``method``, then wait until nothing is missing."""
    with following(master.client) as followed:
        followed.ask(method, **params)
        try:
            for event in followed.news(REFRESH):
                if event is None:
                    status = followed.status()
                    if (lack := missing(status)) is None:
                        return
                    _insist(status, lack, followed.since() < within + SLACK, within + SLACK)
                    followed.screen.show(lack)
        except EOFError:
            raise left() from None


def _insist(status: Status, lack: str, in_time: bool, within: float) -> None:
    if status["state"] in {"stopping", "restarting"}:
        raise ControlError(f"the master is {status['state']}; {lack}")
    if not in_time:
        raise ControlError(f"not done within {within:g} s, {lack}; see 'supervisord-lite status'")
