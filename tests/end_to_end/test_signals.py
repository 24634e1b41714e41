"""Every signal there is, from every side: to the master, to its group, from a terminal, in floods."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
from collections.abc import Callable, Iterator

import pytest
from program import Program, wait_gone

from supervisor.boot import CRASHES, MEANINGLESS, SILENT, TO_MASTER, UNSTOPPABLE
from supervisor.exits import signal_name
from supervisor.unix.usage import DUMP_SIGNAL

Start = Callable[..., Program]

WAITS = """
    def run(worker):
        worker.wait()
"""
TWO = """
    [pools.a]
    target = "app:run"
    workers = 2
"""


def test_every_signal_has_its_place() -> None:
    """Acts, is ignored aloud, is silent, ends it with a core, or cannot be caught: exactly one of these."""
    kinds = [*TO_MASTER, *MEANINGLESS, *SILENT, *CRASHES, *UNSTOPPABLE]
    assert sorted(kinds) == sorted(signal.valid_signals())


def test_signals_without_a_meaning_are_heard_and_ignored(program: Start) -> None:
    """Each is told by name and changes nothing."""
    one = program(WAITS, TWO).ready()
    before = one.status()["pools"]
    for number in MEANINGLESS:
        one.signal(number)
        one.wait_for("signal.ignored", signal=signal_name(number))
    one.signal(*SILENT, signal.SIGUSR1, signal.SIGCHLD)
    after = one.status()["pools"]
    pids = [[w["pid"] for w in pools["a"]["workers"]] for pools in (before, after)]
    assert pids[0] == pids[1]
    assert after["a"]["restarts"] == 0
    one.stop(0)
    assert not one.noise


@pytest.mark.parametrize("number", [*CRASHES, signal.SIGKILL])
def test_a_master_that_is_killed_takes_its_workers_with_it(program: Start, number: int) -> None:
    """It dies of what it was sent; its workers hear of it from the kernel, drain and exit 0."""
    one = program(WAITS, TWO, before=("prlimit", "--core=0")).ready()
    one.signal(number)
    assert one.wait() == -number
    assert one.orphans_end() == {"a.0": 0, "a.1": 0}


def test_ttin_and_ttou(program: Start) -> None:
    """One worker more, one fewer in every pool, never fewer than one; then TERM."""
    one = program(WAITS, '[pools.a]\ntarget = "app:run"\n[pools.b]\ntarget = "app:run"').ready()
    one.signal(signal.SIGTTIN)
    one.wait_for("worker.ready", worker="a.1")
    one.wait_for("worker.ready", worker="b.1")
    one.signal(signal.SIGTTOU)
    one.wait_for("worker.exited", worker="a.1", code=0)
    one.wait_for("worker.exited", worker="b.1", code=0)
    one.signal(signal.SIGTTOU)
    one.wait_for("pool.scaled", since=one.mark())
    assert len(one.stop(0)["workers"]) == 2


def test_usr1_opens_the_log_anew(program: Start) -> None:
    """After the file was moved away, the next line is in a new one."""
    one = program(WAITS, TWO, master='log_file = "log"')
    log, old = one.folder / "log", one.folder / "log.1"
    one.wait_until(lambda: log.exists() and "master.ready" in log.read_text())
    log.rename(old)
    one.signal(signal.SIGUSR1, signal.SIGALRM)
    one.wait_until(lambda: log.exists() and "SIGALRM" in log.read_text())
    assert "SIGALRM" not in old.read_text()
    one.signal(signal.SIGTERM)
    one.wait(0)


# -- to workers -----------------------------------------------------------------------


def test_signals_to_a_worker_never_reach_the_master(program: Start) -> None:
    """TERM to each worker the moment it is born: it leaves, and the master neither stops nor stumbles."""
    one = program(WAITS, TWO + 'backoff = {initial = "1ms", max = "1ms"}')
    hit: set[int] = set()
    while len(hit) < 40:
        event = one.wait_for("worker.started", since=one.mark() if hit else 0)
        for event in one.events:
            if event["event"] == "worker.started" and event["pid"] not in hit:
                hit.add(event["pid"])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(event["pid"], signal.SIGTERM)
    assert one.find("master.stopping") is None
    one.stop(0)
    ends = {e["code"] for e in one.events if e["event"] in ("worker.exited", "worker.failed")}
    assert ends == {0}


# -- from a terminal --------------------------------------------------------------------


class Terminal:
    """A terminal whose foreground is the program's."""

    def __init__(self) -> None:
        self.ours, self.theirs = pty.openpty()
        # setsid(1) makes its stdin the controlling terminal; the shell is there to open it.
        self.before = ("sh", "-c", f'exec setsid -c "$@" < {os.ttyname(self.theirs)}', "sh")

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def hang_up(self) -> None:
        os.close(self.ours)
        self.ours = -1

    def close(self) -> None:
        for fd in (self.ours, self.theirs):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    one = Terminal()
    yield one
    one.close()


