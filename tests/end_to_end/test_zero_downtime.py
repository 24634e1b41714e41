"""No request fails, whatever is reloaded or recycled under load.

A target and a command share one listener: `examples/http_server.py` and
`examples/uvicorn_server.py`, which leave as docs/sockets.md tells to.  wrk and
slower clients send requests over connections that are kept and over new ones.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from listening import place, written
from load import Address, load
from program import Program
from reloading import code, configure, fails, least, strength, works

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed"),
]
Start = Callable[..., Program]

ROOT = str(Path(__file__).resolve().parent.parent.parent)
RELOADS = 20
REQUESTS = 50_000

TARGET = """
    from examples import http_server

    async def run(worker):
        await http_server.run(worker)
"""
ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"7")]})
    await send({"type": "http.response.body", "body": b"uvicorn"})
"""
CONFIG = """
    [sockets.http]
    bind = "{bind}"
    [pools.target]
    target = "app:run"
    workers = 4
    sockets = ["http"]
    surge = 2
    stable_after = "200ms"
    {more}
    {target}
    [pools.asgi]
    command = ["{python}", "-m", "examples.uvicorn_server", "asgi:app"]
    ready = "notify"
    workers = 4
    sockets = ["http"]
    surge = 2
    stable_after = "200ms"
    {more}
"""


def serving(program: Start, folder: Path, *, more: str = "", target: str = "") -> tuple[Program, Address]:
    """Eight workers on one listener."""
    (folder / "asgi.py").write_text(ASGI)
    address = place()
    config = CONFIG.format(bind=written(address), python=sys.executable, more=more, target=target)
    # Without bytecode: a cached file may be taken for a source that changed within one second.
    env = {"PYTHONPATH": f"{folder}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    return program(TARGET, config, env=env).ready(), address


def test_reloads_with_good_code_fail_no_request(program: Start, tmp_path: Path) -> None:
    one, address = serving(program, tmp_path)
    with load(address) as result:
        for _ in range(RELOADS):
            works(one)
    assert (least(one, "target"), least(one, "asgi")) == (4, 4)
    one.stop()
    assert result.failed == []
    assert result.requests > REQUESTS
    assert result.answered["uvicorn"]
    assert any(f"generation {RELOADS}" in text for text in result.answered)


def broken_at_import(one: Program) -> None:
    code(one, "raise RuntimeError('broken at import')\n")


def broken_syntax(one: Program) -> None:
    code(one, "def run(worker:\n")


def broken_command(one: Program) -> None:
    code(one, "raise RuntimeError('broken at import')\n", "asgi.py")


def broken_soon_after_readiness(one: Program) -> None:
    """Before it accepts: a crash with a request in hand loses that one, and nobody can help it."""
    code(one, "def run(worker):\n    worker.wait(0.05)\n    raise RuntimeError('broken after 50 ms')\n")


LAST_FAILS = """
    from supervisor import on_worker_start

    @on_worker_start
    def check(worker):
        assert worker.slot < 3, "the last one fails"
"""


def broken_in_one_of_four(one: Program) -> None:
    """Found when the others have taken over: they are to be replaced once more."""
    code(one, TARGET + LAST_FAILS)


def broken_configuration(one: Program) -> None:
    configure(one, ("[pools.target]", "[pools.target]\nwokers = 3"))


BREAKERS = (
    broken_at_import,
    broken_syntax,
    broken_command,
    broken_soon_after_readiness,
    broken_in_one_of_four,
    broken_configuration,
)


@pytest.mark.parametrize("preload", ["false", "true"])
def test_reloads_with_broken_code_fail_no_request(program: Start, tmp_path: Path, preload: str) -> None:
    """Neither while the new code is tried, nor while what has rolled already is rolled back."""
    one, address = serving(program, tmp_path, target=f"preload = {preload}")
    one.tracebacks_expected = True
    good = one.config.read_text()
    with load(address) as result:
        for number in range(RELOADS):
            BREAKERS[number % len(BREAKERS)](one)
            fails(one)
            code(one, TARGET)
            code(one, ASGI, "asgi.py")
            one.config.write_text(good)
        works(one)
    assert (least(one, "target"), least(one, "asgi")) == (4, 4)
    one.stop()
    assert result.failed == []
    assert result.requests > REQUESTS / 2  # there are two of these tests


# Recycling


@pytest.mark.parametrize("limits", ['max_age = "1s"', 'max_age = "2s"\nmax_jobs = 500'])
def test_recycling_fails_no_request(program: Start, tmp_path: Path, limits: str) -> None:
    """Each worker is replaced several times; a program tells of no jobs, so only its age wears it."""
    one, address = serving(program, tmp_path, more=limits)
    ids = {f"{pool}.{slot}" for pool in ("target", "asgi") for slot in range(4)}
    up = one.mark()
    with load(address) as result:
        one.wait_until(lambda: all(replaced(one, id) >= 3 for id in ids), timeout=120)
    assert min(strength(one, "target", up) + strength(one, "asgi", up)) == 4
    one.stop()
    assert result.failed == []
    assert result.requests > REQUESTS / 5


# Scaling


def test_scaling_fails_no_request(program: Start, tmp_path: Path) -> None:
    one, address = serving(program, tmp_path)
    with load(address) as result:
        for size in (1, 6, 2, 8, 1, 4) * 2:
            for pool in ("target", "asgi"):
                assert one.cli("scale", "--no-wait", pool, str(size)).returncode == 0
            one.wait_until(lambda size=size: sizes(one) == [size, size])
    one.stop()
    assert result.failed == []
    assert result.requests > REQUESTS / 5


def sizes(one: Program) -> list[int]:
    """How many there are of each pool, where all are ready."""
    pools = one.status()["pools"].values()
    return [len(pool["workers"]) * (pool["ready"] == len(pool["workers"])) for pool in pools]


def replaced(one: Program, id: str) -> int:
    """How many of that name were told to leave, each after its successor was ready."""
    return sum(e["event"] == "worker.exited" and e["worker"] == id for e in one.events)
