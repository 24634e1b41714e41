"""Workers that break things: their descriptors, the master's notify socket, their process group."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import psutil
import pytest
from program import Program

Start = Callable[..., Program]
QUICK = 'backoff = {initial = "10ms", max = "80ms"}'


def pool(more: str = "", name: str = "a", target: str = "run") -> str:
    return f'[pools.{name}]\ntarget = "app:{target}"\n{QUICK}\n{more}\n'


def test_nothing_that_a_worker_sends_counts_beyond_its_own_slot(program: Start) -> None:
    """A flood of garbage, claims to be another and READY for others leave master and others alone."""
    app = """
        import os, random, socket

        CLAIMS = [
            b"READY=1", b"READY=1\\nMAINPID=1\\nSUPERVISOR_WORKER=slow.0\\nX_PID=1", b"STOPPING=1\\0", b"",
            b"X_IN_FLIGHT=-5", b"X_JOBS=" + b"9" * 8000, b"EXTEND_TIMEOUT_USEC=nan", b"=", b"\\n\\n=\\n",
            b"STATUS=\\x1b[2J\\nREADY=1\\nWATCHDOG=\\xff", b"BARRIER=1", b"FDSTORE=1",
        ]

        def evil(worker):
            end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            end.connect(os.environ["NOTIFY_SOCKET"])
            for _ in range(5000):
                end.send(random.choice(CLAIMS))
                end.send(random.randbytes(random.randrange(1, 9000)))
            worker.status("all is sent")
            worker.wait()

        def slow(worker):
            worker.wait()
    """
    one = program(app, pool(name="evil", target="evil") + pool('ready = "notify"', "slow", "slow"))
    one.wait_for("worker.started", pool="slow")
    said = lambda: [w["status"] for w in one.status()["pools"]["evil"]["workers"]]  # noqa: E731  # read twice
    one.wait_until(lambda: said() == ["all is sent"])
    slow = one.status()["pools"]["slow"]["workers"][0]
    assert (slow["state"], slow["status"]) == ("starting", None)
    assert one.find("master.ready") is None
    one.stop(0)


@pytest.mark.parametrize("data", [r"b'\n' * 65000", r"b'A=B\n' * 16000", r"b'STATUS=' + b'\xff' * 65000"])
def test_a_flood_of_long_messages_does_not_hold_up_the_stop(program: Start, data: str) -> None:
    """From four processes at once, whatever it costs to read one: SIGKILL comes at the deadline."""
    app = f"""
        import os, socket
        def run(worker):
            worker.ready()
            os.fork(), os.fork()
            end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            end.connect(os.environ["NOTIFY_SOCKET"])
            while True:
                end.send({data})
    """
    one = program(app, pool('ready = "notify"'), master='stop_timeout = "500ms"').ready()
    assert one.stop(3, timeout=5)["seconds"] < 3


def test_strangers_are_not_heard(program: Start) -> None:
    """Datagrams to the notify socket from a process that is no worker mean nothing."""
    app = """
        def run(worker):
            worker.wait()
        def slow(worker):
            worker.wait()
            worker.status("told to stop")
    """
    one = program(app, pool() + pool('ready = "notify"', "slow", "slow"))
    one.wait_for("worker.ready", pool="a")
    path = next(one.folder.glob("run/*.notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        for message in (b"", b"READY=1", b"STOPPING=1", b"\0" * 100):
            end.sendto(message, str(path))
    assert one.status()["pools"]["slow"]["state"] == "starting"
    assert one.find("worker.acknowledged") is None
    one.stop(0)


def test_fds_that_a_worker_passes_along_are_closed(program: Start) -> None:
    """SCM_RIGHTS on the notify socket does not fill the master's table; BARRIER=1 is answered by it."""
    app = """
        import os, socket
        def run(worker):
            end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            end.connect(os.environ["NOTIFY_SOCKET"])
            for count in (1, 16, 17, 100, 253):
                reader, writer = os.pipe()
                socket.send_fds(end, [b"BARRIER=1"], [writer] * count)
                os.close(writer)
                assert os.read(reader, 1) == b""  # all copies are closed
            worker.ready()
            worker.wait()
    """
    one = program(app, pool('ready = "notify"')).ready()
    one.stop(0)


