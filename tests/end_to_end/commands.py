"""Pools that run a command, as TOML; and what a small program in Python needs to speak to its master."""

from __future__ import annotations

import json
import sys
from textwrap import dedent

NOTIFY = """
import os, signal, socket, sys, time
way = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
way.connect(os.environ["NOTIFY_SOCKET"])
def say(*words):
    way.send("\\n".join(words).encode())
"""


def pool(argv: list[str], more: str = "", name: str = "a") -> str:
    """One that runs a command: strings look alike in JSON and TOML."""
    return f"\n[pools.{name}]\ncommand = {json.dumps(argv)}\n{dedent(more)}\n"


def shell(script: str, more: str = "", name: str = "a") -> str:
    """One that runs a script."""
    return pool(["sh", "-c", script], more, name)


def python(code: str, more: str = "", name: str = "a") -> str:
    """One that runs Python, with `say`."""
    return pool([sys.executable, "-c", NOTIFY + dedent(code)], more, name)
