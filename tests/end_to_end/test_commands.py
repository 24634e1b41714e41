"""Workers that are programs: how they start, what they are given, how they are stopped."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import pool, python, shell
from listening import fds
from program import Program, wait_gone
from psutil import Process
from reloading import configure, fails, pids, swap, works

Start = Callable[..., Program]

SLEEPS = ["sleep", "1000"]
NOTIFIES = 'ready = "notify"\n'
TRAPS = "trap 'echo heard {0}; exit 0' {0}; systemd-notify --ready; while :; do sleep 0.05; done"
# Says what it was sent, one after the other, and does not leave for it. It waits for signals and handles
# none: the handler of the second would run in the middle of the first one's.
LISTENS = """
    every = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, every)
    say("READY=1")
    while True:
        print("heard", signal.Signals(signal.sigwait(every)).name, flush=True)
"""


def state(pid: int) -> str:
    """One letter: S sleeps, T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def of_worker(report: dict[str, Any], name: str = "a.0") -> tuple[int | None, str | None, bool]:
    """Its exit in a report: status, signal, and whether it was killed."""
    (found,) = [w for w in report["workers"] if w["worker"] == name]
    return found["code"], found["signal"], found["killed"]


# -- the start -------------------------------------------------------------------


def test_a_program_that_is_not_there_is_told_everywhere(program: Start, tmp_path: Path) -> None:
    """With what was looked for, where, and what the kernel said: in the log and in `status`."""
    one = program(
        "", pool(["ngnix", "-g"], 'env = { PATH = "/nowhere:bin" }\nbackoff = { initial = "1h", max = "1h" }')
    )
    reason = f"cannot execute 'ngnix': No such file or directory (PATH=/nowhere:bin, in {tmp_path})"
    error = one.wait_for("worker.error", worker="a.0")
    assert (error["level"], error["reason"], error["generation"]) == ("error", reason, 1)
    failed = one.wait_for("worker.failed", worker="a.0")
    assert (failed["code"], failed["reason"]) == (127, f"exit status 127: {reason}")
    assert one.find("worker.ready") is None
    shown = one.wait_shown("a.0", lambda shown: shown["state"] == "backoff")
    assert shown["last_exit"]["code"] == 127
    assert reason in shown["last_exit"]["reason"]
    assert "exit status 127: cannot" in one.cli("status").stdout, "as much of it as a line holds"
    one.stop()


def test_a_reload_to_a_program_that_cannot_be_executed_says_why_and_changes_nothing(program: Start) -> None:
    """In `reload.failed`, in `status`, and in what the command `reload` prints."""
    one = program("", pool(SLEEPS, "workers = 2")).ready()
    before = pids(one)
    tool = one.folder / "tool"
    tool.write_text("#!/bin/no-such-shell\n")
    configure(one, ('["sleep", "1000"]', '["./tool"]'))
    denied = f"cannot execute './tool': Permission denied (./tool in {one.folder})"
    assert denied in fails(one)
    tool.chmod(0o755)
    missing = "its interpreter '/bin/no-such-shell' is not there"
    said = one.cli("reload")
    assert (said.returncode, said.stdout) == (1, "")
    assert missing in said.stderr
    assert missing in one.status()["last_reload"]["error"]
    assert pids(one) == before
    swap(tool, "/bin/no-such-shell", f"{sys.executable}\nimport time; time.sleep(1000)")
    works(one)
    assert one.status()["last_reload"] == {"ok": True, "error": None, "at": one.status()["last_reload"]["at"]}
    one.stop()


def test_path_of_env_finds_the_program_from_its_folder(program: Start, tmp_path: Path) -> None:
    """What `env` says is all that counts; a relative folder is below `working_dir`."""
    (tmp_path / "there/bin").mkdir(parents=True)
    (tmp_path / "there/bin/hello").write_text('#!/bin/sh\necho "hello $1 from $PWD"; exec /bin/sleep 1000\n')
    (tmp_path / "there/bin/hello").chmod(0o755)
    one = program("", pool(["hello", "a b"], 'working_dir = "there"\nenv = { PATH = "bin" }')).ready()
    assert one.wait_for_line("hello") == f"hello a b from {tmp_path}/there"
    one.stop()


