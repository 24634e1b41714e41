"""Where the output of workers goes, and what is told where it cannot be kept."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

from printed import COUNTS, QUICK, TO_FILE, lines, numbers
from program import Event, Program
from reloading import configure, works

Start = Callable[..., Program]


def test_each_stream_has_its_file_and_last_words_are_in_it_when_the_master_is_gone(program: Start) -> None:
    """Two files, or none; a command as well as a target; nothing of it in the master's own output."""
    app = """
        import sys
        def run(worker):
            print("out of", worker.id)
            print("err of", worker.id, file=sys.stderr)
            worker.wait()
            print("last words of", worker.id)
    """
    command = ["sh", "-c", "echo out of sh; echo err of sh >&2; exec sleep 100"]
    config = f"""
        [pools.a]
        target = "app:run"
        stdout = "out.log"
        stderr = "err.log"
        [pools.sh]
        command = {json.dumps(command)}
        stdout = "out.log"
        stderr = "null"
        [pools.silent]
        target = "app:run"
        stdout = "null"
        stderr = "null"
    """
    one = program(app, config).ready()
    one.wait_until(lambda: len(lines(one)) == 2 and len(lines(one, "err.log")) == 1)
    one.stop(0)
    assert sorted(lines(one)) == ["last words of a.0", "out of a.0", "out of sh"]
    assert lines(one, "err.log") == ["err of a.0"]
    assert not one.noise


def test_a_hundred_thousand_last_lines_are_complete_and_in_order(program: Start) -> None:
    """Printed after TERM by two workers into one file: the master waits until all is written."""
    app = """
        def run(worker):
            worker.ready()
            worker.wait()
            for n in range(50_000):
                print(worker.slot, n)
    """
    one = program(app, TO_FILE + 'workers = 2\nready = "notify"').ready()
    one.stop(0)
    found = [line.split() for line in lines(one)]
    for slot in ("0", "1"):
        assert [int(n) for s, n in found if s == slot] == list(range(50_000))
    assert len(found) == 100_000


def test_a_file_rotates_at_its_size_and_two_pools_share_it(program: Start) -> None:
    """No file is larger than max_size, at most ``keep`` old ones, no line is torn or lost between two."""
    app = """
        def run(worker):
            worker.ready()
            worker.wait()
            for n in range(1000):
                print(worker.pool, n, "." * 80)
    """
    stdout = (
        'target = "app:run"\nready = "notify"\nstdout = { file = "out.log", max_size = "50KB", keep = 3 }\n'
    )
    one = program(app, f"[pools.a]\n{stdout}[pools.b]\n{stdout}").ready()
    one.stop(0)
    names = sorted(path.name for path in one.folder.glob("out.log*"))
    assert names == ["out.log", "out.log.1", "out.log.2", "out.log.3"]
    assert all((one.folder / name).stat().st_size <= 50_000 for name in names)
    found = [line.split() for name in reversed(names) for line in lines(one, name)]
    for pool in "ab":
        mine = [int(n) for p, n, dots in found if p == pool and len(dots) == 80]
        assert mine == list(range(1000))[-len(mine) :]
    assert len(found) > 1000


def test_usr1_after_mv_goes_on_in_a_new_file(program: Start) -> None:
    """As logrotate does it: no line is lost, none is in both."""
    one = program(COUNTS, TO_FILE).ready()
    one.wait_until(lambda: len(lines(one)) > 10)
    os.rename(one.folder / "out.log", one.folder / "moved.log")
    one.signal(signal.SIGUSR1)
    one.wait_until(lambda: len(lines(one)) > 10)
    one.stop(0)
    found = numbers(lines(one, "moved.log") + lines(one))
    assert found == list(range(len(found)))


