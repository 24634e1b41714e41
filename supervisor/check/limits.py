"""Whether the limits of a pool can be had: going above a hard one takes rights that even root may lack.

Tried as the user who checks, who should be the one who will start the master: no
rule about capabilities is as sure.  What was is put back.  setrlimit(2)
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from supervisor.child.standing import written
from supervisor.config.problems import KeyPath, Problem
from supervisor.settings import PoolSettings


def problems(pool: PoolSettings, path: KeyPath) -> Iterator[Problem]:
    """Of each limit with which no worker could start."""
    for name, value in pool.limits.items():
        kind = getattr(resource, f"RLIMIT_{name.upper()}")
        if _is_denied(kind, value):
            most = written(resource.getrlimit(kind)[1])
            wrong = f"expected at most {most}, since uid {os.geteuid()} may not raise the hard limit here"
            advice = "lower it, or raise the limit where the master is started"
            yield Problem((*path, "limits", name), f"{wrong} to {written(value)}: {advice}")


def _is_denied(kind: int, value: int) -> bool:
    soft, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or (value != resource.RLIM_INFINITY and value <= hard):
        return False
    try:
        resource.setrlimit(kind, (soft, value))
    except (OSError, ValueError):  # ValueError is what Python makes of EPERM
        return True
    resource.setrlimit(kind, (soft, hard))
    return False
