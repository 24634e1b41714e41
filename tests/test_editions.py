"""What a reload opens beside what holds."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.errors import StartError
from supervisor.inner.reading import Reading
from supervisor.master.editions import Editions
from supervisor.settings import MasterSettings, Settings, SocketSettings, TaskSettings
from supervisor.unix.loop import Loop
from supervisor.unix.sockets import Listeners


def test_a_socket_that_cannot_be_had_leaves_no_new_log_open(tmp_path: Path) -> None:
    """Every try with such a file would cost the master a descriptor."""
    before = set(os.listdir("/proc/self/fd"))
    wakeup = signal.set_wakeup_fd(-1)
    master = MasterSettings("m", "m.sock", "state", "/", ())
    doors: Any = SimpleNamespace(listeners=Listeners({}))
    loop, nobody = Loop(), SimpleNamespace()
    editions = Editions(Settings("a.toml", master, {}), doors, nobody, nobody, loop)  # type: ignore[arg-type]
    new = MasterSettings("m", "m.sock", "state", "/", (), log_file=str(tmp_path / "log"))
    http = {"http": SocketSettings("http", f"unix:{tmp_path}/nowhere/http.sock")}
    with pytest.raises(StartError, match="nowhere"):
        editions.prepare(2, Reading(Settings("a.toml", new, {}, sockets=http)), print)
    loop.close()
    signal.set_wakeup_fd(wakeup)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_calendar_that_cannot_be_imported_refuses_the_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found out later, by a task that is asked when it is due, it would be an internal error."""
    monkeypatch.setitem(sys.modules, "supervisor.calendar", None)
    nobody: Any = SimpleNamespace()
    master = MasterSettings("m", "m.sock", "state", "/", ())
    editions = Editions(Settings("a.toml", master, {}), nobody, nobody, nobody, nobody)
    tasks = {"a": TaskSettings("a", schedule="* * * * *")}
    with pytest.raises(StartError, match="schedule"):
        editions.prepare(2, Reading(Settings("a.toml", master, {}, tasks=tasks)), print)
