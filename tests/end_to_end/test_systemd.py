"""The shipped units under a real systemd.

Each test boots a systemd of its own, and installs there what users install; where
a test needs other times, its drop-in says so.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemd_box import HOME, boot, why_not
from systemd_service import SOCKET, TEMPLATE, UNIT, Service, fifo

reason = why_not()
pytestmark = [pytest.mark.skipif(reason is not None, reason=str(reason)), pytest.mark.long]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The units installed in a freshly booted systemd; the program's log is printed at the end."""
    with boot(tmp_path) as box:
        try:
            yield Service(box)
        finally:
            with contextlib.suppress(FileNotFoundError):
                sys.stdout.write((tmp_path / "log").read_text())


# What systemd thinks of the files


@pytest.mark.parametrize("name", [UNIT, TEMPLATE])
def test_systemd_finds_nothing_wrong_with_a_unit(service: Service, name: str) -> None:
    verified = service.box.run("systemd-analyze", "verify", f"{HOME}/units/{name}")
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_systemd_finds_nothing_wrong_with_the_socket_unit(service: Service) -> None:
    service.install_socket()
    for name in (SOCKET, UNIT):
        verified = service.box.run("systemd-analyze", "verify", f"{HOME}/units/{name}")
        assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_what_the_socket_unit_holds_comes_to_the_service_by_name(service: Service) -> None:
    service.install_socket()
    service.drop_in(SOCKET, "second", "[Socket]\nListenStream=/run/second.sock\n")
    code = (
        "import os; from supervisor.unix.listen_fds import received; print(received(os.environ, os.getpid()))"
    )
    run = f"[Service]\nType=exec\nExecStart=\nExecStart={service.box.python} -c '{code}'\n"
    service.drop_in(UNIT, "zz", f"{run}StandardOutput=truncate:{HOME}/received\n")
    for socket, names in ((False, {}), (True, {"http": 3, "http.1": 4})):
        if socket:
            assert service.box.systemctl("start", SOCKET).returncode == 0
        service.start()
        service.wait_for(ActiveState="inactive", Result="success")
        assert (service.box.folder / "received").read_text() == f"{names}\n"


# Coming up


def test_start_returns_when_every_pool_is_ready_and_not_before(service: Service) -> None:
    service.configure("slow_to_come", ready="notify")
    start = service.box.command("systemctl", "start", UNIT)
    with (
        fifo(service, "arrived") as arrived,
        fifo(service, "gate") as gate,
        subprocess.Popen(start) as starting,
    ):
        assert len(os.read(arrived, 1) + os.read(arrived, 1)) == 2
        os.write(gate, b"!")
        service.wait_for_workers("ready", "starting")
        assert service.show("ActiveState") == "activating"
        assert starting.poll() is None
        os.write(gate, b"!")
        assert starting.wait() == 0
    assert service.show("ActiveState") == "active"


def test_the_status_text_is_the_masters(service: Service) -> None:
    service.configure()
    service.start()
    assert service.show("StatusText") != ""
    assert f'Status: "{service.show("StatusText")}"' in service.box.systemctl("status", UNIT).stdout


def test_the_commands_find_the_master_in_the_units_folders(service: Service) -> None:
    service.configure()
    service.start()
    assert str(service.status()["pid"]) == service.show("MainPID")


def test_a_broken_configuration_fails_once_and_is_not_tried_again(service: Service) -> None:
    service.configure(hooks="wokers = 2")
    assert service.box.systemctl("start", UNIT).returncode != 0
    service.wait_for(ActiveState="failed", Result="exit-code", ExecMainStatus="2", NRestarts="0")


def test_a_start_that_fails_is_tried_again(service: Service) -> None:
    (service.box.folder / "fail-once").touch()
    service.configure(hooks='[hooks]\non_start = "app:fail_once"')
    service.box.systemctl("start", UNIT)
    service.wait_for(ActiveState="active", NRestarts="1")


def test_a_start_that_always_fails_is_given_up(service: Service) -> None:
    service.configure(hooks='[hooks]\non_start = "app:fail"')
    service.drop_in(UNIT, "limit", "[Unit]\nStartLimitBurst=3\n")
    service.box.systemctl("start", UNIT)
    service.wait_for(ActiveState="failed", ExecMainStatus="1", NRestarts="3")


# Reload


def test_reload_returns_when_all_workers_are_new_and_the_master_is_the_same(service: Service) -> None:
    service.configure(hooks="stable_after = 0")
    service.start()
    master, before = service.show("MainPID"), service.processes()
    reloaded = service.box.systemctl("reload", UNIT)
    assert reloaded.returncode == 0, reloaded.stderr
    service.wait_for(ActiveState="active", NRestarts="0", Result="success")
    assert service.processes() & before == {int(master)}
    assert service.status()["generation"] == 2


def test_a_reload_that_fails_says_so_and_the_unit_stays(service: Service) -> None:
    service.configure(hooks="stable_after = 0")
    service.start()
    before = service.processes()
    service.configure(target="failing")
    reloaded = service.box.systemctl("reload", UNIT)
    assert reloaded.returncode != 0
    assert "supervisord-lite.service failed" in reloaded.stderr
    service.wait_for(ActiveState="active", SubState="running", NRestarts="0")
    assert before <= service.processes()
    assert service.status()["last_reload"]["ok"] is False


