"""``stop`` and ``restart`` with ``--wait``: to the end of the master, and on to the next one.

A stop is over when the stream of events ends; its last ``stop.report`` says how it went.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click

from supervisor.cli import words
from supervisor.cli.follow import REFRESH, SILENCE, Following, Status, following, shown
from supervisor.cli.options import SLACK, Master
from supervisor.cli.progress import draining
from supervisor.control.client import Client, ControlError, LeftError, NoMasterError
from supervisor.errors import SupervisorError
from supervisor.exits import ClientExit, Exit

SUCCESSOR = 30.0  # seconds for a new master to answer after a restart
LEAVE = 5.0  # for the process to be gone after its last event
NAMED = 5  # of those that were killed; the rest is a number


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


def _to_the_end(client: Client, method: str, **params: object) -> Status:
    """Ask for a stop of some kind, follow it until the process is gone, and return its report."""
    with following(client) as followed, _process(followed.pid) as gone:
        followed.ask(method, **params)
        report = _report(followed)
        gone(LEAVE)
    if report is None:
        advice = "was it killed, or not read in time? Its log says more"
        raise ControlError(f"the master left without a report: {advice}")
    return report


def _report(followed: Following) -> Status | None:
    report = None
    with suppress(EOFError):
        for event in followed.news(REFRESH if followed.screen.live else SILENCE):
            if event is None:
                _look(followed)
            elif event.get("event") == "stop.report":
                report = event
    return report


def _look(followed: Following) -> None:
    """Draw how far it is; a master that is stuck is an error, one that just left is not."""
    with suppress(NoMasterError, LeftError):
        followed.screen.show(draining(followed.status(), followed.since()))


def _cut(report: Status) -> str:
    """``: consumer.0 killed after 30s with 1 in flight``: whom the stop was held up by."""
    killed = [_victim(worker) for worker in report.get("workers") or [] if worker.get("killed")]
    more = f" and {len(killed) - NAMED} more" if len(killed) > NAMED else ""
    return f": {', '.join(killed[:NAMED])}{more}" if killed else ""


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


# -- after a restart -----------------------------------------------------------


def _successor(master: Master, status: int) -> Status:
    """The next master's status, once it runs."""
    with shown() as screen:
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
