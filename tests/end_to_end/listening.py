"""Listening sockets of a `Program`, seen from outside: addresses, clients, descriptors.

`ANSWERS` is a target that tells each client by whom and where it was accepted.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import sys
from pathlib import Path
from typing import Any

import psutil

Address = tuple[str, int] | str

ANSWERS = """
    import json
    import select

    def run(worker):
        poll = select.poll()
        poll.register(worker, select.POLLIN)
        names = {listener.fileno(): name for name, listener in worker.sockets.items()}
        for listener in worker.sockets.values():
            listener.setblocking(False)
            poll.register(listener, select.POLLIN)
        while not worker.stopping:
            for fd, _ in poll.poll():
                if fd in names:
                    answer(worker, names[fd])

    def answer(worker, name):
        try:
            client, _ = worker.sockets[name].accept()
        except BlockingIOError:
            return
        with client:
            facts = {"socket": name, "worker": worker.id, "generation": worker.generation}
            client.sendall(json.dumps(facts).encode())
"""

# A program that inherits listening sockets, and tells its first client what it was given.
COMMAND = """
import json, os, socket, sys, time
FACTS = {
    "listen": {key: value for key, value in os.environ.items() if key.startswith("LISTEN_")},
    "pid": os.getpid(),
    "fds": {int(fd): os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")},
}
listener = socket.socket(fileno=3)
while True:
    client, _ = listener.accept()
    client.sendall(json.dumps(FACTS).encode())
    client.close()
"""

# What a service manager does: opens sockets, says so in the environment, executes the rest.
PARENT = """
import os, socket, sys
given, environment, argv = sys.argv[1], sys.argv[2], sys.argv[3:]
held = []
for number, where in enumerate(given.split() if given else []):
    kind = socket.SOCK_DGRAM if where.startswith("udp:") else socket.SOCK_STREAM
    where = where.removeprefix("udp:")
    if where.startswith("/"):
        one = socket.socket(socket.AF_UNIX, kind)
        one.bind(where)
    else:
        host, _, port = where.rpartition(":")
        one = socket.socket(socket.AF_INET, kind)
        one.bind((host, int(port)))
    if kind == socket.SOCK_STREAM:
        one.listen()
    held.append(os.dup(one.fileno()))
for number, fd in enumerate(held):
    os.dup2(fd, 100 + number)
os.closerange(3, 100)
for number in range(len(held)):
    os.dup2(100 + number, 3 + number)
    os.set_inheritable(3 + number, True)
os.closerange(100, 200)
for pair in environment.split(" ") if environment else []:
    key, _, value = pair.partition("=")
    os.environ[key] = value.replace("PID", str(os.getpid()))
os.execvp(argv[0], argv)
"""


def passing(given: str, environment: str) -> list[str]:
    """``before=`` of a `Program`: ``ADDRESS ADDRESS`` become 3, 4, ...; "PID" is the master's."""
    return [sys.executable, "-c", PARENT, given, environment]


def place() -> tuple[str, int]:
    """An address that nobody else has: all of 127.0.0.0/8 is this machine."""
    return f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(1, 254)}", 8000


def written(address: tuple[str, int]) -> str:
    """As `bind` has it."""
    return f"{address[0]}:{address[1]}"


def dial(address: Address) -> socket.socket:
    """A new connection."""
    if not isinstance(address, str):
        return socket.create_connection(address, timeout=20)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(address)
    return client


def ask(address: Address) -> Any:
    """What a new client is told."""
    with dial(address) as client:
        return told(client)


def told(client: socket.socket) -> Any:
    """What is told to one that is connected."""
    said = b""
    while data := client.recv(65536):
        said += data
    return json.loads(said)


def refuses(address: Address) -> bool:
    """Whether nobody listens there."""
    try:
        dial(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


def fds(pid: int) -> dict[int, str]:
    """The descriptors of a process, and what they are."""
    found = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since
            found[int(path.name)] = os.readlink(path)
    return found


def port(pid: int, fd: int) -> int:
    """Where a process listens with a descriptor."""
    [found] = [c for c in psutil.Process(pid).net_connections("inet") if c.fd == fd]
    return int(found.laddr.port)
