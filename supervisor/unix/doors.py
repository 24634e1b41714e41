"""What the master holds open: pidfile, control socket, notify sockets, listening sockets, state file.

Opened together before the first fork, so that a second master or a bad path is
found out while nothing has happened; closed and removed together at the end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from supervisor.errors import StartError
from supervisor.settings import Account, MasterSettings, Settings
from supervisor.unix import control_socket
from supervisor.unix.control_socket import ControlSocket
from supervisor.unix.files import Pidfile, make_folder
from supervisor.unix.held import Held
from supervisor.unix.leftovers import Leftovers
from supervisor.unix.listen_fds import received
from supervisor.unix.notify import Receiver
from supervisor.unix.sockets import Listeners, TakenError

PASS_THROUGH = 0o011


@dataclass(frozen=True)
class Taken:
    """An address that workers of an earlier master still hold."""

    address: str
    holders: tuple[str, ...]  # none: it has become free just now
    error: str  # what to say if that does not change


@dataclass
class Doors:
    """All of them are open, but for the listening ones while one is `taken`; or an error was raised."""

    pidfile: Pidfile | None
    control: ControlSocket
    notify: Receiver
    listeners: Listeners
    state: Held = field(default_factory=Held)
    for_users: dict[int, Receiver] = field(default_factory=dict)  # by uid: who may not write to ours
    taken: Taken | None = None

    def receivers(self) -> list[Receiver]:
        """All notify sockets."""
        return [self.notify, *self.for_users.values()]

    def notify_path(self, account: Account | None) -> str:
        """By which path a worker of that account reaches the master."""
        other = self.for_users.get(account.uid) if account else None
        return (other or self.notify).path

    def admit(self, accounts: Iterable[Account]) -> list[Receiver]:
        """Open a notify socket for each of these users who has none; return the new ones, all or none.

        Only its owner may write to it: one that everybody could fill would keep READY from coming
        through.  Its folder lets others pass, and not list it.
        """
        new: dict[int, Receiver] = {}
        with contextlib.ExitStack() as undo:
            for uid in {account.uid for account in accounts} - {os.geteuid(), *self.for_users}:
                new[uid] = Receiver(f"{self.notify.path}.{uid}", owner=uid)
                undo.callback(new[uid].close)
            if new:
                _let_pass(os.path.dirname(self.notify.path))
            undo.pop_all()
        self.for_users |= new
        return list(new.values())

    def listen(self, settings: Settings, warn: Callable[[str], None]) -> Taken | None:
        """Open the listening sockets, all or none; `taken` tells for whom it has to be done again.

        Raises:
            StartError: one of them cannot be had, by waiting neither.
        """
        uids = {os.geteuid(), *(account.uid for account in settings.accounts.values())}
        leftovers = Leftovers(settings.master.name, uids)
        try:
            self.listeners.commit(self.listeners.prepare(settings.sockets, leftovers))
        except TakenError as error:
            holders = leftovers.at(error.address)
            if holders is None:
                raise
            self.taken = Taken(str(error.address), tuple(holders), str(error))
            return self.taken
        self.taken = None
        for name in self.listeners.unclaimed():
            warn(f'the service manager passed the socket {name!r}, and no [sockets] has bind = "fd:{name}"')
        return None

    def remove(self) -> None:
        """Leave no file behind.  The lock goes last: then a successor may begin."""
        for receiver in self.receivers():
            receiver.close()
        self.listeners.close()
        self.control.remove()
        if self.pidfile:
            self.pidfile.remove()


def open_doors(
    settings: Settings, environ: Mapping[str, str], warn: Callable[[str], None], state: Held | None = None
) -> Doors:
    """Take the pidfile and the sockets; StartError or AlreadyRunningError if that cannot be."""
    master = settings.master
    with contextlib.ExitStack() as undo:
        listeners = Listeners(received(environ, os.getpid()), warn)
        undo.callback(listeners.close)
        make_folder(os.path.dirname(master.socket))
        pidfile = _lock(master, undo)
        control = control_socket.listen(master.socket, warn)
        undo.callback(control.remove)
        notify = Receiver(notify_beside(master.socket))
        undo.callback(notify.close)
        doors = Doors(pidfile, control, notify, listeners, state or Held())
        doors.listen(settings, warn)
        doors.admit(settings.accounts.values())
        undo.pop_all()
    return doors


def _lock(master: MasterSettings, undo: contextlib.ExitStack) -> Pidfile | None:
    if not master.pidfile:
        return None
    make_folder(os.path.dirname(master.pidfile))
    pidfile = Pidfile(master.pidfile)
    undo.callback(pidfile.remove)
    return pidfile


def notify_beside(control: str) -> str:
    """The notify socket's path: ``NAME.notify``, since who holds the control socket has the right to it."""
    return control.removesuffix(".sock") + ".notify"


def _let_pass(folder: str) -> None:
    mode = os.stat(folder).st_mode
    if mode & PASS_THROUGH != PASS_THROUGH:
        try:
            os.chmod(folder, mode & 0o7777 | PASS_THROUGH)
        except OSError as error:
            raise StartError(
                f"pools with 'user' cannot reach the master in {folder}: {error.strerror}; chmod a+x it"
            ) from error
