"""What ``--wait`` does: ask for something, then follow it to its end.

The events are subscribed to before the request is sent, so nothing is missed.
A stop is over when the stream ends; its last ``stop.report`` says how it went.
All else is over when the status says so.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from supervisor.cli import words
from supervisor.cli.options import Master
from supervisor.cli.progress import Screen, draining, names
from supervisor.control.client import Client, ControlError, Events, NoMasterError
from supervisor.errors import SupervisorError
from supervisor.exits import ClientExit, Exit

Status = dict[str, Any]

REFRESH = 0.2  # seconds between two looks at the status
SILENCE = 10.0  # without an event: is the master still turning?
SLACK = 5.0  # on top of a timeout of the configuration
SUCCESSOR = 30.0  # for a new master to answer after a restart
LEAVE = 5.0  # for the process to be gone after its last event


def stop(master: Master, force: bool) -> int:
    """Stop and follow; 0 if all work was finished, or was meant to be cut."""
    report = _to_the_end(master.client, "stop", force=force)
    if report["status"] == Exit.STOPPED:
        click.echo(f"stopped after {words.age(report['seconds'])}, all work finished")
        return ClientExit.DONE
    if force and report["status"] == Exit.CUT:
        click.echo(f"stopped by force after {words.age(report['seconds'])}{_cut(report)}")
        return ClientExit.DONE
    raise ControlError(
        f"stopped with status {report['status']}{_cut(report)}; the log shows what each was doing"
    )


def restart(master: Master) -> int:
    """Restart and follow until the next master runs; 0 if no work was cut."""
    report = _to_the_end(master.client, "restart")
    status = report["status"]
    if status not in {Exit.RESTART, Exit.RESTART_CUT}:
        raise ControlError(f"the master was stopped instead, with status {status}{_cut(report)}")
    found = _successor(master, status)
    if status == Exit.RESTART_CUT:
        raise ControlError(f"restarted as pid {found['pid']}, but work was cut{_cut(report)}; see the log")
    click.echo(f"restarted after {words.age(report['seconds'])}, now pid {found['pid']}")
    return ClientExit.DONE


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
        raise ControlError(f"pool {name} is parked, its workers kept failing; see 'supervisord-lite status'")
    there = pool.get("workers") or []
    ready = [w for w in there if w["state"] in {"ready", "quiet"}]
    if pool.get("desired") == wanted and len(ready) == len(there) == wanted:
        return None
    return f"{name}: {len(ready)} of {wanted} ready"


def _living(status: Status) -> list[Status]:
    return [w for pool in status["pools"].values() for w in pool["workers"] if w.get("pid")]


# Following the status.


def _until(
    master: Master, missing: Callable[[Status], str | None], within: float, method: str, **params: object
) -> None:
    """Ask for ``method``, then wait until nothing is missing."""
    until = time.monotonic() + within + SLACK
    with _screen() as screen, master.client.events() as events:
        master.client.call(method, **params)
        while (lack := missing(status := master.client.status())) is not None:
            if status["state"] in {"stopping", "restarting"}:
                raise ControlError(f"the master is {status['state']}; {lack}")
            if time.monotonic() >= until:
                raise ControlError(
                    f"not done within {within + SLACK:g} s, {lack}; see 'supervisord-lite status'"
                )
            screen.show(lack)
            _wait(events, screen)


def _wait(events: Events, screen: Screen) -> None:
    """For news, or a moment; a burst of events is one piece of news."""
    until = time.monotonic() + REFRESH
    try:
        while (left := until - time.monotonic()) > 0:
            event = events.next(timeout=left)
            if event is not None:
                screen.note(event)
    except EOFError:
        raise ControlError("the master left meanwhile; its log says why") from None


# Following a stop.


def _to_the_end(client: Client, method: str, **params: object) -> Status:
    """Ask for a stop of some kind, follow it until the process is gone, and return its report."""
    with _screen() as screen, client.events() as events, _process(events.pid) as gone:
        client.call(method, **params)
        report = _report(client, events, screen)
        gone(LEAVE)
    if report is None:
        raise ControlError("the master left without a report: was it killed? Its log says more")
    return report


def _report(client: Client, events: Events, screen: Screen) -> Status | None:
    start = time.monotonic()
    report = None
    with suppress(EOFError):
        while True:
            event = events.next(timeout=REFRESH if screen.live else SILENCE)
            if event is None:
                _look(client, screen, time.monotonic() - start)
            elif event.get("event") == "stop.report":
                report = event
            else:
                screen.note(event)
    return report


def _look(client: Client, screen: Screen, since: float) -> None:
    """Draw how far it is; a master that is stuck is an error, one that just left is not."""
    with suppress(NoMasterError):
        screen.show(draining(client.status(), since))


def _cut(report: Status) -> str:
    """``: consumer.0 killed after 30s with 1 in flight``: whom the stop was held up by."""
    killed = [_victim(worker) for worker in report.get("workers") or [] if worker.get("killed")]
    more = f" and {len(killed) - 5} more" if len(killed) > 5 else ""  # noqa: PLR2004
    return f": {', '.join(killed[:5])}{more}" if killed else ""


def _victim(worker: Status) -> str:
    found = f"{worker['worker']} (pid {worker.get('pid')}) killed"
    if worker.get("gone_after") is not None:
        found += f" after {words.age(worker['gone_after'])}"
    if worker.get("acknowledged_after") is None:
        found += ", never acknowledged"
    return found + (f", {worker['in_flight']} in flight" if worker.get("in_flight") else "")


@contextmanager
def _process(pid: int) -> Iterator[Callable[[float], None]]:
    """Hold on to the master's process, so that its end can be awaited: a pidfd, never a bare pid."""
    fd = -1
    with suppress(OSError):  # pid 0: another namespace; ESRCH, ENOSYS
        fd = os.pidfd_open(pid) if pid else -1
    try:
        yield lambda seconds: _await(fd, seconds)
    finally:
        if fd >= 0:
            os.close(fd)


def _await(fd: int, seconds: float) -> None:
    if fd >= 0:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll(seconds * 1000)


# After a restart.


def _successor(master: Master, status: int) -> Status:
    """The next master's status, once it runs."""
    with _screen() as screen:
        answers = time.monotonic() + SUCCESSOR
        while (found := _asked(master.client)) is None:
            screen.show("waiting for the next master")
            if time.monotonic() >= answers:
                advice = "is it run by systemd or a restart loop?"
                raise ControlError(
                    f"the old master left with status {status} and nothing started it again: {advice}"
                )
            time.sleep(REFRESH)
        ready = time.monotonic() + master.start_timeout + SLACK
        while found is None or found["state"] == "starting":
            screen.show("the next master is starting")
            if time.monotonic() >= ready:
                raise ControlError("the next master is not ready; see 'supervisord-lite status' and its log")
            time.sleep(REFRESH)
            found = _asked(master.client)
        return found


def _asked(client: Client) -> Status | None:
    with suppress(SupervisorError):
        return client.status()
    return None


@contextmanager
def _screen() -> Iterator[Screen]:
    screen = Screen()
    try:
        yield screen
    finally:
        screen.clear()
