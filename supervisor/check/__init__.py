"""Does what the settings name exist: every target and hook imported, in a child.

The child is a fresh interpreter with the folder, path and environment that a
worker would have, so nothing it imports can touch the caller.  It has bounded
time, and its whole process group is ended with it.  Binds and changes nothing;
knows nothing of the master.  What the child looks for is in `probe`; commands are
only looked at, in `programs`, files in `outputs`, and limits tried in `limits`.  `given` says what
is not checked.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from supervisor.check import limits, outputs, programs
from supervisor.check.given import notes
from supervisor.child.standing import variables
from supervisor.config.problems import KeyPath, Problem, line
from supervisor.settings import Account, Hooks, PoolSettings, Settings

__all__ = ["check", "notes"]

# alarm(2) ends a child that hangs when its parent is killed and can no longer do it
BOOT = """
import json, os, signal, sys
request, result = (int(word) for word in sys.argv[1:])
with open(request) as file: request = json.load(file)
signal.signal(signal.SIGALRM, signal.SIG_DFL)
signal.alarm(request["alarm"])
sys.path[:] = request["path"]
sys.argv[:] = [""]
from supervisor.check.probe import answer
if request["account"]:  # before any code of the application, as in a worker
    uid, gid, groups = request["account"]
    os.setgroups(groups), os.setresgid(gid, gid, gid), os.setresuid(uid, uid, uid)
