"""JSON-RPC 2.0, one object a line: bytes in, bytes out, no I/O.

Knows the methods, their parameters and every way in which a line can be bad;
knows nothing of sockets, or of what a method does: `respond` asks ``answer``.
All that a client can send costs at most its own line: numbers are bounded,
NaN and duplicate keys are refused, and deep nesting is an error like any other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

from supervisor.control import tasks
from supervisor.control.params import Param

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
REFUSED = -32000  # understood, but not possible now
FORBIDDEN = -32001  # not root and not the owner
BUSY = -32002  # too many clients, or too much asked for at once

LINE_LIMIT = 64 * 1024
REPLY_LIMIT = 1024 * 1024  # once a batch's replies are this long, the rest of it is refused
MOST_WORKERS = 10_000
DIGITS = 20  # int() of 100,000 digits is quadratic; no parameter needs more

Params = dict[str, Any]
Answer = Callable[[str, Params], object]  # the result, or `Later`


class Later(NamedTuple):
    """An answer that is not known yet; it will come under this number."""

    number: int


class Refusal(Exception):  # noqa: N818  # the field's word; it is an answer, not a fault
    """An answer that is an error: ``code`` and a message that says what to do next."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


METHODS: dict[str, dict[str, Param]] = {
    "ping": {},
    "version": {},
    "status": {},
    "stop": {"force": Param("true or false", lambda v: isinstance(v, bool), required=False, default=False)},
    "restart": {},
    "reload": {},
    "quiet": {},
    "unquiet": {},
    "scale": {
        "pool": Param("the name of a pool", lambda v: isinstance(v, str)),
        "workers": Param(
            f"a whole number from 0 to {MOST_WORKERS}",
            lambda v: type(v) is int and 0 <= v <= MOST_WORKERS,
        ),
    },
    **tasks.METHODS,
    "events": {},
}


class Reply:
    """What one line is answered with, in the order of its requests; complete when nothing is waited for."""

    def __init__(self, *, batch: bool) -> None:
        self.size = 0  # bytes that are there
        self._batch = batch
        self._parts: list[bytes] = []
        self._places: dict[int, tuple[int, str | int | None]] = {}  # of what is waited for, with its id

    @property
    def complete(self) -> bool:
        """Whether `line` may be sent."""
        return not self._places

    @property
    def waits_for(self) -> Iterable[int]:
        """The numbers of the answers that are to come."""
        return self._places

    def add(self, part: bytes) -> None:
        """One more answer, with its newline."""
        self._parts.append(part)
        self.size += len(part)

    def expect(self, later: Later, identity: str | int | None) -> None:
        """One more, which is not known yet."""
        self._places[later.number] = len(self._parts), identity
        self._parts.append(b"")

    def fill(self, number: int, result: object) -> None:
        """It is known now; ``result`` may be a Refusal."""
        place, identity = self._places.pop(number)
        self._parts[place] = _outcome(identity, result)

    def line(self) -> bytes | None:
        """All of it, with its newline; None if there is none (notifications only)."""
        if not self._batch or not self._parts:
            return self._parts[0] if self._parts else None
        return b"[" + b",".join(part[:-1] for part in self._parts) + b"]\n"


def respond(line: bytes, answer: Answer) -> Reply:
    """The reply to one line."""
    reply = Reply(batch=False)
    try:
        message = parse(line)
    except Refusal as refusal:
        reply.add(failure(None, refusal))
        return reply
    if not isinstance(message, list):
        _respond_to_one(message, answer, reply)
    elif not message:
        reply.add(failure(None, Refusal(INVALID_REQUEST, "an empty batch asks for nothing")))
    else:
        reply = Reply(batch=True)
        for request in message:
            _respond_to_one(request, answer if reply.size < REPLY_LIMIT else _too_much, reply)
    return reply


def _too_much(_method: str, _params: Params) -> NoReturn:
    raise Refusal(BUSY, "the replies to this batch are too long; send fewer requests at once")


