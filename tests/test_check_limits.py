"""`check` tries whether the limits of pools can be had, and leaves its own as they are."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from reading import NOBODY, as_nobody, written

from supervisor.check import check, limits
from supervisor.config import read
from supervisor.settings import Settings

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's config.toml is, which is also the current folder."""
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(above.stat().st_mode | 0o011)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def limited(text: str) -> Settings:
    pool = f"[pools.a]\ncommand = ['/bin/true']\nlimits = {{ {text} }}\n"
    return read(written(pool, mode=0o644), os.environ)


@as_root
@pytest.mark.parametrize("value", ["MORE", '"unlimited"'])
def test_a_limit_above_the_hard_one_is_a_mistake_where_it_may_not_be_raised(value: str) -> None:
    """Told with its key; the start of each worker would fail."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = before[1] + 1
    settings = limited(f"nofile = {value.replace('MORE', str(more))}, core = 0")
    with as_nobody():
        told = check(settings)
    assert "\n".join(told) == (
        f"config.toml: pools.a.limits.nofile: expected at most {before[1]}, since uid {NOBODY} may not raise "
        f"the hard limit here to {more if value == 'MORE' else 'unlimited'}: "
        "lower it, or raise the limit where the master is started"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


@as_root
def test_a_limit_up_to_the_hard_one_is_none() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    settings = limited(f"nofile = {hard}")
    with as_nobody():
        assert check(settings) == []


def test_what_may_be_raised_is_none_and_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rights of root are worth is known only by trying, here with a kernel that lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    tried: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(limits.resource, "setrlimit", lambda *arguments: tried.append(arguments))
    assert check(limited(f"nofile = {hard + 1}")) == []
    assert tried == [(resource.RLIMIT_NOFILE, (soft, hard + 1)), (resource.RLIMIT_NOFILE, (soft, hard))]


def test_what_not_even_root_may_have_is_a_mistake() -> None:
    """The kernel has a most of its own for descriptors: fs.nr_open."""
    (line,) = check(limited(f"nofile = {1 << 50}"))
    assert line.startswith("config.toml: pools.a.limits.nofile: expected at most ")
