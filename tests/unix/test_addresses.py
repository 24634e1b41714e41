"""The one grammar of `bind`: what is the same place, and what is no address."""

from __future__ import annotations

import pytest

from supervisor.unix.addresses import Address, parse


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1:8000", Address("tcp4", "127.0.0.1", 8000)),
        ("localhost:0", Address("tcp4", "127.0.0.1", 0)),
        ("[::1]:65535", Address("tcp6", "::1", 65535)),
        ("[0:0::1]:8000", Address("tcp6", "::1", 8000)),
        ("[fe80::1%eth0]:8000", Address("tcp6", "fe80::1%eth0", 8000)),
        ("unix:/run/a b.sock", Address("unix", "/run/a b.sock")),
        ("fd:supervisord-lite@shop.socket", Address("fd", "supervisord-lite@shop.socket")),
        ("fd:3", Address("fd", "3")),
    ],
)
def test_what_is_the_same_place_is_equal(bind: str, address: Address) -> None:
    assert parse(bind) == address


@pytest.mark.parametrize("bind", ["127.0.0.1:80", "[::1]:80", "unix:/run/x", "fd:http"])
def test_an_address_is_told_as_it_is_written(bind: str) -> None:
    assert str(parse(bind)) == bind


@pytest.mark.parametrize(
    "bind",
    [
        "", ":", ":80", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:٨",
        "127.1:80", "010.0.0.1:80", "256.0.0.1:80", "1:2:3", "::1:80", "[::1]", "[::1]:", "[:::1]:80",
        "[]:80", "[::1%]:80", "[fe80::1%a/b]:80", "[127.0.0.1]:80", "*:80", "example.com:80", "fd", "fd:",
        "fd:a:b", "fd:a b", "127.0.0.1:80\n", "127.0.0.1\0:80",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(bind: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # most have nothing to say but the forms there are
        parse(bind)


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("[::1]:80", "[::]:80", True),
        ("0.0.0.0:80", "127.0.0.1:81", False),
        ("0.0.0.0:80", "[::1]:80", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("0.0.0.0:0", "127.0.0.1:0", False),
    ],
)
def test_all_of_the_machine_clashes_with_a_part_of_it(one: str, other: str, clash: bool) -> None:
    assert parse(one).clashes(parse(other)) == clash
