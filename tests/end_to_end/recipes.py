"""The recipes of docs/programs.md as they stand there, each in a folder of its own.

Only the address is another one, so that tests can run side by side.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from listening import place
from pages import recipe
from program import Program

# Programs of this environment come first, then those of the system; nginx is where root looks.
PATH = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}:/usr/sbin"


def need(*programs: str) -> None:
    """Skip where one of these is not installed."""
    for name in programs:
        if shutil.which(name, path=PATH) is None:
            pytest.skip(f"{name} is not installed")


def cook(
    start: Callable[..., Program], folder: Path, heading: str, **more: Any
) -> tuple[Program, tuple[str, int]]:
    """Start what stands under a heading; and where it listens."""
    host, port = place()
    files = {name: text.replace("127.0.0.1", host) for name, text in recipe(heading).items()}
    for name, text in files.items():
        if name != "config.toml":
            (folder / name).write_text(text)
    environment = {"PATH": PATH, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    one = start("", files["config.toml"], env=environment, **more)
    return one, (host, port)


def ended(one: Program) -> dict[str, tuple[int | None, str | None]]:
    """After its stop: how each worker that was there then has left."""
    return {w["worker"]: (w["code"], w["signal"]) for w in one.stop()["workers"] if not w["killed"]}
