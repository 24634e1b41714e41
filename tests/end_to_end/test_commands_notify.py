"""What programs say of themselves by sd_notify, in the ways in which they do, and what comes of it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from commands import pool, python, shell
from program import Program
from psutil import Process

Start = Callable[..., Program]

# Each says that it is ready, and by which way.
SYSTEMD = """
    import ctypes, os, time
    systemd = ctypes.CDLL("libsystemd.so.0")
"""
PYTHON = {
    # As most clients do it, Go's among them: one datagram, no library.
    "a datagram": """
        import os, socket, time
        way = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        way.sendto(b"STATUS=a datagram\\nREADY=1", os.environ["NOTIFY_SOCKET"])
    """,
    # As a shell with job control has its children.
    "another group": """
        import os, socket, time
        if not os.fork():
            os.setpgid(0, 0)
            way = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            way.sendto(b"STATUS=another group\\nREADY=1", os.environ["NOTIFY_SOCKET"])
    """,
    "a connection": """
        import os, socket, time
        way = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        way.connect(os.environ["NOTIFY_SOCKET"])
        way.send(b"READY=1\\nSTATUS=a connection\\n")
    """,
    "sd_notify": SYSTEMD
    + """
    assert systemd.sd_notify(0, b"READY=1\\nSTATUS=sd_notify") > 0
    """,
    "sd_pid_notify": SYSTEMD
    + """
    child = os.fork()
    if not child:
        os._exit(systemd.sd_pid_notify(os.getppid(), 0, b"READY=1\\nSTATUS=sd_pid_notify") < 1)
    assert os.waitpid(child, 0)[1] == 0
    """,
    "sd_notify_barrier": SYSTEMD
    + """
    child = os.fork()  # it is gone at once, and so has to wait until it was heard
    if not child:
        systemd.sd_notify(0, b"READY=1\\nSTATUS=sd_notify_barrier")
        os._exit(systemd.sd_notify_barrier(0, ctypes.c_uint64(20_000_000)) < 1)
    assert os.waitpid(child, 0)[1] == 0
    """,
}
SHELL = {
    "systemd-notify": "systemd-notify --ready --status=systemd-notify",
    "--pid of the shell": "systemd-notify --ready --pid=$$ --status='--pid of the shell'",
    "--pid of the caller": "systemd-notify --ready --pid --status='--pid of the caller'",
    "a pipe": "echo | systemd-notify --ready --status='a pipe'",
    "a subshell": "(systemd-notify STATUS='a subshell'; systemd-notify READY=1)",
}
NODE = """
    require('node:child_process').execFileSync('systemd-notify', ['--ready', '--status=node']);
    setInterval(() => {}, 1000);
