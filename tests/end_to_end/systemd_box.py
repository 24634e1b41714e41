"""A real systemd as PID 1 of namespaces of its own, for as long as a test needs it.

Knows how to boot it, install units, talk to it and leave nothing behind: its
processes die with its PID 1, its folders are tmpfs or the test's own, and its
cgroup is removed.  Knows nothing of the units under test.  Needs root, because
cgroups and mounts are root's.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

SYSTEMD = "/lib/systemd/systemd"
REPOSITORY = Path(__file__).resolve().parent.parent.parent
HOME = "/run/box/home"  # where the test's folder is inside
BOOT_TIMEOUT = 30.0
PATIENCE = 30.0  # how long `wait_for` waits: a safety net, no measure
END = "-- the box is gone --"
GLANCE = 0.25  # seconds until the next look when the console says nothing

# A unit needs these by default; empty ones keep the box free of the machine's own services.
TARGETS = ("box", "sysinit", "basic", "shutdown", "umount")
TARGET = "[Unit]\nDescription={name}\nDefaultDependencies=no\n"

# What units write lands on tmpfs: /run, /tmp, /var/tmp, /var/lib. The tests' folder, the
# repository and the interpreter are bound below /run/box first, since they may be in one
# of those, and PrivateTmp=yes hides /tmp once more. systemd as PID 1 logs to
# /dev/console and insists on a terminal there: ours.
BOOT = """
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind {console} /dev/console
mount -t tmpfs tmpfs /run
mkdir -p {home} /run/box/repository /run/box/python
mount --bind {folder} {home}
mount --bind {repository} /run/box/repository
mount --bind {python} /run/box/python
for each in /tmp /var/tmp /var/lib; do mount -t tmpfs tmpfs $each; done
exec env -i PATH="$PATH" container=docker SYSTEMD_UNIT_PATH={home}/units \\
    {systemd} --system --unit=box.target --log-target=console --log-level=info --show-status=yes
"""
NAMESPACES = ("--pid", "--fork", "--mount", "--cgroup", "--uts", "--ipc", "--kill-child")


def why_not() -> str | None:
    """Why this machine cannot boot a box; None where it can."""
    if os.geteuid() != 0:
        return "booting a systemd needs root"
    if not os.path.exists(SYSTEMD):
        return "systemd is not installed"
    return None


class Console:
    """What systemd says, line by line as it comes."""

    def __init__(self) -> None:
        ours, self.terminal = os.openpty()
        self.name = os.ttyname(self.terminal)
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(ours,))
        self._reader.start()

    def wait_beyond(self, known: int, seconds: float) -> bool:
        """Wait until more than so many lines are there."""
        with self._news:
            return self._news.wait_for(lambda: len(self.lines) > known, seconds)

    def close(self) -> None:
        os.write(self.terminal, f"\n{END}\n".encode())  # also while nobody else has it open
        self._reader.join()
        os.close(self.terminal)

    def _read(self, ours: int) -> None:
        with os.fdopen(ours, "rb", buffering=0) as source:
            rest = b""
            while END not in self.lines:
                *whole, rest = (rest + source.read(4096)).replace(b"\r", b"").split(b"\n")
                with self._news:
                    self.lines += [line.decode(errors="replace") for line in whole]
                    self._news.notify_all()


class Box:
    """The running systemd. `folder` is seen inside as `HOME`."""

    def __init__(self, folder: Path, pid: int, console: Console) -> None:
        self.folder = folder
        self.pid = pid
        self.console = console

    @property
    def python(self) -> str:
        """This interpreter with its packages, as a path inside."""
        if sys.prefix == sys.base_prefix:
            return sys.executable
        return f"/run/box/python/bin/{os.path.basename(sys.executable)}"

    def install(self, name: str, text: str) -> None:
        """Write a unit, or a drop-in as ``NAME.service.d/FILE.conf``."""
        file = self.folder / "units" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        self.systemctl("daemon-reload")

    def command(self, *argv: str) -> list[str]:
        """The command line that runs something inside."""
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-C", "--", *argv]

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*argv), capture_output=True, text=True, check=False)

    def systemctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", "--no-pager", *arguments)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as systemd writes them."""
        shown = self.systemctl("show", unit, "--property", ",".join(properties))
        assert shown.returncode == 0, shown.stderr
        return dict(line.split("=", 1) for line in shown.stdout.splitlines())

    def wait_for(self, unit: str, **wanted: str) -> None:
        """Until the unit's properties are as given: looked at again with each line of the console."""
        give_up = time.monotonic() + PATIENCE
        while True:
            known = len(self.console.lines)
            found = self.show(unit, *wanted)
            if found == wanted:
                return
            assert time.monotonic() < give_up, f"{unit}: wanted {wanted}, found {found}"
            self.console.wait_beyond(known, GLANCE)

    def processes(self, unit: str) -> set[int]:
        """The pids, as seen inside, of all that runs in a unit."""
        group = self.show(unit, "ControlGroup")["ControlGroup"]
        listed = self.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs")
        return {int(pid) for pid in listed.stdout.split()}


@contextlib.contextmanager
def boot(folder: Path) -> Iterator[Box]:
    """Boot a box whose units, files and logs are in the folder."""
    (folder / "units").mkdir()
    for name in TARGETS:
        (folder / "units" / f"{name}.target").write_text(TARGET.format(name=name))
    console = Console()
    try:
        with own_cgroup() as cgroup, started(folder, cgroup, console) as pid:
            yield Box(folder, pid, console)
    finally:
        console.close()
        sys.stdout.write("\n".join(console.lines))  # pytest shows it when the test fails


@contextlib.contextmanager
def started(folder: Path, cgroup: Path, console: Console) -> Iterator[int]:
    """Run systemd; its pid out here. With it, the kernel kills all that is inside."""
    script = BOOT.format(
        console=console.name, home=HOME, folder=shlex.quote(str(folder)), systemd=SYSTEMD,
        repository=shlex.quote(str(REPOSITORY)), python=shlex.quote(sys.prefix),
    )  # fmt: skip
    # The cgroup is entered before its namespace is made, so that it is the root inside.
    enter = f'echo $$ > {shlex.quote(str(cgroup / "cgroup.procs"))} && exec unshare "$@"'
    command = ["bash", "-c", enter, "enter", *NAMESPACES, "bash", "-c", script]
    output = console.terminal  # what goes wrong before systemd runs is said there too
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as outer:
        try:
            wait_booted(console, outer)
            [systemd] = psutil.Process(outer.pid).children()
            yield systemd.pid
        finally:
            # --kill-child: systemd dies with unshare; but unshare must reap it first, so
            # that nothing is left in the cgroup. Hence its child is killed, if there is one.
            for child in psutil.Process(outer.pid).children():
                child.kill()


def wait_booted(console: Console, outer: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + BOOT_TIMEOUT
    while not any("Startup finished" in line for line in console.lines):
        assert outer.poll() is None, "the box did not boot; what it said is printed above"
        assert time.monotonic() < give_up, "the box did not come up in time"
        console.wait_beyond(len(console.lines), GLANCE)


@contextlib.contextmanager
def own_cgroup() -> Iterator[Path]:
    """A new group below our own; removed with what systemd made in it."""
    mine = next(
        line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")
    )
    [mount, *_] = [part.mountpoint for part in psutil.disk_partitions(all=True) if part.fstype == "cgroup2"]
    group = Path(mount + mine) / f"box-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()
    try:
        yield group
    finally:
        for folder, _, _ in os.walk(group, topdown=False):
            os.rmdir(folder)
