"""Events to lines: one table of words, three formats, no I/O.

An event is a plain dict; a json line and the event stream carry the same object.
Knows the name, level and sentence of every event and how a line is made safe: whatever a worker
says, it cannot forge a line, reach the terminal (control characters are escaped) or fill the log.
Knows nothing of where lines go (`unix.output`) or of what happened before.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from supervisor.sentences import NAMED, WORDS, duration, said

Event = dict[str, Any]

LEVELS = ("debug", "info", "warning", "error")
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # syslog(3)
_COLOUR = {"debug": "2", "warning": "33", "error": "1;31"}

_FIELD, _BLOCK = 8 * 1024, 32 * 1024  # bytes of a text; of a stack
_LINE, _REPORT = 64 * 1024, 1024 * 1024  # a stop.report names every worker, 1,000 are 150 KB
_BLOCKS = ("stack", "traceback", "text")  # the fields that may have lines
_CUT = "...[cut]"
_SLOW = 1.0  # seconds; who needs longer to leave is named in the summary

_OF_A_WORKER = (
    "{worker}[ (pid {pid})] {fate}[ after {gone_after}]"
    "[, acknowledged after {acknowledged_after}|, never acknowledged][, {in_flight} in flight]"
)

# Of plain trees (`_plain`), so without a search for circles.  `json.dumps` would make an encoder a call.
_encoded = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
# C0, DEL and C1 controls (ESC, CSI), line separators, what turns text around, lone surrogates.
_HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def make(event: str, level: str | None = None, *, wall: float, **fields: Any) -> Event:
    """The event ``event`` at ``wall`` (seconds, as of `time.time`), with its sentence.

    Fields become plain data; one that cannot be shown becomes a description, never an error.
    """
    known = {k: _plain(v, _BLOCK if k in _BLOCKS else _FIELD) for k, v in fields.items()}
    default, sentence = WORDS.get(event) or ("info", _in_pairs(event, known))
    told = {"told": _told(known.get("workers") or [])} if event == "stop.report" else {}
    message = _cut(said(sentence, known | told), _FIELD)
    return {"time": _iso(wall), "level": level or default, "event": event, "message": message, **known}


def _in_pairs(event: str, known: Event) -> str:
    """The sentence of an event that has none of its own."""
    pairs = (f"{k}={{{k}}}" for k, v in known.items() if v is not None and k not in _BLOCKS)
    return " ".join([event, *pairs])


def passes(event: Event, least: str) -> bool:
    """Whether ``event`` belongs in a log of this level and above."""
    level = event.get("level")
    return level not in LEVELS or LEVELS.index(level) >= LEVELS.index(least)


def render(event: Event, format: str, colour: bool = False) -> bytes:
    """One event of `make` as ``text``, ``json`` or ``journal``, with its newline."""
    if format == "json":
        return _json(event)
    lines = [_escaped(str(event.get("message", ""))), *_details(event)]
    if format == "journal":
        # sd-daemon(3): the prefix holds for one line, so each line gets its own.
        prefix = f"<{_PRIORITY.get(event.get('level', 'info'), 6)}>"
        return _bytes(prefix + f"\n{prefix}".join(_cut("\n".join(lines), _LINE).split("\n")))
    return _bytes(_cut("\n".join([_opening(event, colour) + lines[0], *lines[1:]]), _LINE))


def choose_format(setting: str, stream_fd: int, environ: Mapping[str, str]) -> str:
    """``auto`` is journal under systemd, text on a terminal, else json.

    JOURNAL_STREAM names the device and inode of the stream that systemd handed out: it is
    inherited also where stderr has been redirected since, so it must match.  systemd.exec(5)
    """
    if setting != "auto":
        return setting
    try:
        stream = os.fstat(stream_fd)
    except OSError:
        return "json"
    if environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}":
        return "journal"
    return "text" if os.isatty(stream_fd) else "json"


def choose_colour(stream_fd: int, environ: Mapping[str, str]) -> bool:
    """Colours only on a terminal that has them, and not against NO_COLOR."""
    wanted = not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
    return wanted and os.isatty(stream_fd)


def _told(workers: list[Event]) -> str:
    killed = sum(bool(worker.get("killed")) for worker in workers)
    return f"{len(workers)} worker{'s' * (len(workers) != 1)}, {killed or 'none'} killed"


def _opening(event: Event, colour: bool) -> str:
    """What stands before the message: local time, and the level if it is worth a word."""
    clock, level = _clock(str(event.get("time", ""))), str(event.get("level", "info"))
    word = "" if level == "info" else _escaped(level) + ":"
    if colour:
        clock = f"\x1b[2m{clock}\x1b[0m"
        word = word and f"\x1b[{_COLOUR.get(level, '0')}m{word}\x1b[0m"
    return f"{clock} {word} " if word else f"{clock} "


def _details(event: Event) -> list[str]:
    """The indented lines below the message: the summary of a stop, stacks, what a worker wrote last."""
    if event.get("event") == "stop.report":
        return [f"    {_escaped(line)}" for line in _summary(event)]
    if output := event.get("lines") or event.get("output"):
        return [f"    | {_escaped(str(line))}" for line in output]
    blocks = [str(event[name]).rstrip() for name in _BLOCKS if event.get(name)]
    return [f"    {_escaped(line.expandtabs())}" for block in blocks for line in block.split("\n")]


def _summary(report: Event) -> list[str]:
    """Phases that took time, then who was killed, then who was slow, the slowest first."""
    phases = [f"{k} {duration(v)}" for k, v in (report.get("phases") or {}).items() if v >= 0.005]  # noqa: PLR2004
    lines = ["phases: " + ", ".join(phases[i : i + 3]) for i in range(0, len(phases), 3)]
    notable = sorted((w for w in report.get("workers") or [] if _badness(w) > (False, _SLOW)), key=_badness)
    for worker in notable[: -NAMED - 1 : -1]:
        fate = "killed" if worker.get("killed") else "gone"
        lines.append(said(_OF_A_WORKER, worker | {"fate": fate}))
    more = len(notable) - NAMED
    return [*lines, f"and {more} more"] if more > 0 else lines


def _badness(worker: Event) -> tuple[bool, float]:
    return bool(worker.get("killed")), worker.get("gone_after") or 0.0


def _json(event: Event) -> bytes:
    limit = _REPORT if event.get("event") == "stop.report" else _LINE
    line = _dumped(event)
    while len(line) > limit:
        event = _shortened(event)
        line = _dumped(event)
    return line


def _dumped(value: Any) -> bytes:
    text = _encoded(value)  # what harms is inside strings only
    return _bytes(_HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _shortened(event: Event) -> Event:
    """The same with half of its longest field, and ``"shortened": true``."""
    longest = max(event, key=lambda name: len(_dumped(event[name])))
    value = event[longest]
    half = value[: len(value) // 2] if isinstance(value, (str, list)) else None
    return event | {longest: half, "shortened": True}


def _bytes(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _escaped(text: str) -> str:
    return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _cut(text: str, limit: int) -> str:
    if len(text) * 4 <= limit:  # a character is four bytes at most
        return text
    data = text.encode("utf-8", "backslashreplace")
    return text if len(data) <= limit else data[: limit - len(_CUT)].decode("utf-8", "ignore") + _CUT


def _plain(value: Any, limit: int = _FIELD, depth: int = 5) -> Any:
    """What json can carry, bounded; for all else its description."""
    if isinstance(value, str):  # first what most are
        return _cut(value, limit)
    match value:
        case None | bool():
            return value
        case int() | float() if abs(value) < 2**63:  # never true of a NaN, which JSON has not
            return round(value, 6)
        case Mapping() if depth:
            return {_cut(_shown(k), limit): _plain(v, limit, depth - 1) for k, v in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [_plain(item, limit, depth - 1) for item in value]
    return _cut(_shown(value), limit)


def _shown(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # anyone's __str__, or an int of too many digits
        return f"<{type(value).__name__}>"


def _iso(wall: float) -> str:
    seconds, milliseconds = divmod(int(wall * 1000), 1000)
    return f"{_iso_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=1)
def _iso_second(seconds: int) -> str:
    # Without `datetime`, which would cost the master more memory than this file.
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _clock(iso: str) -> str:
    """Local time of day, to the millisecond."""
    try:
        local = time.localtime(_epoch(iso))
    except (ValueError, OverflowError, OSError):
        return _escaped(iso)
    return time.strftime("%H:%M:%S", local) + iso[19:23]


def _epoch(iso: str) -> int:
    year, month, day = int(iso[:4]), int(iso[5:7]), int(iso[8:10])
    year -= month <= 2  # noqa: PLR2004 - a year that begins in March has its leap day at the end
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day
    return (days - 719469) * 86400 + int(iso[11:13]) * 3600 + int(iso[14:16]) * 60 + int(iso[17:19])
