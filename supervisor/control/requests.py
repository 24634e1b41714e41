"""What the methods of the control socket do: a read asks for the picture, a write becomes a wish.

What is done to tasks is answered once it is stored, so later.  Knows the decision
core; knows nothing of sockets or of JSON.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from supervisor import __version__
from supervisor.control.protocol import INVALID_PARAMS, METHOD_NOT_FOUND, REFUSED, Later, Params, Refusal
from supervisor.decide.life import Life
from supervisor.decide.stopping import Firmness
from supervisor.status import dated

COMMAND = "command"  # who asked, beside the signal that means the same


class Requests:
    """Answers one method after another; ``now`` tells the monotonic time."""

    def __init__(self, life: Life, picture: Callable[[], dict[str, Any]], now: Callable[[], float]) -> None:
        self._life, self._picture, self._now = life, picture, now
        self._numbers = itertools.count(1)

    def answer(self, method: str, params: Params, uid: int) -> object:
        """The result of a method whose parameters have been checked, or `Later`; raises a Refusal."""
        match method:
            case "ping":
                return "pong"
            case "version":
                return __version__
            case "status":
                return self._picture()
            case "stop":
                self._stop(force=params["force"])
            case "restart":
                self._restart()
            case "reload":
                return {"reload": self._reload()}
            case "quiet" | "unquiet":
                self._hush(method == "quiet")
            case "scale":
                self._scale(params["pool"], params["workers"])
            case _ if method.startswith("tasks."):
                return self._of_tasks(method, params, "root" if uid == 0 else f"uid {uid}")
            case _:
                raise Refusal(METHOD_NOT_FOUND, f"no method {method!r}")
        return True

    def _stop(self, *, force: bool) -> None:
        firmness, means = (Firmness.FORCE, "SIGQUIT") if force else (Firmness.STOP, "SIGTERM")
        self._life.ask(firmness, means, self._now(), by=COMMAND)

    def _restart(self) -> None:
        stop = self._life.stop
        if stop is not None and stop.firmness is not Firmness.RESTART:
            raise Refusal(REFUSED, "it is stopping already: start it again when it is gone")
        self._life.ask(Firmness.RESTART, "SIGUSR2", self._now(), by=COMMAND)

    def _reload(self) -> int:
        """The number of the reload that will include this request: its events carry it."""
        if self._life.stop is not None:
            raise Refusal(REFUSED, "it is stopping already: nothing is reloaded any more")
        return self._life.renew("SIGHUP", by=COMMAND)

    def _hush(self, on: bool) -> None:
        if self._life.stop is not None:
            raise Refusal(REFUSED, "it is stopping already, and workers take no new work")
        self._life.hush(on)

    def _of_tasks(self, method: str, params: Params, by: str) -> object:
        """What a person wants to know or to have done."""
        if method == "tasks.list":
            return dated(self._life.tasks.list())  # the whole picture reads /proc for each worker
        if not self._life.everybody.remembers:
            raise Refusal(REFUSED, "there are no tasks: the configuration has no [tasks.NAME]")
        if "all" in params and bool(params["names"]) is params["all"]:
            raise Refusal(INVALID_PARAMS, f"{method}: give either 'names', which are not none, or 'all'")
        tasks, later = self._life.tasks, Later(next(self._numbers))
        match method:
            case "tasks.pause":
                seconds, reason = params["for"], params["reason"]
                tasks.pause(later, params["names"], all=params["all"], seconds=seconds, reason=reason, by=by)
            case "tasks.resume":
                tasks.resume(later, params["names"], all=params["all"], by=by)
            case "tasks.run":
                tasks.run(later, params["name"], by)
            case _:
                tasks.history(later, params["name"], params["limit"], params["before"])
        return later

    def _scale(self, name: str, workers: int) -> None:
        pool = self._life.pools.get(name)
        if pool is None:
            known = ", ".join(self._life.pools)
            raise Refusal(REFUSED, f"no pool {name!r}; there are: {known}")
        if self._life.stop is not None:
            raise Refusal(REFUSED, "it is stopping already: nothing is scaled any more")
        self._life.resize(pool, workers, self._now())