"""
WAYS = {
    **{way: [sys.executable, "-c", dedent(code) + "time.sleep(1000)"] for way, code in PYTHON.items()},
    **{way: ["sh", "-c", f"{line}; exec sleep 1000"] for way, line in SHELL.items()},
    "node": ["node", "-e", NODE],
}


@pytest.mark.parametrize("way", WAYS)
def test_ready_and_status_come_by_every_way(program: Start, way: str) -> None:
    """From the worker, or from a process of its session."""
    argv = WAYS[way]
    if shutil.which(argv[0]) is None or shutil.which("systemd-notify") is None:
        pytest.skip("it is not installed")
    one = program("", pool(argv, 'ready = "notify"')).ready()
    one.wait_shown("a.0", lambda shown: shown["status"] == way)
    assert one.stop()["workers"][0]["signal"] == "SIGTERM"


def test_descriptors_that_a_program_sends_along_are_closed(program: Start) -> None:
    """As with FDSTORE=1: they are not kept, and none is lost in the master."""
    send = """
    import array
    held = array.array("i", [os.open("held", os.O_CREAT) for _ in range(10)])
    say("READY=1")
    for _ in range(50):
        way.sendmsg([b"FDSTORE=1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, held)])
    say("STATUS=sent")
    time.sleep(1000)
    """
    one = program("", python(send, 'ready = "notify"')).ready()
    one.wait_shown("a.0", lambda shown: shown["status"] == "sent")
    assert "held" not in [os.path.basename(file.path) for file in Process(one.pid).open_files()]
    one.stop()


def test_a_shell_and_a_child_of_it_both_speak_for_the_worker(program: Start, tmp_path: Path) -> None:
    """One after the other; what the last one says counts."""
    os.mkfifo(tmp_path / "gate")
    child = "systemd-notify --status=child; exec sleep 1000"
    script = f"systemd-notify --ready --status=shell; read line < gate; sh -c '{child}' & wait"
    one = program("", shell(script, 'ready = "notify"')).ready()
    one.wait_shown("a.0", lambda shown: shown["status"] == "shell")
    (tmp_path / "gate").write_text("go on\n")
    one.wait_shown("a.0", lambda shown: shown["status"] == "child")
    one.stop()


def test_ready_by_exec_is_not_waited_for(program: Start) -> None:
    """A program that never says a word is ready once it runs."""
    one = program("", pool(["sleep", "1000"])).ready()
    assert os.readlink(f"/proc/{one.worker('a.0')}/exe").endswith("sleep")
    one.stop()


def test_one_that_never_says_ready_is_killed_and_more_time_is_given_on_request(program: Start) -> None:
    """EXTEND_TIMEOUT_USEC= counts from when it is said."""
    slow = """
    if os.path.exists("again"):
        say("EXTEND_TIMEOUT_USEC=60000000")
        time.sleep(1)
        say("READY=1")
    open("again", "w").close()
    time.sleep(1000)
    """
    one = program("", python(slow, 'ready = "notify"\nstart_timeout = "500ms"')).ready()
    killed = one.wait_for("worker.killed", worker="a.0")
    assert killed["reason"].startswith("not ready in 0.")
    failed = one.wait_for("worker.failed", worker="a.0")
    assert failed["reason"].startswith("SIGKILL by supervisord-lite: not ready in ")
    assert len([e for e in one.events if e["event"] == "worker.failed"]) == 1
    one.stop()


def test_a_stop_is_acknowledged_by_stopping(program: Start) -> None:
    """Then the report tells after which time; who does not say it is not accused for it."""
    says = """
    def leave(*_):
        say("STOPPING=1", "STATUS=draining")
        sys.exit()
    signal.signal(signal.SIGTERM, leave)
    say("READY=1")
    time.sleep(1000)
    """
    silent = shell("systemd-notify --ready; exec sleep 1000", 'ready = "notify"', "b")
    one = program("", python(says, 'ready = "notify"') + silent).ready()
    report = {w["worker"]: w for w in one.stop()["workers"]}
    assert report["a.0"]["acknowledged_after"] is not None
    assert (report["a.0"]["code"], report["a.0"]["killed"]) == (0, False)
    assert report["b.0"]["acknowledged_after"] is None
    assert one.find("worker.acknowledged", worker="a.0")
    assert one.find("worker.exited", worker="a.0")["last_status"] == "draining"
    assert one.find("stop.waiting") is None


BEATS = """
    print(os.environ["WATCHDOG_PID"] == str(os.getpid()), os.environ["WATCHDOG_USEC"], flush=True)
    signal.signal(signal.SIGABRT, lambda *_: print("aborted", flush=True))
    say("READY=1")
    for number in range({times}):
        say("WATCHDOG=1", f"STATUS={{number}}")
        time.sleep(0.2)
    while True:
        time.sleep(1000)
"""


def test_a_program_that_beats_lives_and_one_that_is_silent_is_aborted_killed_and_replaced(
    program: Start,
) -> None:
    """ABRT first, as from systemd, so that it can write down what it was at."""
    one = program("", python(BEATS.format(times=15), 'ready = "notify"\nwatchdog = "1500ms"')).ready()
    one.wait_for("worker.killed", worker="a.0")
    assert one.wait_for_line("aborted")
    assert one.noise[0] == "True 1500000"
    killed = one.find("worker.killed")
    assert killed is not None
    assert killed["reason"].startswith("no heartbeat for ")
    assert killed["uptime"] > 14 * 0.2, "as long as it beat it was left alone"
    failed = one.wait_for("worker.failed", worker="a.0")
    assert (failed["signal"], failed["last_status"]) == ("SIGKILL", "14")
    assert failed["reason"].startswith("SIGKILL by supervisord-lite: no heartbeat for ")
    one.wait_for("worker.ready", since=one.events.index(failed), worker="a.0")
    one.stop()


def test_one_that_dies_of_its_abort_is_told_as_such(program: Start) -> None:
    """As most programs do."""
    config = pool(["sleep", "1000"], 'watchdog = "200ms"\nlimits = { core = 0 }')
    one = program("", config).ready()
    failed = one.wait_for("worker.failed", worker="a.0")
    assert failed["signal"] == "SIGABRT"
    assert failed["reason"].startswith("SIGABRT by supervisord-lite: no heartbeat for ")
    one.stop()