def _respond_to_one(request: object, answer: Answer, reply: Reply) -> None:
    identity = _identity(request)
    try:
        method, params = check(request)
        result: object = answer(method, params)
    except Refusal as refusal:
        result = refusal
    # What is no request is no notification either.
    is_none = isinstance(result, Refusal) and result.code == INVALID_REQUEST
    if not is_none and not (isinstance(request, dict) and "id" in request):
        return
    if isinstance(result, Later):
        reply.expect(result, identity)
    else:
        reply.add(_outcome(identity, result))


def _outcome(identity: str | int | None, result: object) -> bytes:
    if isinstance(result, Refusal):
        return failure(identity, result)
    try:
        return _success(identity, result)
    except Refusal as refusal:
        return failure(identity, refusal)


def _identity(request: object) -> str | int | None:
    """The request's id as far as it may be sent back."""
    found = request.get("id") if isinstance(request, dict) else None
    return found if isinstance(found, str) or type(found) is int else None


def check(request: object) -> tuple[str, Params]:
    """A parsed request's method and parameters, complete with defaults.

    Raises:
        Refusal: it is no request, its method is unknown, or a parameter is wrong.
    """
    if not isinstance(request, dict):
        raise Refusal(INVALID_REQUEST, "a request is a JSON object")
    if request.get("jsonrpc") != "2.0":
        raise Refusal(INVALID_REQUEST, 'a request has "jsonrpc": "2.0"')
    identity = request.get("id")
    if not (identity is None or isinstance(identity, str) or type(identity) is int):
        raise Refusal(INVALID_REQUEST, '"id" is a string, a whole number or null')
    method, params = request.get("method"), request.get("params", {})
    if not isinstance(method, str):
        raise Refusal(INVALID_REQUEST, '"method" is a string')
    if not isinstance(params, dict | list):
        raise Refusal(INVALID_REQUEST, '"params" is an object or an array')
    return method, _check_params(method, params)


def _check_params(method: str, given: Params | list[Any]) -> Params:
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise Refusal(METHOD_NOT_FOUND, f"no method {method[:60]!r}; there are: {known}")
    wanted = METHODS[method]
    if isinstance(given, list):
        if len(given) > len(wanted):
            raise Refusal(INVALID_PARAMS, f"{method} takes at most {len(wanted)} parameters")
        given = dict(zip(wanted, given, strict=False))
    for name in given:
        if name not in wanted:
            takes = ", ".join(wanted) or "none"
            raise Refusal(INVALID_PARAMS, f"{method} has no parameter {name[:60]!r}; it takes: {takes}")
    return {name: _value(method, name, param, given) for name, param in wanted.items()}


def _value(method: str, name: str, param: Param, given: Params) -> object:
    if name not in given and not param.required:
        return param.default
    if name not in given or not param.accepts(given[name]):
        raise Refusal(INVALID_PARAMS, f"{method}: {name!r} must be {param.expected}")
    return given[name]


def parse(line: bytes) -> Any:
    """One line as JSON.

    Raises:
        Refusal: PARSE_ERROR, whatever is wrong with it.
    """
    try:
        return json.loads(
            line.decode("utf-8"),  # json.loads(bytes) would also guess at UTF-16 and UTF-32
            parse_int=_int,
            parse_float=_float,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except RecursionError:  # not a ValueError
        raise Refusal(PARSE_ERROR, "not JSON that is accepted here: nested too deep") from None
    except ValueError as error:  # also UnicodeDecodeError and JSONDecodeError
        raise Refusal(PARSE_ERROR, f"not JSON that is accepted here: {str(error)[:200]}") from None


def _int(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number too large")
    return number


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _success(identity: str | int | None, result: object) -> bytes:
    try:
        return encode({"jsonrpc": "2.0", "id": identity, "result": result})
    except ValueError as error:  # NaN, a circle
        raise Refusal(INTERNAL_ERROR, f"internal error: no JSON for the result: {error}") from error


def failure(identity: str | int | None, refusal: Refusal) -> bytes:
    error = {"code": refusal.code, "message": refusal.message}
    return encode({"jsonrpc": "2.0", "id": identity, "error": error})


def encode(message: object) -> bytes:
    """One line.  ASCII, so that half a surrogate pair in an id can be sent back."""
    text = json.dumps(message, separators=(",", ":"), allow_nan=False, default=str)
    return text.encode("ascii") + b"\n"
