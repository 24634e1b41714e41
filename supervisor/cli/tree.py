"""The status object as lines for a person: as wide as the terminal, readable without colour.

Pure: an object in, lines out.  A key that an older or newer master does not
send is left out, never an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from supervisor.cli import moments, task_lines, words

Object = dict[str, Any]

COLOURS = {
    "ready": "green",
    "running": "green",
    "starting": "cyan",
    "reloading": "cyan",
    "quiet": "yellow",
    "stopping": "yellow",
    "restarting": "yellow",
    "degraded": "red",
    "parked": "red",
    "backoff": "red",
}


def lines(status: Object, width: int | None) -> Iterator[str]:
    """The tree, each line at most ``width`` wide; None: whole."""
    for text in _lines(status):
        yield _coloured(words.cut(text, width))


def _lines(status: Object) -> Iterator[str]:
    yield _master(status)
    if status.get("reason"):
        yield f"  {words.plain(status['reason'])}"
    if failed := _failed_reload(status.get("last_reload")):
        yield f"  {failed}"
    pools = status.get("pools") or {}
    for name, pool in pools.items():
        yield f"  {words.plain(name)}: {_pool(pool)}"
        if pool.get("reason"):
            yield f"    {words.plain(pool['reason'])}"
        workers = pool.get("workers") or []
        columns = max((len(str(w.get("id"))) for w in workers), default=0)
        mixed = len({w.get("generation") for w in workers}) > 1  # a reload, or what is left of an old one
        for worker in workers:
            yield f"    {_worker(worker, columns, _age(worker, pool) if mixed else '')}"
            yield from (f"      {words.plain(note)}" for note in _notes(worker))
    if tasks := status.get("tasks"):
        yield f"  {task_lines.summary(tasks)}"
        yield from (f"    {line}" for line in task_lines.not_stored(tasks, moments.now()))
        yield from (f"    {line}" for line in task_lines.notable(tasks))


def _master(status: Object) -> str:
    found = [
        f"{words.plain(status.get('name', '?'))}: {status.get('state', '?')}",
        f"pid {status.get('pid', '?')}",
        f"up {words.age(status.get('uptime') or 0)}",
        f"generation {status.get('generation', '?')}",
        f"version {status.get('version', '?')}",
    ]
    left = words.until(status.get("stop_deadline"))
    if left is not None:
        found.insert(1, f"{words.age(left)} until SIGKILL")
    return ", ".join(found)


def _failed_reload(last: Object | None) -> str | None:
    """That the configuration or the code on disk is not what runs."""
    if not last or last.get("ok") is not False:
        return None
    since = words.until(last.get("at"))
    when = "" if since is None else f" {words.age(-since)} ago"
    return f"last reload failed{when}: {words.plain(last.get('error') or 'see the log')}"


def _age(worker: Object, pool: Object) -> str:
    return " new" if worker.get("generation") == pool.get("generation") else " old"


def _pool(pool: Object) -> str:
    found = [str(pool.get("state", "?")), f"{pool.get('ready', '?')} of {pool.get('desired', '?')} ready"]
    if pool.get("restarts"):
        found.append(words.count(pool["restarts"], "restart"))
    return ", ".join(found)


def _worker(worker: Object, columns: int, age: str) -> str:
    """Columns, so that the eye can go down them: id, state, pid, uptime, memory (RSS), cpu, jobs."""
    pid = worker.get("pid")
    found = f"{words.plain(worker.get('id')):{columns}}  {worker.get('state', '?'):8}{age}  "
    if pid is None:
        return (found + str(worker.get("status") or "")).rstrip()
    memory, cpu = worker.get("memory"), worker.get("cpu")
    found += f"{pid:>7}  {words.age(worker.get('uptime') or 0):>6}  "
    found += f"{'' if memory is None else words.size(memory):>8}  {'' if cpu is None else f'{cpu:.0f}%':>4}  "
    return (found + _work(worker)).rstrip()


def _work(worker: Object) -> str:
    jobs, in_flight = worker.get("jobs"), worker.get("in_flight")
    if not jobs and not in_flight:
        return ""
    found = f"{jobs or 0} job{'' if jobs == 1 else 's'}"
    return found + (f", {in_flight} in flight" if in_flight else "")


def _notes(worker: Object) -> Iterator[str]:
    if worker.get("status") and worker.get("pid") is not None:
        yield f'"{worker["status"]}"'
    last = worker.get("last_exit")
    if last and (worker.get("restarts") or worker.get("pid") is None):
        yield f"last exit: {_exit(last)}"


def failures(status: Object) -> str:
    """``; consumer.0: exit status 1``: the last exit of each worker that is not there, a few of them.

    Before them the pools that say themselves why nobody is there.
    """
    pools: dict[str, Object] = status.get("pools") or {}
    told = [(name, pool["reason"]) for name, pool in pools.items() if pool.get("reason")]
    workers = [w for pool in pools.values() for w in pool.get("workers") or []]
    failed = [w for w in workers if w.get("last_exit") and w.get("state") not in {"ready", "quiet"}]
    told += [(w.get("id"), _exit(w["last_exit"])) for w in failed]
    return "".join(f"; {words.plain(who)}: {words.plain(why)}" for who, why in told[:3])


def _exit(last: Object) -> str:
    if last.get("reason"):
        what = str(last["reason"])
    else:
        what = str(last.get("signal") or f"status {last.get('code')}")
    since = words.until(last.get("at"))
    return what if since is None else f"{what}, {words.age(-since)} ago"


def _coloured(line: str) -> str:
    """Colour the first state that stands in the line; click drops it where it is not wanted."""
    for part in line.replace(":", " ").replace(",", " ").split():
        if part in COLOURS:
            before, after = line.split(part, 1)
            return before + click.style(part, fg=COLOURS[part]) + after
    return line
