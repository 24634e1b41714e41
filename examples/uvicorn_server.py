"""uvicorn as a command, leaving without a lost request.

    [pools.web]
    command = ["python", "-m", "examples.uvicorn_server", "shop.asgi:app"]
    sockets = ["http"]
    ready = "notify"

On TERM, `uvicorn --fd 3` closes every connection on which it has not read a
request: one that was accepted a moment ago, and one that is kept alive while the
next request is on its way.  Its clients see a reset.  Here it accepts no more,
answers everybody once more with `Connection: close`, and only then does as ever.
Knows uvicorn's `Server`; knows nothing of the application.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

import uvicorn

LINGER = 1.0  # seconds that a client may keep a connection without a request once we stop
GLANCE = 0.05
FIRST = 3  # LISTEN_FDS begin here


class Server(uvicorn.Server):
    """One that says when it is up, and takes its leave."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """READY=1 once connections are accepted: with broken code that never comes."""
        await super().startup(sockets)
        if path := os.environ.get("NOTIFY_SOCKET"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"READY=1", path)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let the connections end, and only then close those that are left."""
        for server in self.servers:
            server.close()
        self.server_state.default_headers.append((b"connection", b"close"))  # also of requests in hand
        await asyncio.sleep(GLANCE)  # what was accepted last is not among the connections yet
        until = time.monotonic() + LINGER
        while self.server_state.connections and time.monotonic() < until:  # noqa: ASYNC110  # uvicorn polls, too
            await asyncio.sleep(GLANCE)
        await super().shutdown(sockets)


def main(application: str) -> None:
    """Serve on all sockets that were passed."""
    descriptors = range(FIRST, FIRST + int(os.environ["LISTEN_FDS"]))
    # Not by `fd=`: it takes each for a unix socket, and so leaves out TCP_NODELAY.
    sockets = [socket.socket(fileno=fd) for fd in descriptors]
    Server(uvicorn.Config(application, access_log=False)).run(sockets=sockets)


if __name__ == "__main__":
    main(sys.argv[1])
