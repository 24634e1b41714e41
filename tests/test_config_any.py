"""Whatever is in a file: settings, or lines that a person can read; never another exception."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from reading import problems

from supervisor import settings as words
from supervisor.config import read, understand
from supervisor.config.mistakes import keys
from supervisor.errors import ConfigError

KEYS = [key for cls in vars(words).values() if dataclasses.is_dataclass(cls) for key in keys(cls)]
SECTIONS = ["master", "pools", "web", "hooks", "sockets", "tasks", "http"]
WRITTEN = [
    "a:b",
    "auto",
    "5s",
    "1GB",
    "${X}",
    "${HOME:-/}",
    "${",
    "~",
    "inherit",
    "unix:x",
    "fd:x",
    "TERM",
    "0027",
]
WORDS = st.sampled_from([*KEYS, *SECTIONS, *WRITTEN, "25%", "", "\0", "\n\x1b"])
LEAVES = (
    WORDS
    | st.text(max_size=8)
    | st.booleans()
    | st.integers()
    | st.integers(0, 5)
    | st.floats()
    | st.dates()
    | st.just(10**4000)
)
VALUES = st.recursive(
    LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), v, max_size=5)
)


def tables(cls: type) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys(cls)), VALUES, max_size=6) | VALUES


DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "master": tables(words.MasterSettings),
        "pools": st.dictionaries(WORDS, tables(words.PoolSettings), max_size=3) | VALUES,
        "sockets": st.dictionaries(WORDS, tables(words.SocketSettings), max_size=2) | VALUES,
        "tasks": st.dictionaries(WORDS, tables(words.TaskSettings), max_size=2) | VALUES,
        "http": tables(words.HttpSettings),
        "hooks": tables(words.Hooks),
        "pool": VALUES,
    },
)


def told(document: dict[str, Any], environ: dict[str, str]) -> list[str]:
    """The problems; there is either one at least, or a pool at least."""
    try:
        read_ = understand(document, "config.toml", environ)
    except ConfigError as error:
        return error.problems or ["none at all"]
    return [] if read_.pools else ["no pools"]


@examples(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(DOCUMENTS, st.dictionaries(st.sampled_from(["X", "HOME"]), st.text(max_size=5)))
def test_any_document_gives_settings_or_lines(document: dict[str, Any], environ: dict[str, str]) -> None:
    lines = told(document, environ)
    assert all(line.startswith("config.toml: ") and line.isprintable() for line in lines)


@examples(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.binary(max_size=60)
    | st.lists(st.sampled_from([b"[", b"]", b"pools", b".", b"=", b"\n", b'"', b"1"])).map(b"".join)
)
def test_any_bytes_give_settings_or_lines(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as refused:
        read(str(path), {})
    assert all(line.isprintable() for line in refused.value.problems)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 50_000, "a = " + "{a=" * 50_000, "[" + "a." * 20_000 + "a]", "a=" + "9" * 9999]
)
def test_a_hostile_document_is_refused_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    assert problems(text)
