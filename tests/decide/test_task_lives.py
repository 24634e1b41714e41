"""Random lives of many tasks in virtual time; the laws are held after every plan."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from laws_of_tasks import REAL, gaps
from task_world import DAY, HOUR, MINUTE, Body, World, task

from supervisor.calendar import next_due
from supervisor.config import zones
from supervisor.decide.task_actions import StartRun
from supervisor.settings import TaskSettings

pytestmark = pytest.mark.long  # of the interpreter's version they depend least

YEAR = 365 * DAY
SCHEDULES = ["3600", "86400", "3600 82800 600", "never"]
BODIES = [
    Body(),
    Body(5.0),
    Body(0, "failed"),
    Body(2 * HOUR),
    Body(2 * HOUR, "failed"),
    Body(30.0, "timed out"),
    Body(1.0, "interrupted"),
]
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]

SETTINGS = st.builds(
    task,
    jitter=st.sampled_from([0.0, 0.0, 10.0, 2 * HOUR]),
    timeout=st.sampled_from([None, 60.0]),
    overlap=st.sampled_from(["skip", "queue"]),
    missed=st.sampled_from(["skip", "once"]),
    pause_after_failures=st.sampled_from([1, 0, 3]),
    retry_after=st.sampled_from([None, 60.0, DAY]),
)
TIMING = st.sampled_from(
    [{"every": 600.0}, {"every": HOUR}, {"every": DAY}, *({"schedule": text} for text in SCHEDULES)]
)
ONES = st.tuples(SETTINGS, TIMING).map(lambda pair: replace(pair[0], **{"every": None, **pair[1]}))
SPANS = st.sampled_from([HOUR, 0.0, 30.0, MINUTE, 0.4 * DAY, DAY, 3 * DAY])
JUMPS = st.sampled_from([HOUR, -HOUR, 0.5, -0.5, 30.0, -30.0, DAY, -DAY, 3.3 * DAY, -3.3 * DAY, YEAR, -YEAR])
SEEDS = st.integers(0, 2**32)
NTH = st.integers(0, 5)
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), SPANS),
        st.tuples(st.just("wait"), SPANS),
        st.tuples(st.just("jump"), JUMPS),
        st.tuples(st.just("restart"), SPANS),
        st.tuples(st.just("stop"), SPANS),
        st.tuples(st.just("hush"), st.booleans()),
        st.tuples(st.just("forks"), st.sampled_from([0.0, 5.0, HOUR])),
        st.tuples(st.just("stop unforked"), SPANS, SPANS),
        st.tuples(st.just("pause"), NTH, st.sampled_from([None, HOUR, 2 * DAY])),
        st.tuples(st.just("pause all"), st.sampled_from([None, HOUR])),
        st.tuples(st.just("resume"), NTH),
        st.tuples(st.just("resume all")),
        st.tuples(st.just("run"), NTH),
        st.tuples(st.just("change"), NTH, TIMING),
        st.tuples(st.just("remove"), NTH),
        st.tuples(st.just("killed on the brink"), NTH),
        st.tuples(st.just("disk"), st.sampled_from(["good", "full", "silent", "slow"])),
    ),
    max_size=25,
)


def born(ones: list[TaskSettings], how: int, **keys: Any) -> World:
    """Run n of a task does what the n-th body says, in an order that `how` chooses."""

    def body(start: StartRun) -> Body:
        return BODIES[0] if start.run % 3 else BODIES[(start.run // 3 + how) % len(BODIES)]

    named = [replace(one, name=f"t{n}") for n, one in enumerate(ones)]
    return World(named, body, random=Random(how).random, **keys)


def obey(w: World, command: tuple[Any, ...]) -> None:
    names = [one.name for one in w.settings]
    match command:
        case ("wait" | "jump" | "restart" | "stop" | "hush" as what, how):
            getattr(w, what)(how)
        case ("forks", seconds):
            w.forks = seconds
        case ("stop unforked", seconds, down):
            w.forks = HOUR
            w.wait(seconds)
            w.stop(down)
            w.forks = 0.0
        case ("pause all", seconds):
            w.pause(seconds=seconds)
        case ("resume all",):
            w.resume()
        case ("disk", "good" | "slow" as how):
            w.wake()
            w.disk = how
        case ("disk", how):
            w.disk = how
        case (what, nth, *how) if names:
            one_of_them(w, what, names[nth % len(names)], *how)


def one_of_them(w: World, what: str, name: str, how: Any = None) -> None:
    match what:
        case "pause":
            w.pause(name, seconds=how)
        case "resume":
            w.resume(name)
        case "run":
            w.run(name)
        case "killed on the brink":
            killed_on_the_brink(w, name)
        case "change":
            keys = {"every": None, "schedule": None, **how}
            w.configure(*(replace(one, **keys) if one.name == name else one for one in w.settings))
        case "remove":
            w.configure(*(one for one in w.settings if one.name != name))
            w.laws.removed(name)


def killed_on_the_brink(w: World, name: str) -> None:
    """A due time comes while a pause is on its way, and then the master dies."""
    w.wake()
    due = w.shown(name)["next_run"]
    w.wait(0.0 if due is None else max(0.0, min(due - w.wall, 3 * DAY) - 0.2))
    w.disk = "slow"
    w.pause(name)
    w.wait(0.3)
    w.restart()
    w.wake()
    w.resume(name)


def nobody_is_silenced(w: World) -> None:
    """Who runs will be due within two gaps of its schedule."""
    w.wake()
    w.hush(False)
    for one in w.settings:
        shown = w.shown(one.name)
        if shown["state"] == "running" and one.schedule not in ("never", *REAL):
            assert shown["next_run"] is not None
            assert shown["next_run"] - w.wall <= 2 * max(gaps(one)) + one.jitter + 2.0


@hypothesis_settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(ONES, min_size=1, max_size=4), COMMANDS, st.integers(0, 9))
def test_every_life_keeps_the_laws(ones: list[TaskSettings], commands: list[Any], how: int) -> None:
    w = born(ones, how)
    for command in commands:
        obey(w, command)
    nobody_is_silenced(w)


def anything(random: Random) -> tuple[Any, ...]:
    """What may happen to many tasks, mostly nothing."""
    name = random.randrange(200)
    return random.choice(
        [
            *[("wait", random.expovariate(1 / (4 * DAY)))] * 8,
            ("jump", random.choice([HOUR, -HOUR, DAY, -DAY, 30.0, -30.0, 20 * DAY, -20 * DAY])),
            ("restart", random.choice([0.0, 30.0, HOUR, 3 * DAY])),
            ("stop unforked", 20 * HOUR, random.choice([0.0, 30.0, HOUR, 3 * DAY])),
            ("forks", random.choice([0.0, 0.0, MINUTE])),
            ("hush", random.random() < 0.3),
            ("pause", name, random.choice([None, HOUR, 20 * DAY])),
            ("pause all", HOUR),
            ("resume", name),
            ("resume all",),
            ("run", name),
            ("change", name, {"every": random.choice([DAY, 7 * DAY])}),
        ]
    )


def any_task(random: Random, timing: dict[str, Any]) -> TaskSettings:
    return task(
        **timing,
        jitter=random.choice([0.0, 0.0, HOUR]),
        timeout=random.choice([None, 60.0]),
        overlap=random.choice(["skip", "queue"]),
        missed=random.choice(["skip", "once"]),
        pause_after_failures=random.choice([1, 0, 3]),
        retry_after=random.choice([None, HOUR, 3 * DAY]),
    )


def live(w: World, random: Random, years: float) -> int:
    """The number of runs."""
    end = w.now + years * YEAR
    while w.now < end:
        obey(w, anything(random))
        w.log.clear()  # the laws have read it
        w.written.clear()
    nobody_is_silenced(w)
    return len(w.runs)


@cache
def next_on(schedule: str, timezone: str, after: float) -> float | None:
    """By the real calendar, which is slow."""
    return next_due(task(schedule=schedule, timezone=timezone), after)


def by_calendar(settings: TaskSettings, after: float) -> float | None:
    return next_on(settings.schedule or "", settings.timezone or "", after)


@hypothesis_settings(max_examples=3, deadline=None, database=None)
@given(SEEDS)
def test_two_years_of_two_hundred_tasks_keep_the_laws(seed: int) -> None:
    random = Random(seed)
    spans = [DAY, 3 * DAY, 7 * DAY, 30 * DAY, 90 * DAY]
    timings: list[dict[str, Any]] = [{"every": span} for span in spans]
    timings += [{"schedule": f"{a:g} {b:g}"} for a in spans for b in spans]
    ones = [any_task(random, random.choice(timings)) for _ in range(200)]
    assert live(born(ones, seed, check=False), random, 2) > 2000


@hypothesis_settings(max_examples=2, deadline=None, database=None)
@given(SEEDS)
def test_two_years_of_real_schedules_keep_the_laws(seed: int) -> None:
    random = Random(seed)
    timings = [
        {"schedule": text, "timezone": zone, "zone": zones.read(zone, {})} for text in REAL for zone in ZONES
    ]
    ones = [any_task(random, random.choice(timings)) for _ in range(20)]
    w = born(ones, seed, calendar=by_calendar, check=False)
    assert live(w, random, 2) > 1000
