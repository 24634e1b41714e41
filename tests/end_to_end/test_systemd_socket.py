"""The shipped socket unit and `systemctl reload` under a real systemd."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from listening import dial, place, written
from load import answer, load
from systemd_box import boot, why_not
from systemd_service import SOCKET, UNIT, Service, fifo

reason = why_not() or (None if shutil.which("wrk") else "wrk is not installed")
pytestmark = [
    pytest.mark.skipif(reason is not None, reason=str(reason)),
    pytest.mark.long,
    pytest.mark.timeout(300),
]

CONFIG = """
[sockets.http]
bind = "fd:http"
[pools.app]
target = "examples.http_server:run"
sockets = ["http"]
workers = 2
stable_after = "200ms"
"""
REQUESTS = 5_000
RESTARTS = 3


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The units installed in a freshly booted systemd; the program's log is printed at the end."""
    with boot(tmp_path) as box:
        try:
            yield Service(box)
        finally:
            with contextlib.suppress(FileNotFoundError):
                sys.stdout.write((tmp_path / "log").read_text())


def listen(service: Service) -> tuple[str, int]:
    """The socket unit, at an address that nobody else has."""
    address = place()
    service.install_socket()
    service.drop_in(SOCKET, "address", f"[Socket]\nListenStream=\nListenStream={written(address)}\n")
    (service.box.folder / "config.toml").write_text(CONFIG)
    started = service.box.systemctl("start", SOCKET)
    assert started.returncode == 0, started.stderr
    return address


def get(address: tuple[str, int]) -> str:
    """The text of one answer."""
    with dial(address) as client:
        client.sendall(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        return answer(client)[1]


# Zero downtime over USR2


def test_no_request_fails_while_usr2_restarts_the_master(service: Service) -> None:
    """It waits in the queue, which systemd holds: neither refused nor reset."""
    address = listen(service)
    service.start()
    requests, restarts = 0, itertools.count(1)
    while requests <= REQUESTS:  # a machine that has much to do needs more than one round for so many
        with load(address, paced=False) as result:
            for number in itertools.islice(restarts, RESTARTS):
                master = service.show("MainPID")
                service.signal_master("USR2")
                service.wait_for(ActiveState="active", NRestarts=str(number))
                assert service.show("MainPID") != master
        assert result.failed == []
        requests += result.requests


def test_a_client_waits_for_a_service_that_is_down_and_starts_it(service: Service) -> None:
    address = listen(service)
    assert get(address).startswith("/ from app.")
    service.wait_for(ActiveState="active", NRestarts="0")


def test_the_socket_stays_open_over_reload_restart_and_stop(service: Service) -> None:
    address = listen(service)
    service.start()
    for verb in ("reload", "restart", "stop"):
        assert service.box.systemctl(verb, UNIT).returncode == 0
        assert get(address).startswith("/ from app."), verb


# systemctl reload


def gated(service: Service) -> None:
    """Two workers that come up by themselves; from the next generation on they wait at a gate."""
    service.configure(hooks='stable_after = "100ms"')
    service.start()
    service.configure("slow_to_come", ready="notify", hooks='stable_after = "100ms"\nsurge = 2')


def test_reload_returns_when_all_is_new_and_not_before(service: Service) -> None:
    gated(service)
    before = service.processes()
    reload = service.box.command("systemctl", "reload", UNIT)
    with fifo(service, "gate") as gate, fifo(service, "arrived"), subprocess.Popen(reload) as reloading:
        service.wait_for(ActiveState="reloading")
        assert reloading.poll() is None
        open_gate(gate)
        assert reloading.wait() == 0
    service.wait_for(ActiveState="active", Result="success", NRestarts="0")
    assert len(before & service.processes()) == 1  # the master


def test_systemd_hears_of_a_reload_that_it_did_not_ask_for(service: Service) -> None:
    """RELOADING=1 at its begin, READY=1 at its end."""
    gated(service)
    with fifo(service, "gate") as gate, fifo(service, "arrived"):
        service.signal_master("HUP")
        service.wait_for(ActiveState="reloading")
        open_gate(gate)
        service.wait_for(ActiveState="active", NRestarts="0")


def open_gate(gate: int) -> None:
    os.write(gate, b"!!")


def test_a_reload_that_fails_fails_the_command_and_leaves_the_unit_as_it_was(service: Service) -> None:
    service.configure(hooks='stable_after = "100ms"')
    service.start()
    before = service.processes()
    service.configure("no_such_function", hooks='stable_after = "100ms"')
    asked = service.box.systemctl("reload", UNIT)
    assert asked.returncode == 1, asked.stderr
    service.wait_for(ActiveState="active", SubState="running", NRestarts="0")
    assert service.processes() == before
    assert "no_such_function" in service.status()["last_reload"]["error"]
    assert "no_such_function" in (service.box.folder / "log").read_text()
    service.configure(hooks='stable_after = "100ms"')
    assert service.box.systemctl("reload", UNIT).returncode == 0


def test_a_stop_during_a_reload_is_a_stop(service: Service) -> None:
    gated(service)
    with fifo(service, "gate"), fifo(service, "arrived"):
        service.signal_master("HUP")
        service.wait_for(ActiveState="reloading")
        assert service.box.systemctl("stop", UNIT).returncode == 0
        service.wait_for(ActiveState="inactive", Result="success", ExecMainStatus="0", NRestarts="0")


def test_usr2_during_a_reload_is_a_restart(service: Service) -> None:
    gated(service)
    with fifo(service, "gate") as gate, fifo(service, "arrived"):
        service.signal_master("HUP")
        service.wait_for(ActiveState="reloading")
        open_gate(gate)  # for the next master's workers, if not for these
        open_gate(gate)
        service.signal_master("USR2")
        service.wait_for(ActiveState="active", Result="success", NRestarts="1")


def test_a_socket_that_is_not_passed_is_a_start_that_is_tried_again(service: Service) -> None:
    """The service alone, without its socket unit: exit 1, and the log says what is missing."""
    (service.box.folder / "config.toml").write_text(CONFIG)
    service.drop_in(UNIT, "limit", "[Unit]\nStartLimitBurst=2\n")
    service.box.systemctl("start", UNIT)
    service.wait_for(ActiveState="failed", ExecMainStatus="1", NRestarts="2")
    log = (service.box.folder / "log").read_text()
    assert "the service manager passed no socket named 'http', no sockets at all" in log


def test_a_service_that_cannot_start_takes_its_socket_along_and_both_come_back(service: Service) -> None:
    """A waiting client has it started again and again, up to the limit: as docs/systemd.md warns."""
    address = listen(service)
    service.start()
    config = service.box.folder / "config.toml"
    config.write_text(CONFIG.replace("workers", "wokers"))
    service.signal_master("USR2")
    service.wait_for(ActiveState="failed", ExecMainStatus="2")
    with contextlib.suppress(OSError), dial(address) as client:
        service.box.wait_for(SOCKET, ActiveState="failed", Result="service-start-limit-hit")
        assert client.recv(1) == b""
    config.write_text(CONFIG)
    for verb in ("reset-failed", "start"):
        done = service.box.systemctl(verb, SOCKET, UNIT)
        assert done.returncode == 0, done.stderr
    assert get(address).startswith("/ from app.")
