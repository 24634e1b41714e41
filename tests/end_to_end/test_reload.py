"""A reload with good code: all workers are new, and there were never fewer."""

from __future__ import annotations

from collections.abc import Callable

from program import Program
from reloading import code, least, pids, pool, serving, works

Start = Callable[..., Program]

SAYS = """
    VERSION = "one"
    def run(worker):
        print(worker.id, "runs version", VERSION, flush=True)
        worker.wait()
"""


def test_every_worker_is_new_and_none_was_missing(program: Start) -> None:
    """Good code: the new workers run it, in the same slots, and the old ones have left by themselves."""
    one = program(SAYS, pool(workers=3)).ready()
    before = pids(one)
    code(one, SAYS.replace("one", "two, which is newer"))
    done = works(one)
    assert serving(one) == {"a.0": 2, "a.1": 2, "a.2": 2}
    assert not set(before.values()) & set(pids(one).values())
    for name in before:
        one.wait_for_line(f"{name} runs version two, which is newer")
    assert least(one) == 3
    assert done["generation"] == 2
    assert done["changed"] == []
    left = [e for e in one.events if e["event"] == "worker.exited"]
    assert sorted(e["pid"] for e in left) == sorted(before.values())
    assert all(e["code"] == 4 and e["planned"] for e in left)
    assert one.find("worker.failed") is None
    one.stop(0)
