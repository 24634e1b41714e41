"""Celery, RQ and Redis, as docs/programs.md has them: no job is lost by a reload or a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program, wait_gone
from psutil import Process
from recipes import cook, ended, need
from redis import Redis
from reloading import hup, least, outcome, pids, swap, works
from rq import Queue, Worker
from rq.job import Job

pytestmark = pytest.mark.long
Start = Callable[..., Program]
Address = tuple[str, int]

SECONDS = 1.0  # that a job takes which is in hand at an interesting moment


def written(one: Program) -> list[str]:
    """What jobs have done so far."""
    path = one.folder / "written"
    return path.read_text().split() if path.exists() else []


# -- Celery ----------------------------------------------------------------------


def delay(one: Program, text: str, seconds: float = 0.0) -> None:
    """Give Celery a task, and wait until somebody has it."""
    call = f"import jobs; jobs.write.delay({text!r}, {seconds})"
    subprocess.run([sys.executable, "-c", call], cwd=one.folder, check=True, timeout=60)
    one.wait_until(lambda: not list((one.folder / "queue").glob("*.msg")))


@pytest.fixture
def celery(program: Start, tmp_path: Path) -> Program:
    need("celery")
    one, _ = cook(program, tmp_path, "Celery")
    return one.ready()


def test_celery_finishes_its_tasks_over_a_reload_and_a_stop(celery: Program) -> None:
    """The old one is warm while it leaves, and the new one takes what comes meanwhile."""
    delay(celery, "before", SECONDS)
    mark = hup(celery)
    celery.wait_for("worker.acknowledged", worker="celery.0", generation=1)
    delay(celery, "meanwhile")
    assert outcome(celery, mark)["event"] == "reload.done"
    assert least(celery, "celery") == 1
    assert sorted(written(celery)) == ["before", "meanwhile"]
    delay(celery, "last", SECONDS)
    assert ended(celery) == {"celery.0": (0, None)}
    assert written(celery)[-1] == "last"
    assert celery.report()["workers"][0]["acknowledged_after"] is not None


def test_celery_that_is_killed_leaves_no_process_of_its_own(celery: Program) -> None:
    """Its children are of its group."""
    children = Process(pid := celery.worker("celery.0")).children(recursive=True)
    assert len(children) == 2
    os.kill(pid, signal.SIGKILL)
    mark = celery.mark()
    celery.wait_for("worker.ready", since=mark, worker="celery.0")
    for child in children:
        wait_gone(child.pid)
    delay(celery, "again")
    celery.wait_until(lambda: written(celery) == ["again"])
    celery.stop()


# -- RQ and Redis ------------------------------------------------------------------


@pytest.fixture
def rq(program: Start, tmp_path: Path) -> tuple[Program, Redis]:
    need("redis-server", "rq")
    one, (host, _) = cook(program, tmp_path, "RQ and Redis")
    return one.ready(), Redis(host, 6379)


def enqueue(redis: Redis, text: str, seconds: float = 0.0) -> Job:
    """Give RQ a job."""
    return Queue(connection=redis).enqueue("jobs.write", text, seconds)


def started_or_done(one: Program, job: Job) -> None:
    """Wait until somebody has it."""
    one.wait_until(lambda: job.get_status() in ("started", "finished"))


def all_listen(one: Program, redis: Redis) -> None:
    """Wait until both are further than their start, in which TERM ends them at once."""
    one.wait_until(lambda: [w.get_state() in ("idle", "busy") for w in Worker.all(redis)] == [True, True])


def test_rq_finishes_its_jobs_over_a_reload_and_a_stop(rq: tuple[Program, Redis]) -> None:
    """Redis is away for a moment meanwhile, with `surge = 0`; it keeps what it knows."""
    one, redis = rq
    all_listen(one, redis)
    jobs = [enqueue(redis, f"before{number}", SECONDS) for number in (0, 1)]
    for job in jobs:
        started_or_done(one, job)
    before = pids(one, "rq")
    works(one)
    assert not set(before.values()) & set(pids(one, "rq").values())
    assert least(one, "rq") == 2
    assert sorted(written(one)) == ["before0", "before1"]
    all_listen(one, redis)
    last = enqueue(redis, "last", SECONDS)
    started_or_done(one, last)
    assert ended(one) == {"redis.0": (0, None), "rq.0": (0, None), "rq.1": (0, None)}
    assert written(one)[-1] == "last"


def test_the_workers_go_before_redis_and_come_after_it(rq: tuple[Program, Redis]) -> None:
    """At the start, in a reload and in the stop."""
    one, _ = rq
    works(one)
    one.stop()
    said = [(e["event"], e["worker"].split(".")[0], e["generation"]) for e in one.events if e.get("worker")]

    def first(*event: object) -> int:
        return said.index(event)  # type: ignore[arg-type]

    def last(*event: object) -> int:
        return len(said) - 1 - said[::-1].index(event)  # type: ignore[arg-type]

    assert first("worker.ready", "redis", 1) < first("worker.started", "rq", 1)
    assert first("worker.ready", "redis", 2) < first("worker.stopping", "rq", 1)
    assert last("worker.exited", "rq", 2) < first("worker.stopping", "redis", 2)


def test_redis_tells_its_state_and_acknowledges(rq: tuple[Program, Redis]) -> None:
    """By libsystemd, as under systemd."""
    one, redis = rq
    assert redis.set("key", "value")
    one.wait_shown("redis.0", lambda shown: shown["status"] == "Ready to accept connections")
    works(one)
    assert redis.get("key") == b"value"
    one.stop()
    one.wait_for("worker.acknowledged", worker="redis.0", generation=2)


def test_redis_that_is_killed_is_back_before_anybody_gives_up(rq: tuple[Program, Redis]) -> None:
    """RQ tries again by itself; what Redis had not saved is lost, as anywhere."""
    one, redis = rq
    mark = one.mark()
    os.kill(one.worker("redis.0"), signal.SIGKILL)
    one.wait_for("worker.ready", since=mark, worker="redis.0")
    job = enqueue(redis, "after")
    one.wait_until(lambda: job.get_status() == "finished")
    assert not [e for e in one.events[mark:] if e["event"] == "worker.failed" and e["pool"] == "rq"]
    one.stop()


def test_a_mistake_in_the_configuration_of_redis_brings_the_old_one_back(rq: tuple[Program, Redis]) -> None:
    """It could not be tried beside the old one, so it is away for longer; its data are there again."""
    one, redis = rq
    redis.set("key", "value")
    swap(one.folder / "redis.conf", "dir .", "dirr .")
    mark = hup(one)
    one.wait_for("worker.failed", since=mark, worker="redis.0")
    swap(one.folder / "redis.conf", "dirr .", "dir .")
    assert outcome(one, mark)["event"] == "reload.failed"
    one.wait_for("pool.ready", since=mark, pool="redis")
    assert redis.get("key") == b"value"
    one.stop()