# Rolling restart


def test_usr2_restarts_it_once_and_is_no_failure(service: Service) -> None:
    service.configure()
    service.start()
    first, before = service.show("MainPID"), service.processes()
    service.signal_master("USR2")
    service.wait_for(ActiveState="active", NRestarts="1", Result="success")
    assert service.show("MainPID") != first
    assert not before & service.processes()
    assert "Failed with result" not in service.console()


def test_usr2_that_had_to_cut_work_restarts_it_too(service: Service) -> None:
    service.configure("stubborn", stop_timeout="500ms")
    service.start()
    service.signal_master("USR2")
    service.wait_for(ActiveState="active", NRestarts="1")
    assert "status=5" in service.console()


def test_a_task_that_turned_errored_is_so_after_usr2_and_runs_once_it_is_resumed(service: Service) -> None:
    """The state file is in the unit's StateDirectory, and the next master finds it."""
    more = '[tasks.bad]\ncommand = ["sh", "-c", "exit 3"]\nevery = "100ms"\npause_after_failures = 3\n'
    service.configure(more=more)
    service.start()
    service.wait_for_task("bad", lambda task: task["state"] == "errored")
    service.signal_master("USR2")
    service.wait_for(ActiveState="active", NRestarts="1", Result="success")
    errored = service.wait_for_task("bad", lambda _: True)
    assert (errored["state"], errored["failures"], errored["reason"]) == ("errored", 3, "exit status 3")
    assert service.cli("tasks", "resume", "bad") == "running again: bad\n"
    run = errored["last_run"]["run"]
    service.wait_for_task("bad", lambda task: task["last_run"]["run"] > run)


# Stop


def test_term_to_the_master_leaves_it_down(service: Service) -> None:
    service.configure()
    service.start()
    service.signal_master("TERM")
    service.wait_for(ActiveState="inactive", SubState="dead", Result="success", NRestarts="0")


def test_stop_drains_it_and_leaves_it_down(service: Service) -> None:
    service.configure("slow_to_leave")
    service.start()
    assert service.box.systemctl("stop", UNIT).returncode == 0
    service.wait_for(ActiveState="inactive", Result="success", ExecMainStatus="0", NRestarts="0")


def test_a_drain_longer_than_systemds_timeout_is_carried(service: Service) -> None:
    """The master asks for more time (EXTEND_TIMEOUT_USEC); else systemd would kill after 1 s of the 3."""
    service.configure("slow_to_leave", stop_timeout="20s")
    service.drop_in(UNIT, "times", "[Service]\nTimeoutStopSec=1s\n")
    service.start()
    assert service.box.systemctl("stop", UNIT).returncode == 0
    service.wait_for(ActiveState="inactive", Result="success", ExecMainStatus="0")


def test_a_stop_that_cut_work_shows_as_failed_and_is_not_restarted(service: Service) -> None:
    service.configure("stubborn", stop_timeout="500ms")
    service.start()
    service.signal_master("TERM")
    service.wait_for(ActiveState="failed", Result="exit-code", ExecMainStatus="3", NRestarts="0")


# Accidents


@pytest.mark.parametrize("name", ["KILL", "ABRT", "SEGV"])
def test_a_master_that_dies_is_restarted_and_none_of_its_workers_stays(service: Service, name: str) -> None:
    service.configure("stubborn")
    service.start()
    before = service.processes()
    assert len(before) >= 3
    service.signal_master(name)
    service.wait_for(ActiveState="active", NRestarts="1")
    assert not before & service.processes()


def test_a_master_that_hangs_is_restarted_by_the_watchdog(service: Service) -> None:
    service.configure()
    service.drop_in(UNIT, "times", "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=2s\n")
    service.start()
    service.signal_master("STOP")
    service.wait_for(ActiveState="active", NRestarts="1")
    assert "Watchdog timeout" in service.console()


def test_a_pool_that_gives_up_has_the_service_started_again(service: Service) -> None:
    service.configure("failing", hooks='max_restarts = 1\non_give_up = "exit"\nbackoff = {initial = "1ms"}')
    service.drop_in(UNIT, "limit", "[Unit]\nStartLimitBurst=2\n")
    service.box.systemctl("start", UNIT)
    service.wait_for(ActiveState="failed", ExecMainStatus="6", NRestarts="2")


# Several


def test_a_second_master_for_the_same_socket_leaves_and_is_not_tried_again(service: Service) -> None:
    service.configure()
    service.start()
    second = "supervisord-lite@config.service"
    assert service.box.systemctl("start", second).returncode != 0
    service.box.wait_for(second, ActiveState="failed", ExecMainStatus="100", NRestarts="0")
    assert service.show("ActiveState") == "active"


def test_instances_of_the_template_run_side_by_side_and_stop_apart(service: Service) -> None:
    service.configure(name="shop")
    service.configure(name="post")
    shop, post = "supervisord-lite@shop.service", "supervisord-lite@post.service"
    assert service.box.systemctl("start", shop, post).returncode == 0
    assert service.box.systemctl("stop", shop).returncode == 0
    service.box.wait_for(shop, ActiveState="inactive", Result="success")
    service.box.wait_for(post, ActiveState="active")
    assert service.box.run("test", "-S", "/run/supervisord-lite/post.sock").returncode == 0
