"""What a line can be, and what each gets for an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supervisor.control import protocol
from supervisor.control.protocol import Refusal


def ask(line: str | bytes, answer: protocol.Answer | None = None) -> Any:
    """The parsed reply to a line; by default every method answers with its name and parameters."""
    data = line.encode() if isinstance(line, str) else line
    found = protocol.respond(data, answer or (lambda method, params: [method, params]))
    reply = found if isinstance(found, bytes) else found.line()
    if reply is None:
        return None
    assert reply.endswith(b"\n")
    assert reply.count(b"\n") == 1
    return json.loads(reply)


def request(method: object, **rest: object) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, **rest})


def code(line: str | bytes) -> int:
    return int(ask(line)["error"]["code"])


def test_a_request_gets_its_result_and_its_id_back() -> None:
    assert ask(request("ping")) == {"jsonrpc": "2.0", "id": 1, "result": ["ping", {}]}


@pytest.mark.parametrize("identity", ["a", "", 0, -7, None, "\ud800"])
def test_ids_are_strings_whole_numbers_and_null(identity: object) -> None:
    reply = ask(json.dumps({"jsonrpc": "2.0", "id": identity, "method": "ping"}))
    assert reply["id"] == identity
    assert "result" in reply


@pytest.mark.parametrize("identity", [True, 1.5, [], {}, [1]])
def test_other_ids_are_an_invalid_request_with_a_null_id(identity: object) -> None:
    reply = ask(json.dumps({"jsonrpc": "2.0", "id": identity, "method": "ping"}))
    assert (reply["id"], reply["error"]["code"]) == (None, protocol.INVALID_REQUEST)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"{",
        b"\xff\xfe\x00",
        b"\x00\x00\x00",
        b'{"jsonrpc":"2.0","id":1,"method":"ping"',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"jsonrpc":"2.0","id":' + b"9" * 60_000 + b',"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":NaN}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1e999]}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
        '{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"),
    ],
    ids=lambda line: repr(line[:20]),
)
def test_what_is_no_json_or_no_bounded_json_is_a_parse_error(line: bytes) -> None:
    reply = ask(line)
    assert (reply["id"], reply["error"]["code"]) == (None, protocol.PARSE_ERROR)
    assert len(reply["error"]["message"]) < 300


@pytest.mark.parametrize(
    "line",
    [
        "1",
        "null",
        '"ping"',
        "{}",
        '{"id":1,"method":"ping"}',
        '{"jsonrpc":"1.0","id":1,"method":"ping"}',
        '{"jsonrpc":2.0,"id":1,"method":"ping"}',
        '{"jsonrpc":"2.0","id":1}',
        '{"jsonrpc":"2.0","id":1,"method":1}',
        '{"jsonrpc":"2.0","id":1,"method":null}',
        '{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}',
        '{"jsonrpc":"2.0","id":1,"method":"ping","params":null}',
        "[]",
    ],
)
def test_json_that_is_no_request_is_an_invalid_request(line: str) -> None:
    assert code(line) == protocol.INVALID_REQUEST


@pytest.mark.parametrize("method", ["", "Ping", "rpc.discover", "tasks", "x" * 10_000, "\n"])
def test_an_unknown_method_is_named_shortly_with_those_there_are(method: str) -> None:
    error = ask(request(method))["error"]
    assert error["code"] == protocol.METHOD_NOT_FOUND
    assert "status" in error["message"]
    assert len(error["message"]) < 300


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("ping", {"x": 1}),
        ("ping", [1]),
        ("stop", {"force": 1}),
        ("stop", {"force": "yes"}),
        ("stop", {"force": None}),
        ("scale", {}),
        ("scale", {"pool": "a"}),
        ("scale", {"workers": 1}),
        ("scale", {"pool": 1, "workers": 1}),
        ("scale", {"pool": "a", "workers": "1"}),
        ("scale", {"pool": "a", "workers": True}),
        ("scale", {"pool": "a", "workers": 1.0}),
        ("scale", {"pool": "a", "workers": -1}),
        ("scale", {"pool": "a", "workers": 10_001}),
        ("scale", {"pool": "a", "workers": 1, "wait": True}),
        ("scale", ["a", 1, 2]),
    ],
)
def test_wrong_parameters_never_reach_the_method(method: str, params: object) -> None:
    asked: list[str] = []
    reply = ask(request(method, params=params), lambda name, _: asked.append(name))
    assert reply["error"]["code"] == protocol.INVALID_PARAMS
    assert method in reply["error"]["message"]
    assert asked == []


@pytest.mark.parametrize(
    ("method", "given", "got"),
    [
        ("stop", {}, {"force": False}),
        ("stop", {"force": True}, {"force": True}),
        ("stop", [True], {"force": True}),
        ("scale", {"pool": "a", "workers": 0}, {"pool": "a", "workers": 0}),
        ("scale", ["a", 10_000], {"pool": "a", "workers": 10_000}),
    ],
)
def test_parameters_come_by_name_or_by_place_and_complete_with_defaults(
    method: str, given: object, got: object
) -> None:
    assert ask(request(method, params=given))["result"] == [method, got]


def test_a_notification_is_carried_out_and_gets_no_reply() -> None:
    asked: list[str] = []
    assert ask('{"jsonrpc":"2.0","method":"quiet"}', lambda name, _: asked.append(name)) is None
    assert asked == ["quiet"]


def test_a_notification_that_fails_gets_no_reply_either() -> None:
    assert ask('{"jsonrpc":"2.0","method":"nothing"}') is None
    assert ask('{"jsonrpc":"2.0","method":"scale"}') is None


def test_a_request_with_a_null_id_is_no_notification() -> None:
    assert ask('{"jsonrpc":"2.0","id":null,"method":"ping"}')["id"] is None


def test_a_batch_is_answered_in_order_without_its_notifications() -> None:
    reply = ask(
        '[{"jsonrpc":"2.0","id":"a","method":"ping"},{"jsonrpc":"2.0","method":"quiet"},7,'
        '{"jsonrpc":"2.0","id":"b","method":"nothing"}]'
    )
    assert [(r["id"], r.get("error", {}).get("code")) for r in reply] == [
        ("a", None),
        (None, protocol.INVALID_REQUEST),
        ("b", protocol.METHOD_NOT_FOUND),
    ]


def test_a_batch_of_notifications_gets_no_reply() -> None:
    assert ask('[{"jsonrpc":"2.0","method":"quiet"},{"jsonrpc":"2.0","method":"unquiet"}]') is None


def test_a_batch_stops_being_carried_out_once_its_replies_are_too_long() -> None:
    asked: list[str] = []

    def answer(method: str, _params: protocol.Params) -> str:
        asked.append(method)
        return "x" * protocol.REPLY_LIMIT

    replies = ask("[" + ",".join([request("ping")] * 5) + "]", answer)
    assert asked == ["ping"]
    assert [r.get("error", {}).get("code") for r in replies] == [None, *[protocol.BUSY] * 4]


def test_a_refusal_becomes_an_error_with_its_code_and_message() -> None:
    def answer(_method: str, _params: protocol.Params) -> object:
        raise Refusal(protocol.REFUSED, "no pool 'x'; there are: a, b")

    assert ask(request("restart"), answer)["error"] == {
        "code": -32000,
        "message": "no pool 'x'; there are: a, b",
    }


# -- answers that are known later ----------------------------------------------


def test_a_batch_goes_on_when_what_it_waits_for_is_known() -> None:
    """So a request sees what the one before it has done; and the replies are in its order."""
    asked: list[str] = []

    def answer(method: str, _params: protocol.Params) -> object:
        asked.append(method)
        return protocol.Later(7) if method == "tasks.run" else method

    requests = [
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": 2, "method": "tasks.run", "params": ["a"]},
        {"jsonrpc": "2.0", "method": "tasks.run", "params": ["a"]},
        {"jsonrpc": "2.0", "id": 3, "method": "version"},
    ]
    reply = protocol.respond(json.dumps(requests).encode(), answer)
    assert isinstance(reply, protocol.Reply)
    assert (reply.waits_for, asked) == (7, ["ping", "tasks.run"])
    reply.fill(Refusal(protocol.REFUSED, "not now"))
    assert (reply.waits_for, asked) == (None, ["ping", "tasks.run"]), "nothing is asked before its turn"
    reply.go_on()
    assert (reply.waits_for, asked) == (7, ["ping", "tasks.run", "tasks.run"])
    reply.fill({"run": 1})  # of a notification
    assert not reply.whole
    reply.go_on()
    assert reply.whole
    found = json.loads(reply.line() or b"")
    assert [one["id"] for one in found] == [1, 2, 3]
    assert [one.get("result") for one in found] == ["ping", None, "version"]
    assert found[1]["error"] == {"code": protocol.REFUSED, "message": "not now"}
