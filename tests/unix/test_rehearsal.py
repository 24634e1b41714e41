"""What the master does as a worker would, before its first fork: it must leave nothing behind."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
from pathlib import Path

import pytest

from supervisor.child import rehearsal
from supervisor.child.rehearsal import rehearse
from supervisor.settings import MasterSettings
from supervisor.unix.signals import handlers
from supervisor.unix.usage import DUMP_SIGNAL


def master(folder: Path) -> MasterSettings:
    """Its socket is nobody's: a rehearsal speaks to itself."""
    return MasterSettings(
        name="m",
        socket=str(folder / "m.sock"),
        state_dir=str(folder),
        working_dir=str(folder),
        pythonpath=(),
    )


def traces() -> dict[str, object]:
    """All that a worker changes of its process."""
    return {
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "session": os.getsid(0),
        "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
        "handlers": handlers(),
        "stacks": signal.getsignal(DUMP_SIGNAL),
        "crashes": faulthandler.is_enabled(),
    }


def test_a_rehearsal_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors, threads, environment, session, limits and handlers are those of before."""
    monkeypatch.setenv("SUPERVISOR_NAME", "before")
    monkeypatch.delenv("SUPERVISOR_SLOT", raising=False)
    before = traces()
    rehearse(master(tmp_path))
    assert traces() == before


def test_a_rehearsal_goes_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target is called and sees a worker; what fails on the way would be passed over in silence."""
    seen: list[str] = []
    monkeypatch.setattr(rehearsal, "target", lambda worker: seen.append(worker.id))
    rehearse(master(tmp_path))
    assert seen == ["rehearsal.0"] * rehearsal.TIMES


@pytest.mark.parametrize("spare", [-1, 1, 3])
def test_a_rehearsal_without_descriptors_is_left_out(tmp_path: Path, spare: int) -> None:
    """The start goes on: what is really missing is told where it is needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = dict(os.environ)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + spare, hard))
    try:
        rehearse(master(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert dict(os.environ) == before
