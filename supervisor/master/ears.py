"""How the master takes in what its children, its own processes and its hooks say, or that they ended.

Each becomes a fact of the decision core, or an event.  Decides nothing; what
signals and clients want is heard by the master itself.
"""

from __future__ import annotations

from supervisor.child.birth import foreign_modules
from supervisor.decide.inner import is_inner
from supervisor.decide.life import Life
from supervisor.decide.pool import Pool
from supervisor.decide.pools import is_run
from supervisor.hook_thread import HookThread
from supervisor.master.births import Births
from supervisor.master.voice import Voice, identity
from supervisor.master.words import Words
from supervisor.messages import hear
from supervisor.unix.children import Children
from supervisor.unix.doors import Doors
from supervisor.unix.drains import Last, Lost, Said
from supervisor.unix.loop import Seen
from supervisor.unix.stores import Failed, Found, Saved


class Ears:
    """All that comes from below."""

    def __init__(
        self,
        life: Life,
        births: Births,
        doors: Doors,
        *,
        children: Children,
        voice: Voice,
        hooks: HookThread,
    ) -> None:
        self._life, self._births, self._doors = life, births, doors
        self._children, self._voice, self._hooks = children, voice, hooks
        self._words = Words(voice.tell)

    def note(self, seen: Seen, now: float) -> None:  # noqa: C901  # one kind of thing a case
        """Turn one thing that the loop saw into facts."""
        match seen.kind:
            case "notify":
                for receiver in self._doors.receivers():
                    for pid, message in receiver.messages():
                        self._hear(pid, message, now)
            case "template":
                self._births.learn()
            case "drain":
                self._note_output()
            case "meter":
                self._note_memory()
            case "store":
                self._note_stored()
            case "told":
                self._note_exec(seen.key, now)
            case "hook":
                self._note_hooks()
            case "exit":
                self.bury(seen.key, now)

    def _hear(self, pid: int, message: dict[str, str], now: float) -> None:
        if found := self._found(pid):
            pool, number = found
            hear(pool, number, message, now)
            if said := message.get("X_LOG"):
                self._words.hear(number, identity(pool.workers[number]), said, now)

    def _found(self, pid: int) -> tuple[Pool, int] | None:
        """Whose pid that is, and the worker's number."""
        number = self._children.number(pid)
        pool = None if number is None else self._life.whose(number)
        return None if number is None or pool is None else (pool, number)

    def _note_exec(self, number: int, now: float) -> None:
        pool = self._life.whose(number)
        if (
            self._births.executed(number)
            and pool is not None
            and pool.workers[number].settings.ready == "auto"
        ):
            pool.ready(number, now)

    def _note_output(self) -> None:
        for told in self._births.drains.seen():
            match told:
                case Last(number, lines):
                    self._voice.lines(number, lines)
                    self._life.runs.printed(number, lines)
                case Said(number, lines):
                    if run := self._life.runs.run_of(number):
                        self._voice.tell("task.output", task=run[0], run=run[1], lines=lines)
                case Lost(stream, dropped, cut):
                    self._voice.tell("output.lost", reason=str(told), stream=stream, dropped=dropped, cut=cut)

    def _note_memory(self) -> None:
        for pid, used in self._births.meter.answers().items():
            if found := self._found(pid):
                pool, number = found
                pool.measured(number, used)

    def _note_stored(self) -> None:
        for answer in self._births.stores.answers():
            match answer:
                case Saved(token):
                    self._life.tasks.saved(token)
                case Failed(token, why):
                    self._life.tasks.unsaved(token, why)
                case Found(token, rows, whole):
                    self._life.tasks.answered(token, rows, whole)

    def _note_hooks(self) -> None:
        for ended in self._hooks.results():
            if ended.error:
                self._voice.tell("hook.failed", hook=ended.hook, traceback=ended.error)
            if ended.moment == "import":
                self._births.foreign = foreign_modules(self._hooks.brought)
                self._life.imported(self._hooks.counts())
            error = ended.error.strip().rpartition("\n")[2] if ended.error else None
            self._life.hook_ended(ended.moment, ended.index, error)

    # -- children ------------------------------------------------------------------

    def bury(self, number: int, now: float) -> None:
        """A child may have ended."""
        buried = self._children.bury(number)
        if buried is None:
            return
        end, group = buried
        self._words.forget(number)
        pool = self._life.whose(number)
        lines_follow = self._births.drains.gone(number)
        if lines_follow and pool is not None and not is_run(pool.name):
            self._voice.await_lines(number)
        self._life.exited(number, end, now, lines_follow=lines_follow)
        if pool is not None and is_inner(pool.name):
            self._births.template_gone(pool.name)
        if group is not None:
            self._life.outlived(group, now)
