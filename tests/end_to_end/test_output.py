"""What workers print: all of it gets to its file, whoever dies on the way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

from program import Event, Program
from reloading import configure, works

Start = Callable[..., Program]
QUICK = 'backoff = {initial = "10ms", max = "80ms"}\n'
TO_FILE = f'[pools.a]\ntarget = "app:run"\nstdout = "out.log"\n{QUICK}'

COUNTS = """
    def run(worker):
        n = 0
        while not worker.wait(0.002):
            print("line", n)
            n += 1
"""


def lines(one: Program, name: str = "out.log") -> list[str]:
    """Those that are in a file by now."""
    path = one.folder / name
    return path.read_text().splitlines() if path.exists() else []


def drainer(one: Program) -> int:
    """The pid of the one that is there now, once it is ready."""
    pids = [e["pid"] for e in one.events if e["event"] == "inner.ready" and e.get("worker") == "@output.0"]
    assert pids, one.log()
    return int(pids[-1])


def new_drainer(one: Program, since: int) -> int:
    one.wait_for("inner.ready", since=since, worker="@output.0")
    return drainer(one)


def numbers(texts: list[str]) -> list[int]:
    """Of ``line 7``; whatever else stands there is a failure."""
    assert all(text.startswith("line ") for text in texts), texts
    return [int(text.split()[1]) for text in texts]


# -- where it goes -----------------------------------------------------------------


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
            worker.wait()
            for n in range(50_000):
                print(worker.slot, n)
    """
    one = program(app, TO_FILE + "workers = 2").ready()
    one.stop(0)
    found = [line.split() for line in lines(one)]
    for slot in ("0", "1"):
        assert [int(n) for s, n in found if s == slot] == list(range(50_000))
    assert len(found) == 100_000


def test_a_file_rotates_at_its_size_and_two_pools_share_it(program: Start) -> None:
    """No file is larger than max_size, at most ``keep`` old ones, no line is torn or lost between two."""
    app = """
        def run(worker):
            worker.wait()
            for n in range(1000):
                print(worker.pool, n, "." * 80)
    """
    stdout = 'target = "app:run"\nstdout = { file = "out.log", max_size = "50KB", keep = 3 }\n'
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


# -- who dies on the way -------------------------------------------------------------


def test_what_is_in_the_pipe_outlives_the_drainer(program: Start) -> None:
    """Written while it was stopped, read by the next one after kill -9; the worker noticed nothing."""
    app = """
        import os
        def run(worker):
            print("before")
            while not os.path.exists("go"):
                worker.wait(0.01)
            for n in range(500):
                print("line", n)
            worker.status("written")
            worker.wait()
    """
    one = program(app, TO_FILE).ready()
    one.wait_until(lambda: lines(one) == ["before"])
    first = drainer(one)
    os.kill(first, signal.SIGSTOP)
    (one.folder / "go").touch()
    one.wait_shown("a.0", lambda w: w["status"] == "written")
    mark = one.mark()
    os.kill(first, signal.SIGKILL)
    assert new_drainer(one, mark) != first
    one.wait_until(lambda: len(lines(one)) == 501)
    assert numbers(lines(one)[1:]) == list(range(500))
    assert one.find("inner.failed", worker="@output.0")
    assert not one.find("worker.failed")
    one.stop(0)


def test_a_drainer_killed_in_full_run_costs_a_worker_nothing(program: Start) -> None:
    """Neither EPIPE nor a pause without end; what was written while there was none is there."""
    one = program(COUNTS, TO_FILE).ready()
    for _ in range(5):
        before = len(lines(one))
        one.wait_until(lambda before=before: len(lines(one)) > before + 5)
        mark = one.mark()
        os.kill(drainer(one), signal.SIGKILL)
        new_drainer(one, mark)
    one.stop(0)
    assert not one.find("worker.failed")
    found = numbers(lines(one))
    assert found == sorted(set(found))
    assert len(set(range(found[-1])) - set(found)) <= 5


def test_a_killed_worker_leaves_its_last_lines_in_the_log(program: Start) -> None:
    """The last 20 of stdout and stderr, also the one without an end."""
    app = """
        import os, signal, sys
        def run(worker):
            for n in range(30):
                print("line", n)
            print("no end", end="", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    one = program(app, TO_FILE + 'stderr = "out.log"\nrestart = "always"\n')
    failed = one.wait_for("worker.failed", worker="a.0")
    assert failed["output"] == [*(f"line {n}" for n in range(11, 30)), "no end"]
    one.stop(0)


def test_in_text_the_last_lines_stand_below_the_failure(program: Start) -> None:
    app = """
        import sys
        def run(worker):
            print("what I did")
            print("what went wrong", file=sys.stderr)
            sys.exit(7)
    """
    config = TO_FILE + 'stderr = "err.log"\nbackoff = { initial = "1h", max = "1h" }\n'
    one = program(app, config.replace(QUICK, ""), log_format="text")
    one.wait_for_line("| what went wrong")
    place = next(n for n, line in enumerate(one.noise) if "a.0 failed: exit status 7" in line)
    assert sorted(one.noise[place + 1 : place + 3]) == ["    | what I did", "    | what went wrong"]
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)


def test_the_master_killed_last_words_still_get_to_the_file(program: Start) -> None:
    """The workers hear of its death and finish; the drainer stays until the last of them is gone."""
    app = """
        def run(worker):
            print("begun")
            worker.wait()
            for n in range(1000):
                print("line", n)
            print("finished")
    """
    one = program(app, TO_FILE).ready()
    one.wait_until(lambda: lines(one) == ["begun"])
    one.signal(signal.SIGKILL)
    one.wait(-signal.SIGKILL)
    ends = one.orphans_end()
    assert ends == {"a.0": 0, "@output.0": 0}
    assert lines(one)[-1] == "finished"
    assert numbers(lines(one)[1:-1]) == list(range(1000))


def test_a_helper_that_keeps_the_pipe_open_delays_nothing(program: Start) -> None:
    """The worker's last lines are told at its death; what the helper says later is in the file, too."""
    app = """
        import os, sys, time
        def run(worker):
            if not os.path.exists("been"):
                open("been", "w").close()
                if not os.fork():
                    os.setsid()
                    while not os.path.exists("go"):
                        time.sleep(0.01)
                    print("the helper", flush=True)
                    time.sleep(100)
                print("the worker")
                sys.exit(7)
            worker.wait()
    """
    one = program(app, TO_FILE)
    failed = one.wait_for("worker.failed")
    assert failed["output"] == ["the worker"]
    (one.folder / "go").touch()
    one.wait_until(lambda: lines(one) == ["the worker", "the helper"])
    one.ready()
    report = one.stop(0)
    assert report["seconds"] < 15
    assert one.find("orphans.ended", count=1)


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
