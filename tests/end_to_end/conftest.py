"""Fixtures of the end-to-end tests, and what must hold after each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from program import Program, become_subreaper, check_no_child_left, reap_strangers


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """`program(app, config, ...)` starts one; at the end nothing of it may be left."""
    become_subreaper()
    reap_strangers()
    started: list[Program] = []

    def start(app: str, config: str, folder: Path = tmp_path, **more: Any) -> Program:
        one = Program(folder, app, config, **more)
        started.append(one)
        return one

    yield start
    try:
        for one in started:
            one.check_traces()
    finally:
        check_no_child_left()
