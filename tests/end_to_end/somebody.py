"""Workers that tell who they are, in a folder that others may enter, and a master without rights."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")

WWW, NOBODY = 33, 65534
# It may read everything: the interpreter may be in a folder of root's.
READS = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *READS)
WITH_MORE_GROUPS = ("setpriv", "--groups", "0,4,27")

LATER = 'backoff = { initial = "1h", max = "1h" }\n'

# Tells what it finds when it is imported, and when it runs.
LOOKS = """
    import json, os, resource, time

    def look():
        with open("/proc/self/status") as file:
            told = {key: value.split() for key, _, value in (line.partition(":") for line in file)}
        return {
            "uids": told["Uid"], "gids": told["Gid"], "groups": told["Groups"],
            "no_new_privs": told["NoNewPrivs"], "umask": told["Umask"], "capabilities": told["CapEff"],
            "nice": os.getpriority(os.PRIO_PROCESS, 0), "folder": os.getcwd(),
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "as": resource.getrlimit(resource.RLIMIT_AS),
            "environ": dict(os.environ),
        }

    def back():
        try:
            os.setuid(0)
        except OSError:
            return "denied"

    def say(name, **fields):
        path = f"{os.environ['DROP']}/{name}.{os.getpid()}"
        with open(path + ".part", "x") as file:
            json.dump(fields, file)
        os.rename(path + ".part", path)

    say("import", **look())

    def run(worker):
        say(worker.id, back=back(), **look())
        worker.ready()
        worker.wait()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that anybody may enter, with a ``drop`` that anybody may write to: pytest's own are private."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "drop").mkdir()
        (path / "drop").chmod(0o1777)
        yield path


def dropped(folder: Path, name: str) -> list[dict[str, Any]]:
    """What was told under that name."""
    return [json.loads(path.read_text()) for path in (folder / "drop").glob(f"{name}.*[0-9]")]


def config(folder: Path, more: str) -> str:
    """One pool of `LOOKS`, with its drop."""
    drop = f'env = {{ DROP = "{folder}/drop" }}'
    return f'[pools.a]\ntarget = "app:run"\nready = "notify"\n{drop}\n{more}'
