"""Pools that come after others: later up, earlier down."""

from __future__ import annotations

from bodies import GOOD, Body, File, pool, settings
from kernel import Kernel, kernel
from scenes import DEAF, RESTART, ask, running, stopped

from supervisor.decide.actions import Kill, Start, Stop
from supervisor.settings import PoolSettings


def chain(*, backwards: bool = False) -> list[PoolSettings]:
    """c after b after a, in either order of the file."""
    pools = [pool("a", stop_timeout=30.0), pool("b", after=("a",)), pool("c", after=("b",))]
    return pools[::-1] if backwards else pools


def when(k: Kernel, kind: type[Start | Stop]) -> dict[str, float]:
    """When something was first done to each pool."""
    first: dict[str, float] = {}
    names = {a.worker: a.pool for _, a in k.log if isinstance(a, Start)}
    for time, action in k.log:
        if isinstance(action, kind):
            first.setdefault(names[action.worker], round(time, 6))
    return first


def stopping(*pools: PoolSettings, body: Body = GOOD, slow: str = "", stop_timeout: float = 30.0) -> Kernel:
    k = kernel(*pools, bodies=lambda s: body if s.pool in slow else GOOD, stop_timeout=stop_timeout)
    k.wait(60)
    ask(k)
    return stopped(k)


def test_a_pool_starts_when_those_before_it_are_at_strength() -> None:
    for backwards in (False, True):
        k = kernel(*chain(backwards=backwards))
        k.wait(5)
        assert when(k, Start) == {"a": 1000.0, "b": 1000.1, "c": 1000.2}


def test_once_up_is_enough() -> None:
    """A pool that has lost its workers again keeps nobody from being replaced."""
    k = running(*chain(), bodies=lambda s: GOOD if s.worker < 4 else Body(ready_after=None))
    k.crash("a.0")
    k.crash("b.0")
    assert [a.pool for a in k.wait(0.5) if isinstance(a, Start)] == ["a", "b"]


def test_a_pool_is_told_to_stop_when_those_after_it_are_gone() -> None:
    for backwards in (False, True):
        assert when(stopping(*chain(backwards=backwards)), Stop) == {"c": 1060.0, "b": 1060.1, "a": 1060.2}


def test_pools_that_do_not_depend_on_each_other_are_told_at_once() -> None:
    assert when(stopping(pool("a"), pool("b"), pool("c")), Stop) == {"a": 1060.0, "b": 1060.0, "c": 1060.0}


def test_those_after_it_cannot_take_the_time_of_a_pool() -> None:
    """Each has its share of the one deadline: with three in a chain, a third."""
    k = stopping(*chain(), body=DEAF, slow="bc", stop_timeout=30.0)
    assert when(k, Stop) == {"c": 1060.0, "b": 1070.0, "a": 1080.0}
    assert k.now == 1090.0


def test_an_empty_pool_in_between_is_not_waited_for() -> None:
    pools = [pool("a"), pool("b", workers=0, after=("a",)), pool("c", after=("b",))]
    for in_file in (pools, pools[::-1]):
        assert when(stopping(*in_file), Stop) == {"c": 1060.0, "a": 1060.1}


def test_a_rolling_restart_goes_the_same_way() -> None:
    k = running(*chain())
    ask(k, RESTART)
    stopped(k)
    assert k.times(Stop) == [1060.0, 1060.1, 1060.2]
    assert all(a.replace for _, a in k.log if isinstance(a, Stop))


def test_a_forced_stop_knows_no_order() -> None:
    k = running(*chain(), body=DEAF)
    k.life.interrupt("SIGINT", k.now)
    k.wait(1)
    k.life.interrupt("SIGINT", k.now)
    stopped(k)
    assert k.times(Kill) == [1061.0, 1061.0, 1061.0]


def test_who_has_not_acknowledged_is_named_after_each_wave_and_commands_never() -> None:
    """A program that does not speak sd_notify cannot acknowledge."""
    program = pool("d", after=("a",))
    mute = Body(acknowledges_after=None, leaves_after=3.0)
    k = running(*chain(), PoolSettings("d", command=("sleep",), after=program.after), body=mute)
    ask(k)
    stopped(k)
    assert [n.fields["workers"] for n in k.notes("stop.waiting")] == [["c.0"], ["b.0"], ["a.0"]]


def test_a_reload_may_turn_the_order_round() -> None:
    k = running(pool("a"), pool("b", after=("a",)))
    k.files = lambda _: File(settings(pool("b"), pool("a", after=("b",))))
    k.renew()
    k.until(lambda: bool(k.notes("reload.done")))
    k.log.clear()
    ask(k)
    stopped(k)
    assert [n.worker.name for n in k.notes("worker.stopping") if n.worker] == ["a.0", "b.0"]
