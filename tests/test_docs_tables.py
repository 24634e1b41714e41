"""The documentation is true: its tables say what the code says, its links lead somewhere."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT, anchor, column, headings, prose, table, text
from reading import settings

from supervisor.boot import TO_MASTER
from supervisor.child.attendant import HEARD
from supervisor.child.birth import Birth, environment
from supervisor.child.command import NOT_EXECUTABLE, NOT_FOUND
from supervisor.cli.commands import commands as cli
from supervisor.config import unbuilt
from supervisor.config.mistakes import keys
from supervisor.decide.actions import Finish, Sweep
from supervisor.decide.ledger import AGAIN_SECONDS, MOST_RUNS
from supervisor.decide.life import Life
from supervisor.decide.restarts import judge
from supervisor.decide.run import FAILED, INTERRUPTED, OK, TIMED_OUT
from supervisor.decide.schedule import GRACE
from supervisor.decide.standing import State
from supervisor.decide.stopping import Firmness, Phase
from supervisor.exits import WORKER_DONE, WORKER_FAILED, WORKER_REPLACE, End, Exit, signal_name
from supervisor.hooks import MASTER_MOMENTS, WORKER_MOMENTS
from supervisor.inner.lines import LAST_BYTES, LAST_LINES
from supervisor.inner.telling import BURST, RATE
from supervisor.sentences import WORDS
from supervisor.settings import TaskSettings
from supervisor.store import KEPT_SECONDS
from supervisor.store.connection import PATIENCE
from supervisor.stored import KEPT_RUNS
from supervisor.unix.title import Title
from supervisor.worker import Worker

SIGNALS_PAGE, TASKS_PAGE = "docs/signals-and-exits.md", "docs/tasks.md"


def test_the_signals() -> None:
    heard = {signal.name[3:] for signal in TO_MASTER} - {"CHLD"}
    assert set(column("README.md", "Signals")) == heard
    assert set(column(SIGNALS_PAGE, "Signals to a worker")) == {signal_name(number)[3:] for number in HEARD}


def test_the_exit_statuses() -> None:
    assert [int(cell) for cell in column("README.md", "Exit statuses")] == sorted(Exit)
    workers = [int(cell) for cell in column("README.md", "Exit statuses", 1)]
    assert workers == [WORKER_DONE, WORKER_FAILED, WORKER_REPLACE, NOT_EXECUTABLE, NOT_FOUND]
    units = column("docs/systemd.md", "What each exit status does")
    assert {int(cell) for cell in units if cell.isdigit()} == set(Exit)


def test_a_stop_only_gets_firmer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair of the table, by the decision core itself."""
    monkeypatch.chdir(tmp_path)
    for first, *statuses in table(SIGNALS_PAGE, "A stop only gets firmer"):
        for second, status in zip(("TERM", "INT", "QUIT", "USR2"), statuses, strict=True):
            assert outcome(first, second) == int(status), (first, second)


def outcome(*signals: str) -> int:
    life = Life(settings('[pools.a]\ntarget = "app:run"\nworkers = 0\n'), lambda: 0.0)
    wishes = {"TERM": Firmness.STOP, "QUIT": Firmness.FORCE, "USR2": Firmness.RESTART}
    for name in signals:
        if name == "INT":
            life.interrupt(name, 0.0)
        else:
            life.ask(wishes[name], name, 0.0)
    for _ in range(3):
        plan = life.plan(0.0)
        if any(isinstance(action, Sweep) for action in plan):
            life.alone()
        for action in plan:
            if isinstance(action, Finish):
                return action.status
    raise AssertionError("it did not finish")


