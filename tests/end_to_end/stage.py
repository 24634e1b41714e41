"""A master in name only: the real control server in a loop, and no workers behind it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from command import environment

from supervisor.control import protocol
from supervisor.control.server import Server
from supervisor.unix.loop import Loop

LISTENER = """
import socket, sys
from supervisor.unix.control_socket import listen
here = socket.socket(fileno=0)
control = listen(sys.argv[1])
socket.send_fds(here, [b"."], [control.socket.fileno()])
here.recv(1)
"""


class Stage:
    """A master in name only: ``script`` says what a request brings about.

    The socket is made by a process of its own, so that the kernel names its
    pid to clients, and that process ends when the master is to have left.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.status = status_of_a_shop()
        self.results: dict[str, object] = {"reload": {"reload": 7}}
        self.script: dict[str, Callable[[], None]] = {}
        self.asked: list[str] = []
        self.params: dict[str, protocol.Params] = {}
        self.events: list[dict[str, object]] = []
        self.loop = Loop()
        self._hold, there = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LISTENER, path], stdin=there, env=environment()
        )
        there.close()
        _, fds, _, _ = socket.recv_fds(self._hold, 1, 1)
        self.server = Server(self.loop, socket.socket(fileno=fds[0]), self.answer)
        self._dropping = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._turn)
        self._thread.start()

    def answer(self, method: str, params: protocol.Params, _uid: int) -> object:
        self.asked.append(method)
        self.params[method] = params
        self.script.get(method, lambda: None)()
        return self.status if method == "status" else self.results.get(method, True)

    def _turn(self) -> None:
        while not self._over.is_set():
            for seen in self.loop.poll(self.loop.now() + 0.02):
                self.server.seen(seen, self.loop.now())
            while self.events:
                self.server.publish(self.events.pop(0))
            if self._dropping:
                self._drop()
        os.unlink(self.path)
        self.server.finish()
        self._hold.close()
        self.process.wait()

    def _drop(self) -> None:
        self._dropping = False
        for client in [client for client in self.server._clients.values() if client.streaming]:
            client.flush()
            self.server._close(client)

    def drop(self, *events: dict[str, object]) -> None:
        """After these events, end the streams without a word: who did not read for long has it so."""
        self.events += events
        self._dropping = True

    def leave(self, *events: dict[str, object]) -> None:
        """After these events, be gone."""
        self.events += [{"event": "stop.phase", "message": "phase terminate"}, *events]
        self._over.set()

    def finished(self) -> None:
        self._over.set()
        self._thread.join()

    def close(self) -> None:
        self.finished()
        self.loop.close()


def status_of_a_shop() -> dict[str, Any]:
    return {
        "name": "shop",
        "pid": 1,
        "version": "1",
        "state": "running",
        "generation": 1,
        "uptime": 192.0,
        "stop_deadline": None,
        "pools": {"web": pool("ready", 2, [worker("web.0", "ready"), worker("web.1", "ready")])},
    }


def pool(state: str, desired: int, workers: list[dict[str, Any]]) -> dict[str, Any]:
    ready = sum(w["state"] == "ready" for w in workers)
    return {
        "state": state,
        "desired": desired,
        "ready": ready,
        "generation": 1,
        "restarts": 0,
        "workers": workers,
    }


def worker(name: str, state: str, **more: object) -> dict[str, Any]:
    return {
        "id": name,
        "slot": int(name.split(".")[1]),
        "pid": 4711,
        "state": state,
        "generation": 1,
        "uptime": 192.4,
        "restarts": 0,
        "status": None,
        "jobs": 1234,
        "in_flight": 2,
        "memory": 24 << 20,
        "cpu": 3.4,
        "last_exit": None,
        **more,
    }


def report(status: int, *killed: str) -> dict[str, object]:
    workers = [
        {
            "worker": k,
            "pid": 7,
            "acknowledged_after": None,
            "gone_after": 30.0,
            "killed": True,
            "in_flight": 3,
        }
        for k in killed
    ]
    return {"event": "stop.report", "message": "", "status": status, "seconds": 30.0, "workers": workers}
