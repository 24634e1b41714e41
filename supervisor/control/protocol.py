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
    """What one line is answered with: its requests one after the other, each when the one before is done."""

    def __init__(self, requests: Iterable[Any], answer: Answer, *, batch: bool) -> None:
        self.waits_for: int | None = None  # the number of the answer that is to come
        self.whole = False  # nothing is left to be asked
        self._requests, self._answer, self._batch = iter(requests), answer, batch
        self._parts: list[bytes] = []
        self._size = 0
        self._identity: str | int | None = None  # of the request that waits
        self._answered = True  # it wants an answer
        self.go_on()

    def fill(self, result: object) -> None:
        """What is waited for is known; ``result`` may be a Refusal.  What comes next waits for `go_on`."""
        self.waits_for = None
        if self._answered:
            self._add(_outcome(self._identity, result))
        self.whole = not self._batch

    def line(self) -> bytes | None:
        """All of it, with its newline; None if there is none (notifications only)."""
        if not self._batch or not self._parts:
            return self._parts[0] if self._parts else None
        return b"[" + b",".join(part[:-1] for part in self._parts) + b"]\n"

    def go_on(self) -> None:
        """Ask what comes next, up to what has to be waited for."""
        for request in self._requests:
            self._identity = _identity(request)
            result = self._ask(request)
            # What is no request is no notification either.
            is_none = isinstance(result, Refusal) and result.code == INVALID_REQUEST
            self._answered = is_none or (isinstance(request, dict) and "id" in request)
            if isinstance(result, Later):
                self.waits_for = result.number
                return
            if self._answered:
                self._add(_outcome(self._identity, result))
        self.whole = True

    def _ask(self, request: Any) -> object:
        try:
            method, params = check(request)
            if self._size >= REPLY_LIMIT:
                too_long = "the replies to this batch are too long; send fewer requests at once"
                return Refusal(BUSY, too_long)
            return self._answer(method, params)
        except Refusal as refusal:
            return refusal

    def _add(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)


def respond(line: bytes, answer: Answer) -> Reply | bytes:
    """The reply to one line; bytes where nothing in it could be asked."""
    try:
        message = parse(line)
    except Refusal as refusal:
        return failure(None, refusal)
    if isinstance(message, list) and not message:
        return failure(None, Refusal(INVALID_REQUEST, "an empty batch asks for nothing"))
    batch = isinstance(message, list)
    return Reply(message if batch else [message], answer, batch=batch)


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
