"""What the master holds open to the world: pidfile, control socket, notify socket.

Opened together before the first fork, so that a second master or a bad path is
found out while nothing has happened; closed and removed together at the end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.settings import MasterSettings
from supervisor.unix import control_socket
from supervisor.unix.control_socket import ControlSocket
from supervisor.unix.files import Pidfile, make_folder
from supervisor.unix.notify import Receiver


@dataclass
class Doors:
    """All of them are open, or an error was raised and none is."""

    pidfile: Pidfile | None
    control: ControlSocket
    notify: Receiver

    def remove(self) -> None:
        """Leave no file behind.  The lock goes last: then a successor may begin."""
        self.notify.close()
        self.control.remove()
        if self.pidfile:
            self.pidfile.remove()


def open_doors(settings: MasterSettings, warn: Callable[[str], None]) -> Doors:
    """Take the pidfile and the sockets; StartError or AlreadyRunningError if that cannot be."""
    with contextlib.ExitStack() as undo:
        make_folder(os.path.dirname(settings.socket))
        pidfile = None
        if settings.pidfile:
            make_folder(os.path.dirname(settings.pidfile))
            pidfile = Pidfile(settings.pidfile)
            undo.callback(pidfile.remove)
        control = control_socket.listen(settings.socket, warn)
        undo.callback(control.remove)
        notify = Receiver(notify_path(settings.socket))
        undo.pop_all()
    return Doors(pidfile, control, notify)


def notify_path(control: str) -> str:
    """Beside the control socket, whose holder has the right to it: ``NAME.notify``."""
    return control.removesuffix(".sock") + ".notify"