TELLS = """
    import os, signal
    def run(worker):
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: print("the worker heard", number, flush=True))
        print("session of its own:", os.getsid(0) == os.getpid() == os.getpgid(0), flush=True)
        worker.ready()
        while not worker.wait(60):
            pass
"""


def test_ctrl_c_reaches_the_master_alone(program: Start, terminal: Terminal) -> None:
    """One ordered stop, exit 0: workers are in sessions of their own."""
    one = program(TELLS, TWO + 'ready = "notify"', before=terminal.before).ready()
    terminal.type(b"\x03")
    one.wait(0)
    report = one.report()
    assert report["reason"] == "SIGINT"
    assert [w["code"] for w in report["workers"]] == [0, 0]
    assert one.noise == ["session of its own: True"] * 2


def test_ctrl_c_twice_forces(program: Start, terminal: Terminal) -> None:
    """The second one kills at once, exit 3."""
    app = """
        import threading
        def run(worker):
            worker.ready()
            threading.Event().wait()
    """
    one = program(app, TWO + 'ready = "notify"', before=terminal.before).ready()
    terminal.type(b"\x03")
    one.wait_for("worker.stopping")
    terminal.type(b"\x03")
    one.wait(3)


def test_ctrl_backslash_kills_at_once(program: Start, terminal: Terminal) -> None:
    """QUIT from the terminal: no drain, exit 3."""
    one = program(WAITS, TWO, before=terminal.before).ready()
    terminal.type(b"\x1c")
    one.wait(3)
    assert one.report()["reason"] == "SIGQUIT"


def test_ctrl_z_makes_it_quiet_and_does_not_suspend_it(program: Start, terminal: Terminal) -> None:
    """TSTP from the terminal is the documented one."""
    one = program(WAITS, TWO, before=terminal.before).ready()
    terminal.type(b"\x1a")
    one.wait_for("master.quiet")
    one.signal(signal.SIGCONT)
    one.wait_for("master.unquiet")
    one.stop(0)


def test_a_terminal_that_hangs_up_ends_nothing(program: Start, terminal: Terminal) -> None:
    """HUP comes to the session's leader, which reloads; it comes to no worker."""
    one = program(TELLS, TWO + 'ready = "notify"\nstable_after = 0', before=terminal.before).ready()
    terminal.hang_up()
    assert one.wait_for("reload.started")["reason"] == "SIGHUP"
    one.wait_for("reload.done")
    one.stop(0)
    assert one.find("worker.failed") is None
    assert set(one.noise) == {"session of its own: True"}


def test_workers_print_on_when_their_terminal_has_hung_up(program: Start, terminal: Terminal) -> None:
    """What a hangup makes of a terminal fails every write; workers write to pipes, new ones too."""
    app = """
        import os
        def run(worker):
            while not worker.wait(0.01):
                print("at work", flush=True)
                if not os.path.exists("hung up"):
                    continue
                open(f"printed by {worker.id} of {worker.generation}", "w").close()
    """
    one = program(
        app, TWO + "stable_after = 0", master='log_file = "log"',
        before=terminal.before, output=terminal.theirs,
    )  # fmt: skip
    log = one.folder / "log"
    one.wait_until(lambda: log.exists() and "master.ready" in log.read_text())
    terminal.hang_up()
    (one.folder / "hung up").touch()
    for slot in (0, 1):
        one.wait_until((one.folder / f"printed by a.{slot} of 2").exists)
    one.wait_until(lambda: "reload.done" in log.read_text())
    one.signal(signal.SIGTERM)
    one.wait(0)
    assert "worker.failed" not in log.read_text()


