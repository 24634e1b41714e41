"""Listening sockets that the service manager opened: used as they are, never let go."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sockets_box import answers, backlog, port, wanted

from supervisor.errors import StartError
from supervisor.settings import SocketSettings
from supervisor.unix.sockets import Listeners


@contextlib.contextmanager
def given(name: str, opened: socket.socket) -> Iterator[Listeners]:
    """Listeners that were handed this socket."""
    listeners = Listeners({name: opened.detach()})
    yield listeners
    listeners.close()


def test_an_inherited_socket_is_found_by_its_name_and_left_as_it_is() -> None:
    with given("http", socket.create_server(("127.0.0.1", 0), backlog=5)) as listeners:
        assert listeners.unclaimed() == ["http"]
        listeners.commit(listeners.prepare(wanted(web="fd:http")))
        [(name, fd)] = listeners.fds(["web"])
        assert (name, listeners.unclaimed(), backlog(fd)) == ("web", [], 5)
        listeners.commit(listeners.prepare({"web": SocketSettings("web", "fd:http", backlog=9)}))
        assert backlog(fd) == 5


def test_an_inherited_socket_that_nobody_names_is_kept_for_a_later_reload() -> None:
    with given("http", socket.create_server(("127.0.0.1", 0))) as listeners:
        for binds in ({"web": "fd:http"}, {}, {"web": "fd:http"}):
            listeners.commit(listeners.prepare(wanted(**binds)))
        assert answers(("127.0.0.1", port(listeners.fds(["web"])[0][1])))


def test_undo_and_close_leave_the_file_of_an_inherited_socket(tmp_path: Path) -> None:
    opened = socket.socket(socket.AF_UNIX)
    opened.bind(str(tmp_path / "s"))
    opened.listen()
    with given("http", opened) as listeners:
        listeners.undo(listeners.prepare(wanted(web="fd:http")))
        assert answers(str(tmp_path / "s"))
        listeners.commit(listeners.prepare(wanted(web="fd:http")))
    assert (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "is no stream socket"),
        (lambda: socket.socket(socket.AF_INET), "does not listen"),
    ],
)
def test_a_socket_that_nobody_can_accept_from_is_refused(
    make: Callable[[], socket.socket], words: str
) -> None:
    with given("http", make()) as listeners, pytest.raises(StartError, match=rf"^sockets\.web: .*{words}"):
        listeners.prepare(wanted(web="fd:http"))


def test_a_name_that_was_not_given_is_a_clear_error() -> None:
    with pytest.raises(
        StartError, match=r"^sockets\.web: .*no socket named 'http', no sockets at all; is its"
    ):
        Listeners({}).prepare(wanted(web="fd:http"))
    with (
        given("other", socket.create_server(("127.0.0.1", 0))) as listeners,
        pytest.raises(StartError, match=r"named 'http', only other;"),
    ):
        listeners.prepare(wanted(web="fd:http"))
