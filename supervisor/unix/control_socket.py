"""The control socket: 0600 from its first moment, one master each, and who is at the other end.

How its file is made and kept is `socket_file`'s; nothing here knows what is
said over it.  unix(7)
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.errors import AlreadyRunningError, StartError
from supervisor.unix import socket_file
from supervisor.unix.socket_file import LiveError, SocketFile

BACKLOG = 64
MODE = 0o600
LOCK_SECONDS = 2.0
ELSEWHERE = "set another [master] socket"


@dataclass(frozen=True)
class ControlSocket:
    """A listening socket and the file by which it is found."""

    socket: socket.socket
    file: SocketFile

    def remove(self) -> None:
        """Unlink the file unless it has become somebody else's."""
        self.file.remove()


def listen(path: str, warn: Callable[[str], None] = lambda _: None) -> ControlSocket:
    """Bind and listen at ``path``, mode 0600; its folder must exist.

    Raises:
        AlreadyRunningError: somebody answers there; they were not disturbed.
        StartError: the path cannot be used, with the reason.
    """
    try:
        listener, file = socket_file.listen(path, BACKLOG, MODE, LOCK_SECONDS, warn)
    except LiveError as error:
        words = f"another master answers on {path}; it was not disturbed. Stop it, or {ELSEWHERE}"
        raise AlreadyRunningError(words) from error
    except StartError as error:
        raise StartError(f"control socket: {error}, or {ELSEWHERE}") from error
    listener.setblocking(False)
    return ControlSocket(listener, file)


def peer(connection: socket.socket) -> tuple[int, int]:
    """Pid and uid of the other end as the kernel saw them at connect (or listen): SO_PEERCRED."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _gid = struct.unpack("3i", credentials)
    return pid, uid
