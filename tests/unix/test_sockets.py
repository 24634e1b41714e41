"""Listening sockets: bound once, tried before they hold, closed when nobody names them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_box import NOBODY
from sockets_box import Bench, answers, backlog, bench_in, option, port, wanted

from supervisor.errors import StartError
from supervisor.settings import SocketSettings


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as found:
        yield found


# What a socket is like


def test_clients_reach_all_kinds_in_the_order_of_the_names(bench: Bench) -> None:
    fds = bench.have(four="localhost:0", six="[::1]:0", file=bench.unix)
    assert answers(("127.0.0.1", port(fds["four"])))
    assert answers(bench.path)
    with socket.create_connection(("::1", port(fds["six"]))):
        pass
    assert bench.listeners.fds(["file", "four"]) == (("file", fds["file"]), ("four", fds["four"]))


def test_they_block_are_closed_on_exec_and_shared_by_inheritance_alone(bench: Bench) -> None:
    fds = bench.have(four="127.0.0.1:0", six="[::]:0", file=bench.unix)
    for fd in fds.values():
        assert os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        assert not option(fd, socket.SOL_SOCKET, socket.SO_REUSEPORT)
    assert option(fds["four"], socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert option(fds["six"], socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def test_what_is_accepted_from_a_port_sends_without_delay(bench: Bench) -> None:
    """Programs that know only the number of the descriptor leave it to the listener."""
    fds = bench.have(four="127.0.0.1:0", six="[::1]:0")
    for name, host in (("four", "127.0.0.1"), ("six", "::1")):
        with socket.socket(fileno=os.dup(fds[name])) as listener:
            client = socket.create_connection((host, port(fds[name])))
            accepted, _ = listener.accept()
            with client, accepted:
                assert option(accepted.fileno(), socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_of_connections_that_linger_is_bound_again_at_once(bench: Bench) -> None:
    """TIME_WAIT stays at the end that closed first, here the server's."""
    at = port(bench.have(http="127.0.0.1:0")["http"])
    with socket.create_connection(("127.0.0.1", at)) as client:
        with socket.socket(fileno=os.dup(bench.listeners.fds(["http"])[0][1])) as listener:
            listener.accept()[0].close()
        assert client.recv(1) == b""
    bench.have()
    assert port(bench.have(http=f"127.0.0.1:{at}")["http"]) == at


# A change


def test_what_stays_keeps_its_descriptor_its_inode_and_its_port(bench: Bench) -> None:
    before = bench.have(http="127.0.0.1:0", file=bench.unix)
    inodes, file = {fd: os.fstat(fd).st_ino for fd in before.values()}, os.stat(bench.path).st_ino
    after = bench.have(file=bench.unix, http="localhost:0", more="127.0.0.2:0")
    assert {name: after[name] for name in before} == before
    assert {fd: os.fstat(fd).st_ino for fd in before.values()} == inodes
    assert os.stat(bench.path).st_ino == file


def test_names_may_change_hands(bench: Bench) -> None:
    before = bench.have(a="127.0.0.1:0", b=bench.unix)
    assert bench.have(b="127.0.0.1:0", c=bench.unix) == {"b": before["a"], "c": before["b"]}


def test_what_nobody_names_any_more_is_closed_at_commit_and_not_before(bench: Bench) -> None:
    at = port(bench.have(http="127.0.0.1:0", file=bench.unix)["http"])
    change = bench.listeners.prepare({})
    assert answers(("127.0.0.1", at))
    assert answers(bench.path)
    bench.listeners.commit(change)
    assert not answers(("127.0.0.1", at))
    assert not os.path.exists(bench.path)


def test_the_new_generation_gets_the_new_set_while_the_old_one_holds(bench: Bench) -> None:
    old = bench.have(http="127.0.0.1:0")
    change = bench.listeners.prepare(wanted(http="127.0.0.2:0", file=bench.unix))
    assert bench.listeners.fds(["http"]) == (("http", old["http"]),)
    new = dict(bench.listeners.fds_of(change, ["http", "file"]))
    assert answers(("127.0.0.2", port(new["http"])))
    assert answers(bench.path)
    bench.listeners.undo(change)


def test_undo_leaves_nothing_and_takes_nothing(bench: Bench) -> None:
    before = bench.have(http="127.0.0.1:0")
    open_before = os.listdir("/proc/self/fd")
    bench.listeners.undo(bench.listeners.prepare(wanted(more="127.0.0.2:0", file=bench.unix)))
    assert os.listdir("/proc/self/fd") == open_before
    assert not os.path.exists(bench.path)
    assert dict(bench.listeners.fds(["http"])) == before
    assert answers(("127.0.0.1", port(before["http"])))


def test_a_stop_during_a_change_leaves_nothing(bench: Bench) -> None:
    bench.have(http="127.0.0.1:0")
    bench.listeners.prepare(wanted(file=bench.unix))
    bench.listeners.close()
    assert not os.path.exists(bench.path)


def test_one_that_cannot_be_had_refuses_the_whole(bench: Bench) -> None:
    before = bench.have(http="127.0.0.1:0")
    open_before = os.listdir("/proc/self/fd")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        with pytest.raises(
            StartError, match=rf"^sockets\.b: cannot bind 127\.0\.0\.1:{taken}: .*in use; 'ss"
        ):
            bench.listeners.prepare(wanted(a=bench.unix, b=f"127.0.0.1:{taken}", c="127.0.0.2:0"))
    assert os.listdir("/proc/self/fd") == open_before
    assert not os.path.exists(bench.path)
    assert dict(bench.listeners.fds(["http"])) == before
    bench.have(http="127.0.0.1:0")


def test_a_port_that_this_master_holds_on_another_address_is_named(bench: Bench) -> None:
    at = port(bench.have(http="127.0.0.1:0")["http"])
    bench.have()
    bench.have(http=f"127.0.0.1:{at}")
    with pytest.raises(StartError, match=r"sockets\.http of this master holds .* until a restart \(USR2\)"):
        bench.listeners.prepare(wanted(http=f"0.0.0.0:{at}"))


def test_a_change_of_the_backlog_is_told_to_the_socket_that_is_there(bench: Bench) -> None:
    before = bench.have(http="127.0.0.1:0")
    after = bench.have_settings({"http": SocketSettings("http", "127.0.0.1:0", backlog=7)})
    assert after == before
    assert backlog(after["http"]) == 7


def test_one_place_for_two_names_is_refused(bench: Bench) -> None:
    with pytest.raises(StartError, match=r"^sockets\.b: sockets\.a listens on 127\.0\.0\.1:8000 already"):
        bench.listeners.prepare(wanted(a="127.0.0.1:8000", b="localhost:8000"))


# Errors of the network


def test_an_address_of_another_machine_is_a_clear_error(bench: Bench) -> None:
    with pytest.raises(StartError, match=r"^sockets\.http: cannot bind 192\.0\.2\.1:0: .*no interface"):
        bench.listeners.prepare(wanted(http="192.0.2.1:0"))


def test_an_interface_that_is_not_there_is_a_clear_error(bench: Bench) -> None:
    with pytest.raises(StartError, match=r"^sockets\.http: cannot bind \[fe80::1%none0\]:0: .+"):
        bench.listeners.prepare(wanted(http="[fe80::1%none0]:0"))


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
def test_a_port_below_1024_says_what_it_needs(bench: Bench) -> None:
    os.seteuid(NOBODY)
    try:
        with pytest.raises(StartError, match="Permission denied; ports below 1024 need root"):
            bench.listeners.prepare(wanted(http="127.0.0.1:1"))
    finally:
        os.seteuid(0)