answer(request, result)
os._exit(0)
"""
SPARE_SECONDS = 5
LONGEST = 3600.0  # poll(2) counts milliseconds in an int
WITHOUT_POOLS = 20.0  # for the hooks of the master alone: a reload waits for that


@dataclass(frozen=True)
class Wanted:
    """One thing to import: a reference, or a module alone, and where it is written."""

    path: KeyPath
    reference: str
    kind: Literal["target", "hook", "module"]


@dataclass(frozen=True)
class Place:
    """Whose surroundings to import in: those of the master or of one pool."""

    working_dir: str
    key: KeyPath  # where the folder is set
    environ: Mapping[str, str]
    wanted: tuple[Wanted, ...]
    account: Account | None = None  # who imports it, if somebody else


def check(settings: Settings) -> list[str]:
    """All that is wrong, a line each, as `ConfigError` has them."""
    seconds = min(LONGEST, max((p.start_timeout for p in settings.pools.values()), default=WITHOUT_POOLS))
    problems = [p for place in _places(settings) for p in _problems(place, settings, seconds)]
    for path, pool in _pools(settings):
        problems += programs.problems(settings, pool, path, _environment(settings, pool))
        problems += limits.problems(pool, path)
    problems += outputs.problems(settings)
    return [line(settings.file, problem) for problem in dict.fromkeys(problems)]


def _places(settings: Settings) -> Iterator[Place]:
    hooks = list(_hooks(settings.hooks, ("hooks",)))
    master, key = settings.master.working_dir, ("master", "working_dir")
    yield Place(master, key, os.environ, tuple(w for w in hooks if "on_worker_" not in str(w.path[1])))
    for path, pool in _pools(settings):
        if pool.target is None:  # a command imports nothing of ours
            continue
        wanted = [
            Wanted((*path, "target"), pool.target, "target"),
            *_hooks(pool.hooks, (*path, "hooks")),
            *(w for w in hooks if "on_worker_" in str(w.path[1]) or w.kind == "module"),
        ]
        folder, at = (pool.working_dir, (*path, "working_dir")) if pool.working_dir else (master, key)
        account = settings.accounts.get(pool.name) if os.geteuid() == 0 else None
        yield Place(folder, at, _environment(settings, pool), tuple(wanted), account)


def _pools(settings: Settings) -> Iterator[tuple[KeyPath, PoolSettings]]:
    """All that runs code of users, by where it is written: a run of a task is a pool of one worker."""
    yield from ((("pools", name), pool) for name, pool in settings.pools.items())
    for name, task in settings.tasks.items():
        yield ("tasks", name), task.as_pool(settings.master.stop_timeout)


def _hooks(hooks: Hooks, path: KeyPath) -> Iterator[Wanted]:
    for field in fields(hooks):
        values: tuple[str, ...] = getattr(hooks, field.name)
        key = "import" if field.name == "modules" else field.name
        for i, value in enumerate(values):
            at = (*path, key, i) if len(values) > 1 else (*path, key)
            yield Wanted(at, value, "module" if key == "import" else "hook")


def _environment(settings: Settings, pool: PoolSettings) -> dict[str, str]:
    own = {
        "SUPERVISOR_NAME": settings.master.name,
        "SUPERVISOR_POOL": pool.name,
        "SUPERVISOR_SLOT": "0",
        "SUPERVISOR_WORKER": f"{pool.name}.0",
        "SUPERVISOR_GENERATION": "0",
    }
    account = settings.accounts.get(pool.name) if pool.user is not None else None
    return {**os.environ, **(variables(account) if account else {}), **pool.env, **own}


def _problems(place: Place, settings: Settings, seconds: float) -> Iterator[Problem]:
    """A child after the other, until each reference was looked at or its module was the end of one."""
    left = list(place.wanted)
    while left:
        try:
            notes, end = _ask(place, left, settings, seconds)
        except OSError as error:
            at = place.key if error.filename == place.working_dir else ()
            yield Problem(at, f"cannot run {sys.executable} in {place.working_dir}: {error.strerror}")
            return
        yield from (Problem(left[n["at"]].path, n["problem"]) for n in notes if n.get("problem"))
        if notes and notes[-1].get("at") == len(left) - 1:
            return
        fatal = left[next((n["looking_at"] for n in reversed(notes) if "looking_at" in n), 0)]
        module = fatal.reference.partition(":")[0]
        yield Problem(fatal.path, f"cannot import {module!r}: {end}")
        left = [w for w in left[left.index(fatal) :] if w.reference.partition(":")[0] != module]


def _ask(
    place: Place, wanted: Iterable[Wanted], settings: Settings, seconds: float
) -> tuple[list[dict[str, Any]], str]:
    """What the child noted, and how it ended.

    Both ways go through memory files: no pipe that can fill up, and no
    grandchild that keeps one open.
    """
    request, result = os.memfd_create("request"), os.memfd_create("result")
    try:
        with open(request, "w", encoding="utf-8", closefd=False) as file:
            json.dump(_request(place, wanted, settings, seconds), file)
        os.lseek(request, 0, os.SEEK_SET)
        end = _run(place, (request, result), seconds)
        os.lseek(result, 0, os.SEEK_SET)
        with open(result, encoding="utf-8", closefd=False) as file:
            return _notes(file), end
    finally:
        os.close(request)
        os.close(result)


def _request(place: Place, wanted: Iterable[Wanted], settings: Settings, seconds: float) -> dict[str, Any]:
    account = place.account
    return {
        "account": account and (account.uid, account.gid, sorted({account.gid, *account.groups})),
        "references": [{"reference": w.reference, "kind": w.kind} for w in wanted],
        "path": [*settings.master.pythonpath, *(os.path.abspath(entry) for entry in sys.path)],
        "looked_in": ", ".join(settings.master.pythonpath),
        "alarm": int(seconds) + SPARE_SECONDS,
    }


def _notes(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Without the torso of a line that a dying child may leave."""
    return [json.loads(text) for text in lines if text.endswith("\n")]


def _run(place: Place, passed: tuple[int, int], seconds: float) -> str:
    child = subprocess.Popen(
        [sys.executable, "-c", BOOT, *map(str, passed)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=place.working_dir,
        env=place.environ,
        pass_fds=passed,
        start_new_session=True,
    )
    try:
        ended = _ended_within(child.pid, seconds)
    finally:
        # the group has a safe name as long as its leader is not reaped, dead or alive
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    return _words(child.returncode) if ended else f"it did not end within {seconds:g} s"


def _ended_within(pid: int, seconds: float) -> bool:
    """Without reaping."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(pidfd)


def _words(code: int) -> str:
    if code >= 0:
        return f"it ended the process with status {code}"
    names = {s.value: s.name for s in signal.Signals}
    return f"it ended the process by {names.get(-code, f'signal {-code}')}"
