"""Run the command as a person does, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TIMEOUT = 60  # a safety net


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SUPERVISORD_LITE")}
    return {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "80", **more}


def run(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; no way of failing prints a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "supervisor", *arguments],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    return text
