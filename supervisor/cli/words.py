"""Numbers as people read them, and text that cannot harm a terminal."""

from __future__ import annotations

from datetime import datetime, timezone

MINUTE, HOUR, DAY = 60, 3600, 86400
KIB = 1024


def age(seconds: float) -> str:
    """``0.4s``, ``12s``, ``3m12s``, ``2h05m``, ``4d03h``."""
    whole = int(seconds)
    if seconds < 10:  # noqa: PLR2004  # tenths say something only below
        return f"{max(0.0, seconds):.1f}s"
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02}s"
    if whole < DAY:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02}m"
    return f"{whole // DAY}d{whole % DAY // HOUR:02}h"


def size(count: float) -> str:
    """``512 B``, ``3.2 MiB``, ``24 MiB``."""
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):  # noqa: B007
        if count < KIB:
            break
        count /= KIB
    return f"{count:.1f} {unit}" if unit != "B" and count < 10 else f"{count:.0f} {unit}"  # noqa: PLR2004


def count(number: int, word: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number} {word}{'s' * (number != 1)}"


def until(moment: str | None) -> float | None:
    """Seconds from now to an ISO 8601 time; None for none."""
    when = _parsed(moment)
    return None if when is None else (when - datetime.now(timezone.utc)).total_seconds()


def _parsed(moment: str | None) -> datetime | None:
    if not moment:
        return None
    # Python 3.10 does not know the Z.
    found = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return found if found.tzinfo else found.astimezone()


def plain(text: object) -> str:
    """One line without control characters: what workers say must not steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def cut(text: str, width: int | None) -> str:
    """Whole where there is no width."""
    return text if width is None or len(text) <= width else text[: max(0, width - 3)] + "..."