def test_a_program_holds_its_standard_descriptors_and_its_sockets_and_no_more(program: Start) -> None:
    """Nothing of the master's, not even the way to say that it did not start; stdin is empty."""
    sockets = '[sockets.x]\nbind = "127.0.0.1:0"\n[sockets.y]\nbind = "unix:y"\n'
    more = 'sockets = ["y", "x"]\nstdout = "out"\nready = "notify"\nwatchdog = "1m"'
    config = sockets + pool(SLEEPS) + shell("systemd-notify --ready; exec sleep 1000", more, "b")
    one = program("", config).ready()
    assert sorted(fds(one.worker("a.0"))) == [0, 1, 2]
    assert sorted(fds(one.worker("b.0"))) == [0, 1, 2, 3, 4]
    assert fds(one.worker("a.0"))[0] == fds(one.worker("b.0"))[0] == "/dev/null"
    one.stop()


def test_limits_nice_and_umask_are_those_of_the_pool(program: Start) -> None:
    """As the program itself sees them."""
    config = shell(
        "echo $(ulimit -n) $(ulimit -c) $(umask) $(nice); exec sleep 1000",
        'limits = { nofile = 123, core = 0 }\nnice = 5\numask = "0027"',
    )
    one = program("", config).ready()
    assert one.wait_for_line("123") == "123 0 0027 5"
    one.stop()


def test_a_program_that_has_done_its_work_is_finished(program: Start) -> None:
    """With `restart = "on-failure"`: the pool is at strength without it."""
    one = program("", pool(["true"], 'restart = "on-failure"')).ready()
    one.wait_until(lambda: one.status()["pools"]["a"]["workers"] == [])
    assert one.status()["pools"]["a"]["state"] == "ready"
    assert one.find("worker.failed") is None
    one.stop()


def test_exit_4_of_a_program_means_nothing_special(program: Start) -> None:
    """Unasked it is a failure like any other; a target would be replaced at once by it."""
    one = program("", shell("exit 4", 'backoff = { initial = "1h", max = "1h" }'))
    failed = one.wait_for("worker.failed", worker="a.0")
    assert (failed["code"], failed["planned"], failed["reason"]) == (4, False, "exit status 4")
    assert failed["delay"] > 60
    one.stop()


# -- the stop ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TERM", "QUIT", "INT", "HUP", "USR1"])
def test_a_program_gets_its_stop_signal_and_may_die_of_it(program: Start, name: str) -> None:
    """At a reload and at a stop, and never another one; to die of it is as planned as to exit 0."""
    more = f'stop_signal = "{name}"\nstable_after = 0\nlimits = {{ core = 0 }}\n'
    one = program("", pool(SLEEPS, more) + shell(TRAPS.format(name), more + NOTIFIES, "b")).ready()
    works(one)
    report = one.stop()
    for end in (one.find("worker.exited", worker="a.0"), one.find("worker.exited", generation=2, pool="a")):
        assert end is not None
        assert (end["signal"], end["planned"]) == (f"SIG{name}", True)
        assert end["reason"] == f"SIG{name}, as asked"
    assert of_worker(report) == (None, f"SIG{name}", False)
    assert of_worker(report, "b.0") == (0, None, False)
    assert one.noise == [f"heard {name}"] * 2


def test_exits_on_demand_are_planned_whatever_they_are(program: Start) -> None:
    """Neither counts as a failure of its pool, and none changes the exit status of the master."""
    script = "trap 'exit {}' TERM; systemd-notify --ready; while :; do sleep 0.05; done"
    config = "".join(shell(script.format(code), 'ready = "notify"', f"p{code}") for code in (0, 1, 4, 143))
    one = program("", config).ready()
    ends = {w["worker"]: (w["code"], w["killed"]) for w in one.stop()["workers"]}
    assert ends == {f"p{code}.0": (code, False) for code in (0, 1, 4, 143)}
    assert one.find("worker.failed") is None


