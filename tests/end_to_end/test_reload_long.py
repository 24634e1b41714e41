"""A hundred reloads: the master holds as much afterwards as before."""

from __future__ import annotations

import os
from collections.abc import Callable

import psutil
import pytest
from program import Program
from reloading import least, pool, serving, works

Start = Callable[..., Program]

REVERSALS = 50  # two reloads each; a thousand in one go are run by benchmarks/reloads.py
WARM = 10  # until caches have their size
CONFIG = f"""
[sockets.one]
bind = "unix:one.sock"
{pool("a", 2, 'sockets = ["one"]')}
{pool("b", 1, "preload = true")}
{pool("c", 1, 'stdout = {{file = "c.log", max_size = "1KiB"}}')}
[hooks]
on_exit = "app:leaves"
"""
MORE = """
[sockets.two]
bind = "unix:two.sock"
[pools.d]
target = "app:run"
stable_after = 0
sockets = ["two"]
"""
APP = """
    def leaves(context):
        pass
    def run(worker):
        print("hello from", worker.id, flush=True)
        worker.wait()
"""


def held(one: Program) -> tuple[list[str], int, int]:
    """Descriptors by kind, threads, and children of the master."""
    folder = f"/proc/{one.pid}/fd"
    links = (os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder))
    kinds = sorted(link.split(":")[0] for link in links)
    return kinds, one.fds_and_threads()[1], len(psutil.Process(one.pid).children())


@pytest.mark.long
@pytest.mark.timeout(900)
def test_nothing_grows_over_a_hundred_reloads(program: Start) -> None:
    """Pools, sockets, templates and log files come and go: descriptors, threads, memory and children stay."""
    one = program(APP, CONFIG.replace('"200ms"', "0").replace("{{", "{").replace("}}", "}")).ready()
    good = one.config.read_text()

    def reverse() -> None:
        one.config.write_text(good + MORE)
        works(one)
        one.config.write_text(good)
        works(one)

    for _ in range(WARM):
        reverse()
    one.wait_until(lambda: len(psutil.Process(one.pid).children()) == 6)
    before, memory = held(one), psutil.Process(one.pid).memory_info().rss
    for _ in range(REVERSALS):
        reverse()
    one.wait_until(lambda: held(one) == before)
    grown = psutil.Process(one.pid).memory_info().rss / memory
    assert 0.9 < grown < 1.1
    assert serving(one) == {f"a.{n}": 2 * (WARM + REVERSALS) + 1 for n in range(2)}
    assert [least(one, name) for name in "abc"] == [2, 1, 1]
    one.stop(0)