def test_another_file_by_a_reload(program: Start) -> None:
    """Also where nobody's output was drained before: new workers write to it, the old one where it did."""
    app = """
        def run(worker):
            print("generation", worker.generation)
            worker.wait()
            print("end of", worker.generation)
    """
    one = program(app, '[pools.a]\ntarget = "app:run"\nstable_after = "100ms"\n').ready()
    configure(one, ("[pools.a]", '[pools.a]\nstdout = "one.log"'))
    works(one)
    configure(one, ("one.log", "two.log"))
    works(one)
    one.stop(0)
    assert sorted(one.noise) == ["end of 1", "generation 1"]
    assert lines(one, "one.log") == ["generation 2", "end of 2"]
    assert lines(one, "two.log") == ["generation 3", "end of 3"]


# -- what cannot be kept ---------------------------------------------------------------


def lost(one: Program, reason: str) -> Event:
    one.wait_until(lambda: any(reason in e.get("reason", "") for e in losses(one)))
    return next(e for e in losses(one) if reason in e["reason"])


def losses(one: Program) -> list[Event]:
    return [e for e in one.events if e["event"] == "output.lost"]


def test_a_full_disk_is_told_and_counted_and_stops_nobody(program: Start) -> None:
    """Each line that finds no room is dropped; the worker works on."""
    app = """
        def run(worker):
            for n in range(100):
                with worker.job():
                    print("x" * 1000)
            worker.wait()
    """
    one = program(app, TO_FILE.replace("out.log", "/dev/full")).ready()
    told = lost(one, "No space left on device")
    assert told["level"] == "warning"
    assert "pools.a.stdout" in told["reason"]
    assert "/dev/full" in told["reason"]
    one.wait_shown("a.0", lambda w: w["jobs"] == 100)
    one.stop(0)
    assert sum(e["dropped"] for e in losses(one)) == 100


def test_a_line_of_a_megabyte_is_cut_and_told(program: Start) -> None:
    """Its beginning is kept; the lines before and behind it are whole."""
    app = """
        def run(worker):
            print("before")
            print("x" * 1_000_000)
            print("behind")
            worker.wait()
    """
    one = program(app, TO_FILE).ready()
    assert lost(one, "cut")["cut"] == 1
    one.stop(0)
    before, long, behind = lines(one)
    assert (before, behind) == ("before", "behind")
    assert long.startswith("xxx")
    assert long.endswith("...[cut]")
    assert len(long) < 20_000


def test_what_a_worker_says_to_the_master_is_not_in_its_own_file(program: Start) -> None:
    """Its error and traceback are an event of the log; the file has what the program itself wrote."""
    app = """
        import sys
        def run(worker):
            print("own words", file=sys.stderr)
            raise ValueError("broken")
    """
    one = program(app, f'[pools.a]\ntarget = "app:run"\nstderr = "err.log"\n{QUICK}')
    one.tracebacks_expected = True
    error = one.wait_for("worker.error")
    assert "ValueError: broken" in error["traceback"]
    failed = one.wait_for("worker.failed")
    assert failed["output"] == ["own words"]
    assert failed["reason"] == "exit status 1: app:run raised: ValueError: broken"
    one.stop(0)
    assert set(lines(one, "err.log")) == {"own words"}


def test_after_usr1_a_workers_error_is_in_the_new_log(program: Start) -> None:
    """Also that of a worker whose stderr is its own, and who was there before the log was moved."""
    app = """
        import os
        def run(worker):
            while not os.path.exists("go"):
                worker.wait(0.01)
            raise ValueError("broken")
    """
    config = f'[pools.a]\ntarget = "app:run"\nstderr = "err.log"\n{QUICK}'
    one = program(app, config, master='log_file = "m.log"')
    one.wait_until(lambda: any('"master.ready"' in line for line in lines(one, "m.log")))
    os.rename(one.folder / "m.log", one.folder / "moved.log")
    one.process.send_signal(signal.SIGUSR1)
    one.wait_until((one.folder / "m.log").exists)
    (one.folder / "go").touch()
    one.wait_until(lambda: any('"worker.error"' in line for line in lines(one, "m.log")))
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)
    assert not any('"worker.error"' in line for line in lines(one, "moved.log"))
