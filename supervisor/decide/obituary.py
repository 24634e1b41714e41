"""What is said of a worker that is gone."""

from __future__ import annotations

from supervisor.decide.actions import Note
from supervisor.decide.restarts import Verdict
from supervisor.decide.worker import Worker
from supervisor.exits import WORKER_DONE, WORKER_REPLACE, End, explain, signal_number


def stop_signal(worker: Worker) -> int | None:
    """The signal that asks it to leave and may end it: a target has a handler for its own."""
    if worker.settings.command is None:
        return None
    return signal_number(worker.settings.stop_signal)


def as_asked(worker: Worker, end: End, *, asked: bool) -> bool:
    """Whether the signal that ended it is the one that it was sent."""
    return asked and end.signal is not None and end.signal == stop_signal(worker)


def reason(worker: Worker, end: End, *, asked: bool) -> str:
    """One clause that says why it ended."""
    if as_asked(worker, end, asked=asked):
        return f"{end.signal_name}, as asked"
    return explain(end, worker.killed, worker.error)


def obituary(
    worker: Worker, end: End, verdict: Verdict, delay: float | None, now: float, *, stopping: bool
) -> Note:
    """``worker.exited`` where it was planned, asked for or forced, else ``worker.failed``."""
    asked = worker.asked_at is not None or (stopping and worker.killed is not None)
    willing = end.code in (WORKER_DONE, WORKER_REPLACE) or as_asked(worker, end, asked=asked)
    planned = willing and (asked or verdict is not Verdict.FAILURE)
    fields = {
        "code": end.code,
        "signal": end.signal_name,
        "reason": reason(worker, end, asked=asked),
        "last_status": worker.text,
        "uptime": now - worker.born_at,
        "planned": planned,
        "delay": delay,
    }
    return Note("worker.exited" if planned or asked else "worker.failed", worker, fields)
