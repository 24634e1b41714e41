"""From whom the master keeps a stream of its own (stdout or stderr): whose lines it has read instead.

Who decides whether a process that reads them is needed, and who makes the pipes,
have to agree.  What a descriptor is, is seen in `unix.sinks`.
"""

from __future__ import annotations

from typing import Literal

Kept = Literal["", "others", "all"]  # from nobody; from workers of other users; from all workers
Streams = tuple[Kept, Kept]  # stdout and stderr


def is_kept(stream: Kept, *, other_user: bool) -> bool:
    """Whether it is kept from a worker, which may be of another user."""
    return stream == "all" or (stream == "others" and other_user)