def test_a_program_that_is_suspended_is_woken_for_its_stop(program: Start) -> None:
    """CONT follows each stop signal, so nobody waits for its deadline."""
    one = program("", pool(SLEEPS)).ready()
    pid = one.worker("a.0")
    os.kill(pid, signal.SIGSTOP)
    one.wait_until(lambda: state(pid) == "T")
    report = one.stop()
    assert of_worker(report) == (None, "SIGTERM", False)
    assert report["seconds"] < 10


def test_a_program_that_ignores_its_stop_signal_is_killed_at_its_deadline(program: Start) -> None:
    """Exit 3, and the report names it."""
    one = program("", python(LISTENS, 'ready = "notify"\nstop_timeout = "500ms"')).ready()
    report = one.stop(3)
    assert of_worker(report) == (None, "SIGKILL", True)
    assert one.noise == ["heard SIGTERM", "heard SIGCONT"]


def test_quiet_is_nothing_to_a_program(program: Start) -> None:
    """TSTP would suspend it; so it hears nothing, and is shown as ready."""
    one = program("", python(LISTENS, 'ready = "notify"\nstop_timeout = "500ms"')).ready()
    one.signal(signal.SIGTSTP)
    one.wait_for("master.quiet")
    (shown,) = one.status()["pools"]["a"]["workers"]
    assert shown["state"] == "ready"
    one.signal(signal.SIGCONT)
    one.wait_for("master.unquiet")
    one.stop(3)
    assert one.noise == ["heard SIGTERM", "heard SIGCONT"]


def test_usr2_to_the_master_is_the_stop_signal_to_a_program(program: Start) -> None:
    """It knows nothing of successors."""
    script = "trap 'echo heard USR2' USR2; " + TRAPS.format("INT")
    one = program("", shell(script, 'ready = "notify"\nstop_signal = "INT"')).ready()
    one.signal(signal.SIGUSR2)
    one.wait(4)
    assert one.noise == ["heard INT"]


@pytest.mark.parametrize("name", ["TERM", "QUIT"])
def test_programs_get_term_when_their_master_is_killed(program: Start, name: str) -> None:
    """From the kernel, whatever their stop signal is."""
    more = f'ready = "notify"\nstop_signal = "{name}"'
    script = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nsay('READY=1')\ntime.sleep(1000)"
    one = program("", python(script, more)).ready()
    one.signal(signal.SIGKILL)
    assert one.orphans_end() == {"a.0": 7}
    one.wait(-signal.SIGKILL)


# -- its process group ---------------------------------------------------------------


def family(one: Program, size: int) -> list[Process]:
    """Its children, as soon as all are there."""
    worker = Process(one.worker("a.0"))
    one.wait_until(lambda: len(worker.children(recursive=True)) == size)
    return worker.children(recursive=True)


def test_what_a_program_has_started_goes_with_it(program: Start) -> None:
    """By TERM to its group when it is gone: it leaves by itself, is killed, or is stopped."""
    helper = "sh -c 'sleep 1000 & wait' & wait"
    one = program("", shell(helper, 'backoff = { initial = "1ms" }')).ready()
    for _ in range(2):
        children = family(one, 2)
        mark = one.mark()
        os.kill(one.worker("a.0"), signal.SIGKILL)
        for child in children:
            wait_gone(child.pid)
        one.wait_for("worker.ready", since=mark)
    family(one, 2)
    one.stop()


def test_what_ignores_term_in_a_group_is_killed_a_second_later(program: Start) -> None:
    """It is told, and is no cut work."""
    helper = f"{sys.executable} -c 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)'"
    one = program("", shell(f"{helper} & wait")).ready()
    (child,) = family(one, 1)
    one.wait_until(lambda: ignores_term(child.pid))
    one.stop(0)
    wait_gone(child.pid)
    assert one.find("orphans.ended", count=1)


def ignores_term(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (line.split()[1] for line in lines if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)