def test_what_an_exit_means_that_nobody_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell of the table, by the function that judges."""
    monkeypatch.chdir(tmp_path)
    ends = {
        "4": [(End(code=4), 0.0), (End(code=4), 99.0)],
        "0, after reset_after": [(End(code=0), 99.0)],
        "0, sooner": [(End(code=0), 0.0)],
        "any other status, or a signal": [(End(code=1), 0.0), (End(signal=9), 99.0)],
    }
    rows = table(SIGNALS_PAGE, "What an exit means that nobody asked for")
    assert [row[0] for row in rows] == list(ends)
    for end, *verdicts in rows:
        for restart, verdict in zip(("always", "on-failure", "never"), verdicts, strict=True):
            pool = settings(f'[pools.a]\ntarget = "app:run"\nrestart = "{restart}"\n').pools["a"]
            for left, lived in ends[end]:
                assert judge(left, lived, asked=False, settings=pool).value == verdict


def test_the_phases_of_a_stop() -> None:
    phases = [phase.value for phase in Phase if phase is not Phase.DONE]
    assert column("README.md", "The stop, phase by phase") == phases


def test_the_hooks() -> None:
    assert column("README.md", "Hooks") == [*MASTER_MOMENTS, *WORKER_MOMENTS]


def test_the_environment_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = settings(f'[pools.a]\ntarget = "app:run"\nwatchdog = "30s"\nuser = "{os.geteuid()}"\n')
    account, listeners = found.accounts["a"], (("http", 3),)
    birth = Birth(
        found.master, found.pools["a"], 0, 1, 1, "/run/x.notify", 3, (1, 1), Title(0, 0), frozenset(),
        account, listeners,
    )  # fmt: skip
    named = [name for cell in column("README.md", "Files and environment", 1) for name in cell.split(", ")]
    assert sorted(named) == sorted(environment(birth))


def test_the_command_line() -> None:
    rows = table("README.md", "Command line")
    assert {name for name, _ in rows} == set(cli.commands)
    for name, what in rows:
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--\w+", what)) <= known


def test_the_events() -> None:
    """All that have a sentence, but those of the master's own processes."""
    named = {event for cell in column("README.md", "Events") for event in cell.split(", ")}
    told = {name for name in WORDS if not name.startswith("inner.")}
    assert named == told


def test_the_keys_of_a_task() -> None:
    """All of them, each with its default."""
    words = {"": None, "none": None, "that of the machine": None, "{}": {}}
    rows = table(TASKS_PAGE, "Keys")
    named = {key: words[default] if default in words else json.loads(default) for key, default, _ in rows}
    plain = dataclasses.asdict(TaskSettings("a"))
    assert named == {key: plain[key] for key in keys(TaskSettings)}


def test_the_states_of_a_task_and_how_its_runs_end() -> None:
    section = text(TASKS_PAGE).partition("## States\n")[2]
    assert f"| input | {' | '.join(state.value for state in State)} |" in section
    outcomes = " ".join(row[1] for row in table(TASKS_PAGE, "What a run is"))
    assert all(outcome in outcomes for outcome in (OK, FAILED, TIMED_OUT, INTERRUPTED))


def test_the_numbers_of_tasks() -> None:
    """What is bounded is bounded as it is said."""
    page = text(TASKS_PAGE)
    assert f"The last {LAST_LINES} lines, {LAST_BYTES >> 10} KiB at most" in page
    assert f"{RATE >> 20} MiB a second,\nand {BURST >> 20} MiB at once" in page
    assert f"Of each task the last {KEPT_RUNS} runs are kept" in page
    assert f"read for {KEPT_SECONDS / 86400:g} more days" in page
    assert f"of\nruns the last {MOST_RUNS}, and tried again every {AGAIN_SECONDS:g} s" in page
    assert f"locked by another program for {PATIENCE:g} s" in page
    assert GRACE == 60, "a minute"


def test_the_attributes_of_a_worker() -> None:
    """All that is public, and nothing else."""

    class Nobody:
        def send(self, **_: object) -> bool:
            return True

        def poke(self) -> None:
            pass

    worker = Worker("a.0", generation=1, options={}, link=Nobody())
    named = [cell.partition("(")[0] for cell in column("docs/worker.md", "The Worker")]
    assert set(named) == {name for name in dir(worker) if not name.startswith("_")}
    os.close(worker.fileno())


def test_what_is_not_built_is_named() -> None:
    """Each section that the configuration refuses stands in the README's list, and no other."""
    section = text("README.md").partition("## Not built yet\n")[2].partition("\n## ")[0]
    assert set(unbuilt.SECTIONS) == set(re.findall(r"`\[(\w+)\]`", section))


# -- links ---------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        place, _, part = target.partition("#")
        if not place.startswith(("http:", "https:")):
            file = page.parent / place if place else page
            assert file.exists(), target
            assert not part or part in [anchor(h) for h in headings(file)], target


def test_every_test_that_is_named_is_there() -> None:
    """No fault is said to be tested that is not."""
    known = re.findall(r"def (test_\w+)", "\n".join(f.read_text() for f in ROOT.glob("tests/**/test_*.py")))
    named = re.findall(r"`(test_\w+)`", text("docs/faults.md"))
    assert len(named) > 100
    assert not set(named) - set(known)