def test_term_to_the_whole_process_group(program: Start, terminal: Terminal) -> None:
    """Only the master is in it: one ordered stop."""
    one = program(WAITS, TWO, before=terminal.before).ready()
    os.killpg(one.pid, signal.SIGTERM)
    one.wait(0)
    assert [e["event"] for e in one.events].count("worker.stopping") == 2


# -- floods -----------------------------------------------------------------------------


def flood(one: Program, times: int, *numbers: int) -> None:
    """All of them so many times; the log is read now and then."""
    pid = one.pid
    for time in range(times):
        for number in numbers:
            os.kill(pid, number)
        if time % 500 == 0:
            one._read(0)


def test_term_works_after_100_000_signals(program: Start) -> None:
    """Standard ones merge, real-time ones queue, the wakeup socket fills: nothing is printed, none lost."""
    one = program(WAITS, TWO).ready()
    flood(one, 24_000, signal.SIGUSR1, signal.SIGALRM, signal.SIGPROF, signal.SIGCHLD)
    # Of these each waits in the kernel's queue, and taking one costs it a walk over all the others.
    flood(one, 2_000, signal.SIGRTMIN, signal.SIGRTMIN + 1)
    assert one.status()["state"] == "running"
    one.stop(0)
    assert not one.noise
    assert one.find("worker.failed") is None


def test_a_stopped_worker_that_finds_many_signals_hears_them(program: Start) -> None:
    """All at once, each handler on top of the others: on the stack of faulthandler the sixth is a SIGSEGV."""
    one = program(WAITS, TWO).ready()
    pid = one.worker("a.0")
    os.kill(pid, signal.SIGSTOP)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, DUMP_SIGNAL, signal.SIGCONT):
        os.kill(pid, number)
    one.wait_for("worker.failed", worker="a.0", pid=pid, code=0)  # so soon, unasked
    one.stop(0)


def test_a_flood_of_stops_is_one_stop(program: Start) -> None:
    """3,000 TERM, USR2 and HUP while workers leave: one report, exit 0."""
    app = """
        def run(worker):
            worker.wait()
            open("gate").read(1)
    """
    one = program(app, '[pools.a]\ntarget = "app:run"')
    os.mkfifo(one.folder / "gate")
    one.ready()
    flood(one, 1_000, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)
    gate = os.open(one.folder / "gate", os.O_RDWR)
    os.write(gate, b"!")
    one.wait(0)
    os.close(gate)
    assert one.report()["reason"] == "SIGTERM"


def test_200_workers_that_die_at_once_are_all_replaced(program: Start) -> None:
    """200 SIGCHLD merge into a few: every death is told and every slot filled again, then all stop."""
    one = program(WAITS, '[pools.a]\ntarget = "app:run"\nworkers = 200\nbackoff = {initial = "1ms"}').ready()
    first = {e["pid"] for e in one.events if e["event"] == "worker.started"}
    one.signal(signal.SIGSTOP)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    for pid in first:
        wait_gone(pid)
    one.signal(signal.SIGCONT)
    one.read_until(lambda: sum(e["event"] == "worker.failed" for e in one.events) == 200)
    one.read_until(lambda: sum(e["event"] == "worker.ready" for e in one.events) == 400)
    assert len(one.stop(0)["workers"]) == 200


def test_tstp_and_cont_in_quick_succession_leave_it_at_work(program: Start) -> None:
    """The last one counts, however close they come: TSTP then CONT never ends quiet."""
    one = program(WAITS, TWO).ready()
    for _ in range(300):
        one.signal(signal.SIGTSTP)
        one.signal(signal.SIGCONT)
    assert one.status()["state"] == "running"
    one.stop(0)
