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


def obituary(
    worker: Worker, end: End, verdict: Verdict, delay: float | None, now: float, *, stopping: bool
) -> Note:
    """``worker.exited`` where it was planned, asked for or forced, else ``worker.failed``."""
    asked = worker.asked_at is not None or (stopping and worker.killed is not None)
    as_asked = asked and end.signal is not None and end.signal == stop_signal(worker)
    willing = end.code in (WORKER_DONE, WORKER_REPLACE) or as_asked
    planned = willing and (asked or verdict is not Verdict.FAILURE)
    fields = {
        "code": end.code,
        "signal": end.signal_name,
        "reason": f"{end.signal_name}, as asked" if as_asked else explain(end, worker.killed, worker.error),
        "last_status": worker.text,
        "uptime": now - worker.born_at,
        "planned": planned,
        "delay": delay,
    }
    return Note("worker.exited" if planned or asked else "worker.failed", worker, fields)
