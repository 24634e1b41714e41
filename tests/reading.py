"""What tests of the configuration do over and over: write config.toml here and read it, also as nobody."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.config import read
from supervisor.errors import ConfigError
from supervisor.settings import Settings

NOBODY = 65534
POOL = '[pools.web]\ntarget = "app:run"\n'


def written(text: str | bytes, mode: int = 0o600) -> str:
    path = Path("config.toml")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return str(path)


def settings(text: str, **environ: str) -> Settings:
    return read(written(text), environ)


def problems(text: str | bytes, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(written(text), environ)
    assert refused.value.status == 2
    assert str(refused.value) == "\n".join(refused.value.problems)
    return refused.value.problems


def unreadable(path: str) -> str:
    with pytest.raises(ConfigError) as refused:
        read(path, {})
    (line,) = refused.value.problems
    return line


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, which the test has and gets back."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
