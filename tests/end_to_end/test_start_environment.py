"""What the master is started with, and what its workers find: fds, signals, limits, environment."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from program import Program

from supervisor.control.client import NoMasterError

Start = Callable[..., Program]

WAITS = """
    def run(worker):
        worker.wait()
"""
ONE = '[pools.a]\ntarget = "app:run"\n'


def shell(script: str) -> list[str]:
    """A wrapper: `script` ends in exec "$@"."""
    return ["sh", "-c", script, "sh"]


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def signals_of(pid: int, kind: str) -> set[int]:
    """SigBlk, SigIgn or SigCgt of a process, as signal numbers."""
    line = re.search(rf"^{kind}:\s*(\w+)", proc(pid, "status"), re.MULTILINE)
    assert line
    return numbers(line[1])


def numbers(mask: str) -> set[int]:
    """32 and 33 are the C library's own: posix_spawn(3) leaves them ignored, and nobody can change that."""
    return {number + 1 for number in range(64) if int(mask, 16) >> number & 1} - {32, 33}


def fds(pid: int) -> dict[int, str]:
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


@pytest.mark.parametrize("closed", ["0<&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
def test_standard_descriptors_may_be_closed(program: Start, closed: str) -> None:
    """/dev/null takes their place, in master and worker, and no socket becomes one of them."""
    one = program(WAITS, ONE, before=shell(f'exec "$@" {closed}'))
    one.wait_until(lambda: is_running(one))
    [worker] = one.status()["pools"]["a"]["workers"]
    for pid in (one.process.pid, worker["pid"]):
        assert fds(pid).keys() >= {0, 1, 2}
        assert all(fds(pid)[number] == "/dev/null" for number in (0, 1, 2)[: closed.count("&-")])
    os.kill(one.process.pid, signal.SIGTERM)
    one.wait(0)


def is_running(one: Program) -> bool:
    try:
        return one.status()["state"] == "running"
    except NoMasterError:
        return False


INHERITED = """
import os, signal, sys
for name in ("CHLD", "PIPE", "HUP", "INT", "QUIT", "TSTP", "TTIN", "TTOU", "USR1", "USR2"):
    signal.signal(getattr(signal, "SIG" + name), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_inherited_signal_settings_do_no_harm(program: Start) -> None:
    """Ignored CHLD and blocked TERM in the caller: exits are seen, TERM works, workers are as new."""
    one = program(WAITS, ONE, before=[sys.executable, "-c", INHERITED]).ready()
    pid = one.worker("a.0")
    assert signals_of(pid, "SigBlk") == set()
    # As in any Python program: a write to a closed connection is an error, not the end.
    assert signals_of(pid, "SigIgn") == {signal.SIGPIPE, signal.SIGXFSZ}
    assert signals_of(pid, "SigCgt") >= {signal.SIGTERM, signal.SIGUSR2, signal.SIGQUIT}
    assert signals_of(one.pid, "SigBlk") == set()
    assert signal.SIGCHLD in signals_of(one.pid, "SigCgt")
    os.kill(pid, signal.SIGKILL)
    assert one.wait_for("worker.failed")["signal"] == "SIGKILL"
    one.stop(0)


def test_a_closed_connection_is_an_error_to_a_worker(program: Start) -> None:
    """SIGPIPE does not end a worker: the write raises BrokenPipeError; a child of it has the default."""
    app = """
        import socket, subprocess
        def run(worker):
            ours, theirs = socket.socketpair()
            theirs.close()
            try:
                ours.send(b"x")
            except BrokenPipeError:
                print("broken", flush=True)
            subprocess.run(["grep", "SigIgn", "/proc/self/status"])
            worker.wait()
    """
    one = program(app, ONE)
    one.wait_for_line("broken")
    assert numbers(one.wait_for_line("SigIgn").split()[1]) == set()
    one.stop(0)


@pytest.mark.parametrize("limits", [(20, 20), (256, None)])
def test_the_limit_of_descriptors(program: Start, limits: tuple[int, int | None]) -> None:
    """A low limit is enough for many workers; workers have the limits that the master was started with."""
    app = """
        import resource
        def run(worker):
            print("limits %d:%d" % resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)
            worker.wait()
    """
    soft, hard = limits
    found = f"{soft}:{hard or resource.getrlimit(resource.RLIMIT_NOFILE)[1]}"
    one = program(app, ONE + "workers = 12\n", before=["prlimit", f"--nofile={found}"]).ready()
    assert one.wait_for_line("limits") == f"limits {found}"
    for slot in range(12):
        mark, pid = one.mark(), one.worker(f"a.{slot}")
        os.kill(pid, signal.SIGKILL)
        one.wait_for("worker.ready", since=mark, worker=f"a.{slot}")
    report = one.stop(0)
    assert len(report["workers"]) == 12


def test_a_bare_environment_and_a_folder_that_is_gone(program: Start, tmp_path: Path) -> None:
    """No HOME, PATH or LANG, a path beyond ASCII, a working directory that was removed: it works."""
    folder = tmp_path / "größe ✓"
    folder.mkdir()
    app = """
        import os
        def run(worker):
            print("in", os.path.basename(os.getcwd()), sorted(os.environ), flush=True)
            worker.wait()
    """
    gone = shell('mkdir "$0.gone" && cd "$0.gone" && rmdir "$0.gone" && exec env -i "$@"')
    gone[-1] = str(tmp_path / "folder")
    one = program(app, ONE + 'env = {LC_ALL = "C"}\n', folder=folder, before=gone).ready()
    line = one.wait_for_line("in gr")
    assert "HOME" not in line
    assert "'LC_ALL'" in line
    assert one.cli("status").returncode == 0
    one.stop(0)


def test_what_a_worker_holds_open(program: Start) -> None:
    """Standard descriptors, its way to the master and its own wakeups: nothing else of the master's."""
    one = program(WAITS, ONE + "workers = 3\n").ready()
    held = fds(one.worker("a.2"))
    assert held.pop(0) == "/dev/null"
    assert {held.pop(1).split(":")[0], held.pop(2).split(":")[0]} == {"pipe"}
    kinds = sorted(re.sub(r"\[\d+\]| \(deleted\)", "", path) for path in held.values())
    assert kinds == [
        "/memfd:supervisor-stacks",
        "anon_inode:[eventfd]",
        "anon_inode:[pidfd]",
        *["pipe:"] * 2,
        "socket:",
    ]
    sockets = {link for link in held.values() if link.startswith("socket:")}
    assert sockets & set(fds(one.pid).values()), "the way to the master"
    one.stop(0)


def test_what_a_worker_finds_in_its_environment(program: Start) -> None:
    """Its names and the way to its master; nothing that the service manager meant for the master."""
    app = """
        import json, os
        def run(worker):
            os.write(1, f"env {json.dumps(dict(os.environ))}\\n".encode())
            worker.wait()
    """
    theirs = {
        "NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1",
        "LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "web", "KEPT": "yes",
    }  # fmt: skip
    more = 'workers = 2\nenv = {OWN = "pool"}\n[pools.b]\ntarget = "app:run"\nwatchdog = "60s"\n'
    one = program(app, ONE + more, env=theirs).ready()
    one.wait_until(lambda: len(said(one)) == 3)
    found = {env["SUPERVISOR_WORKER"]: env for env in said(one)}
    own = found["a.1"]
    expected = {
        "SUPERVISOR_NAME": "config", "SUPERVISOR_POOL": "a", "SUPERVISOR_SLOT": "1",
        "SUPERVISOR_WORKER": "a.1", "SUPERVISOR_GENERATION": "1", "OWN": "pool", "KEPT": "yes",
        "NOTIFY_SOCKET": str(one.folder / "run/m.notify"),
    }  # fmt: skip
    assert own | expected == own
    assert not [name for name in own if name.startswith(("LISTEN_", "WATCHDOG_"))]
    watched = found["b.0"]
    assert watched["WATCHDOG_USEC"] == "60000000"
    assert int(watched["WATCHDOG_PID"]) == one.worker("b.0")
    assert "OWN" not in watched
    assert one.find("service.unreachable"), "the notify socket of the master led nowhere: said once"
    one.stop(0)


def said(one: Program) -> list[dict[str, str]]:
    return [json.loads(line[4:]) for line in one.noise if line.startswith("env ")]


def test_titles_that_ps_shows(program: Start) -> None:
    """Master and workers can be told apart in ps."""
    one = program(WAITS, ONE).ready()
    assert proc(one.pid, "cmdline").strip("\0") == f"config: master ({one.config})"
    assert proc(one.worker("a.0"), "cmdline").strip("\0") == "config: a.0"
    one.stop(0)


@pytest.mark.parametrize("address", ["relative", "/" + "x" * 200, "vsock:2:1", "@nobody-listens-here"])
def test_a_notify_socket_that_is_none(program: Start, address: str) -> None:
    """NOTIFY_SOCKET that cannot be reached costs one line of the log."""
    one = program(WAITS, ONE, env={"NOTIFY_SOCKET": address}).ready()
    one.stop(0)
    assert sum(e["event"] == "service.unreachable" for e in one.events) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace of one's own needs root")
def test_without_proc(program: Start) -> None:
    """No /proc, as in a bare chroot: workers start, are replaced and drain; status has no numbers."""
    bare = ["unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh"]
    one = program(WAITS, ONE, before=bare).ready()
    os.kill(one.worker("a.0"), signal.SIGKILL)
    failed = one.wait_for("worker.failed")
    one.wait_for("worker.ready", since=one.events.index(failed))
    assert one.status()["pools"]["a"]["workers"][0]["memory"] is None
    one.stop(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace of one's own needs root")
def test_as_pid_1(program: Start) -> None:
    """In a pid namespace: orphans are reaped, TERM drains, the exit status is the one expected."""
    app = """
        import os
        def run(worker):
            if (child := os.fork()) == 0:
                os.setsid()
                os.fork()
                os._exit(0)
            os.waitpid(child, 0)
            worker.wait()
    """
    one = program(app, ONE, before=["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]).ready()
    assert one.pid == 1
    one.wait_for("orphan.reaped")
    outside = int(proc(one.process.pid, f"task/{one.process.pid}/children"))
    os.kill(outside, signal.SIGTERM)
    one.wait(0)
    assert [w["code"] for w in one.report()["workers"]] == [0]
