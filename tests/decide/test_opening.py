"""A start whose listening sockets are still held by workers of an earlier master."""

from __future__ import annotations

from bodies import HookBody, pool, settings
from kernel import kernel

from supervisor.decide.actions import Listen, Note
from supervisor.decide.life import Life
from supervisor.decide.opening import AGAIN_SECONDS, SLACK_SECONDS
from supervisor.decide.stopping import Firmness

ADDRESS, HOLDERS, ERROR = "127.0.0.1:80", ("web.0 (pid 7)",), "sockets.http: cannot bind 127.0.0.1:80"


def life(seconds: float = 30.0) -> Life:
    found = Life(settings(pool(), stop_timeout=seconds), lambda: 0.5)
    found.opening.taken(ADDRESS, HOLDERS, ERROR, 1000.0)
    return found


def notes(plan: list[object], event: str) -> list[Note]:
    return [action for action in plan if isinstance(action, Note) and action.event == event]


def test_it_says_once_what_is_waited_for_and_begins_nothing() -> None:
    one = life()
    plan = one.plan(1000.0)
    [note] = notes([*plan], "start.waiting")
    assert plan == [note]
    assert note.fields == {"address": ADDRESS, "holders": [*HOLDERS], "seconds": 30.0 + SLACK_SECONDS}
    one.opening.taken(ADDRESS, HOLDERS, ERROR, 1000.2)
    assert one.plan(1000.2) == []
    assert one.state == "starting"


def test_it_is_tried_again_from_time_to_time() -> None:
    one, now = life(), 1000.0
    one.plan(now)
    for _ in range(5):
        assert one.deadline() == now + AGAIN_SECONDS
        now += AGAIN_SECONDS
        assert one.plan(now) == [Listen()]
        assert one.plan(now) == []
        one.opening.taken(ADDRESS, HOLDERS, ERROR, now)


def test_what_opens_goes_on_as_any_start() -> None:
    k = kernel(pool(), hooks={"on_start": [HookBody()]})
    k.life.opening.taken(ADDRESS, HOLDERS, ERROR, k.now)
    k.turn()
    assert k.life.state == "starting"
    k.now += 2.5
    k.life.opening.opened(k.now)
    k.until(lambda: k.life.was_ready)
    [note] = k.notes("start.waited")
    assert note.fields == {"address": ADDRESS, "seconds": 2.5}


def test_patience_ends_with_a_try_and_the_start_with_status_1() -> None:
    """Also where the master itself did not run meanwhile: what has become free then is seen."""
    one = life(seconds=10.0)
    one.plan(1000.0)
    assert one.plan(1500.0) == [Listen()]
    one.opening.taken(ADDRESS, HOLDERS, ERROR, 1500.0)
    [note] = notes([*one.plan(1500.0), *one.plan(1500.0)], "start.aborted")
    assert note.fields["reason"] == f"{ERROR}; still held by {HOLDERS[0]} of a master that is gone"
    assert one.broken == 1


def test_one_that_can_never_be_had_ends_the_start_at_once() -> None:
    one = life()
    one.plan(1000.0)
    one.opening.refused("sockets.http: somebody else is there")
    [note] = notes([*one.plan(1000.5), *one.plan(1000.5)], "start.aborted")
    assert note.fields["reason"] == "sockets.http: somebody else is there"


def test_a_stop_does_not_wait_and_tries_nothing_any_more() -> None:
    one = life()
    one.plan(1000.0)
    one.ask(Firmness.STOP, "SIGTERM", 1000.1)
    plan = one.plan(1000.1)
    assert one.stop is not None
    assert not [action for action in plan if isinstance(action, Listen)]
    assert not [action for action in one.plan(1001.0) if isinstance(action, Listen)]


def test_a_reload_waits_until_there_is_something_to_reload() -> None:
    one = life()
    one.plan(1000.0)
    one.renew("SIGHUP")
    assert one.plan(1000.1) == []
    assert one.reload is None