def test_a_worker_that_closes_all_its_fds_harms_only_itself(program: Start) -> None:
    """The master does not spin; the worker can be replaced, and is killed when the master stops."""
    app = """
        import os, time
        def run(worker):
            print("inside", flush=True)
            os.closerange(0, 256)
            while True:
                time.sleep(60)
        def waits(worker):
            worker.wait(1)
            worker.ready()
            worker.wait()
    """
    config = pool() + pool('ready = "notify"', "b", "waits")
    one = program(app, config, master='stop_timeout = "1s"').ready()
    one.tracebacks_expected = True  # its threads have lost their descriptors
    used = sum(psutil.Process(one.pid).cpu_times()[:2])
    assert used < 0.7, "a loop that spun for a second would have used all of it"
    pid = one.worker("a.0")
    os.kill(pid, signal.SIGKILL)
    one.wait_for("worker.failed", pid=pid)
    one.wait_until(lambda: one.noise.count("inside") == 2)
    assert [w["worker"] for w in one.stop(3)["workers"] if w["killed"]] == ["a.0"]


def test_a_worker_that_signals_its_group_and_its_master(program: Start) -> None:
    """kill(0, TERM) stays in the worker's own group; HUP to the master is one reload like any other."""
    app = """
        import os, signal
        def run(worker):
            if not os.path.exists("done"):
                open("done", "w").close()
                os.kill(os.getppid(), signal.SIGHUP)
                os.kill(0, signal.SIGTERM)
            worker.wait()
    """
    one = program(app, pool("stable_after = 0"))
    assert one.wait_for("worker.failed", pool="a")["code"] == 0, "it left as if it had been asked"
    assert one.wait_for("reload.done")["generation"] == 2
    assert len(one.stop(0)["workers"]) == 1


def test_a_worker_that_kills_its_master_leaves_with_it(program: Start) -> None:
    """kill -9 of the master by a worker: all workers drain and leave."""
    app = """
        import os, signal
        def run(worker):
            worker.wait()
        def murders(worker):
            while not os.path.exists("now"):
                worker.wait(0.02)
            os.kill(os.getppid(), signal.SIGKILL)
            worker.wait()
            print("drained", flush=True)
    """
    one = program(app, pool("workers = 3") + pool(name="b", target="murders")).ready()
    (one.folder / "now").touch()
    one.wait(-signal.SIGKILL)
    assert one.orphans_end() == {"a.0": 0, "a.1": 0, "a.2": 0, "b.0": 0}
    assert "drained" in one.noise


def test_a_file_in_the_place_of_a_workers_stacks_does_not_hold_up_the_stop(program: Start) -> None:
    """A FIFO with their name, which would keep its reader for ever: SIGKILL comes at the deadline."""
    app = """
        import os, threading
        def run(worker):
            os.mkfifo("supervisor-stacks")
            fifo = os.open("supervisor-stacks", os.O_RDWR)
            for fd in os.listdir("/proc/self/fd"):
                if os.path.exists(f"/proc/self/fd/{fd}") and "stacks" in os.readlink(f"/proc/self/fd/{fd}"):
                    os.dup2(fifo, int(fd))
            worker.ready()
            threading.Event().wait()
    """
    one = program(app, pool('ready = "notify"'), master='stop_timeout = "500ms"').ready()
    assert one.stop(3, timeout=5)["workers"][0]["killed"]


def test_a_connection_that_lingers_in_the_masters_hands_holds_up_nobody(program: Start) -> None:
    """SO_LINGER has close(2) wait for the peer; who passes such a socket along makes nobody wait."""
    app = """
        import os, socket, struct
        def run(worker):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                ours = socket.create_connection(listener.getsockname())
                theirs, _ = listener.accept()  # and never reads
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
            ours.setblocking(False)
            try:
                while ours.send(bytes(65536)):
                    pass
            except BlockingIOError:
                pass
            end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            end.connect(os.environ["NOTIFY_SOCKET"])
            socket.send_fds(end, [b"BARRIER=1"], [ours.fileno()] * 17)
            ours.close()
            worker.ready()
            worker.wait()
    """
    one = program(app, pool('ready = "notify"'))
    one.wait_for("master.ready", timeout=5)
    one.stop(0)
