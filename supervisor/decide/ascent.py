"""The way up: from the first hook to a master that is ready.

::

    sockets -> import -> on_start -> pools come up -> on_ready

Each turn goes on as far as what is waited for is true.  Why it goes no further
is said and left to the life, which has the way down.  After a reload with other
hooks the first steps are gone again, and what fails there harms nobody.  Knows
moments, sockets that are waited for and whether pools are up; knows nothing of
stops, signals or processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from supervisor.decide.actions import Action, Note
from supervisor.decide.moment import Moment
from supervisor.decide.opening import Opening
from supervisor.decide.pools import Pools
from supervisor.exits import Exit
from supervisor.settings import Seconds

IMPORT_SECONDS = 30.0  # for importing the modules of the master's hooks


@dataclass(frozen=True)
class Aborted:
    """Why the start goes no further."""

    step: str
    reason: str

    @property
    def status(self) -> Exit:
        """A hook that cannot be imported is a mistake in the file; one that raises may be bad luck."""
        return Exit.USAGE if self.step == "import" else Exit.FAILED


def moments(hook_timeout: Seconds) -> dict[str, Moment]:
    """All at which hooks of the master run, also those on the way down."""
    names = ("on_start", "on_ready", "on_stop", "on_exit")
    found = {name: Moment(name, hook_timeout, fatal=name == "on_start") for name in names}
    return {**found, "import": _import()}


def _import() -> Moment:
    return Moment("import", IMPORT_SECONDS, count=1)


class Ascent:
    """Walks the way up, and a part of it again for other hooks."""

    def __init__(self, pools: Pools, moments: dict[str, Moment], opening: Opening) -> None:
        self.was_ready = False
        self.aborted: Aborted | None = None
        self.gave_up = False  # a pool has, with which the whole master is to leave
        self._pools, self._moments, self._opening = pools, moments, opening
        self._renewed = False  # a reload has worked: its predecessor's hooks have run

    @property
    def holds_forks(self) -> bool:
        """Nothing is forked before ``on_start`` is over, nor while a hook's thread runs."""
        going_up = not (self._moments["import"].done and self._moments["on_start"].done)
        return going_up or self._moments["on_ready"].running

    def renew(self, hook_timeout: Seconds, *, other_hooks: bool) -> None:
        """A reload has worked: what is past is not done again, but the hooks may be others."""
        self._renewed = True
        for moment in self._moments.values():
            moment.timeout = hook_timeout if moment.name != "import" else moment.timeout
        if other_hooks:
            for name in ("on_start", *(["on_ready"] if self.was_ready else [])):
                self._moments[name].skip()
            self._moments["import"] = _import()

    # -- the plan --------------------------------------------------------------

    def plan(self, now: float) -> Iterator[Action]:
        """Go up as far as possible."""
        if self._moments["on_ready"].running:  # its time may end while a reload's hooks are imported
            yield from self._moments["on_ready"].plan(now)
        yield from self._opening.plan(now)
        if self._opening.failed is not None:
            self._abort("sockets", self._opening.failed)
        if self._opening.address is None:
            yield from self._run_hooks(now)

    def _run_hooks(self, now: float) -> Iterator[Action]:
        for name in ("import", "on_start"):
            moment = self._moments[name]
            yield from moment.plan(now)
            if moment.failed is not None and self._renewed:  # a reload's hooks: the old ones go on
                moment.failed = None
            if moment.failed is not None:
                self._abort(name, f"{name}: {moment.failed}")
            if moment.failed is not None or not moment.done:
                return
        yield from self._become_ready(now)

    def _become_ready(self, now: float) -> Iterator[Action]:
        pools = self._pools.users.values()
        self.gave_up = any(pool.gave_up for pool in pools)
        if self.gave_up:
            return
        if not self.was_ready and all(pool.full for pool in pools):
            self.was_ready = True
            yield Note("master.ready")
        if self.was_ready:
            yield from self._moments["on_ready"].plan(now)

    def _abort(self, step: str, reason: str) -> None:
        """Nothing was built up, so nothing is to be taken down: the other hooks do not run."""
        self.aborted = self.aborted or Aborted(step, reason)
        for name in ("on_stop", "on_exit"):
            self._moments[name].abandon()
