"""The command line: what a person types and reads.

Only `main` is here, so that a Ctrl-C during the imports of the rest ends the
command as it ends any other, without a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """The console script ``supervisord-lite``."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the caller ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from supervisor.unix.files import open_standard

    open_standard()
    # Closed by the caller: print() must have somewhere to go.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for good
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    from supervisor.cli.run import run

    sys.exit(run(sys.argv[1:]))
