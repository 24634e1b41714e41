"""What people command is stored first, then true, then answered; a store that fails loses nothing."""

from __future__ import annotations

from typing import Any

import pytest
from task_world import BEGAN, DAY, FULL, HOUR, MINUTE, Body, World, task, world

from supervisor.decide.actions import Note
from supervisor.decide.ledger import AGAIN_SECONDS, ANSWER_SECONDS, MOST_RUNS, SILENCE
from supervisor.decide.orders import MOST_WAITING
from supervisor.decide.questions import MOST_OPEN
from supervisor.decide.task_actions import Ask, Reply, Save, StartRun


def of(actions: list[Any], kind: type) -> list[Any]:
    return [a for a in actions if isinstance(a, kind)]


def ask(w: World, request: str = "p", **how: Any) -> list[Any]:
    """A pause, and the plan that follows it at once."""
    w.tasks.pause(request, how.pop("names", ("a",)), by="ann", **how)
    return list(w.tasks.plan(w.now))


# -- stored before it is answered ----------------------------------------------


def test_a_pause_is_handed_to_the_store_before_it_is_true_or_answered() -> None:
    w = world()
    save = of(ask(w), Save)[0]
    assert (save.rows[0]["state"], w.state()) == ("paused", "running")
    w.tasks.saved(save.token)
    plan = w.tasks.plan(w.now)
    assert w.state() == "paused"
    assert [n.event for n in of(plan, Note)] == ["task.paused"]
    assert of(plan, Reply) == [Reply("p", {"changed": ["a"], "unchanged": [], "until": None})]


def test_one_that_cannot_be_stored_is_refused_and_nothing_has_changed() -> None:
    w = world()
    w.disk = "full"
    before = w.shown()
    reply = w.pause("a")
    assert reply.error == f"nothing was changed: the state file cannot be written: {FULL}"
    assert w.shown() == before | {"not_stored": w.tasks.trouble}
    assert w.notes("task.paused") == []
    w.disk = "good"
    w.wait(MINUTE)
    assert (w.rows["a"]["state"], len(w.starts())) == ("running", 1)


def test_a_silent_store_refuses_it_after_ten_seconds_and_is_put_right_later() -> None:
    w = world()
    w.turn()
    w.disk = "silent"
    w.tasks.pause("p", ("a",))
    assert of(w.wait(9), Reply) == []
    assert of(w.wait(2), Reply)[0].error is not None
    w.wake()  # and writes what it was told, in order
    assert (w.state(), w.rows["a"]["state"]) == ("running", "running")
    assert len([row for row in w.written if row.get("state") == "paused"]) == 1


def test_what_a_silent_store_holds_up_is_refused_in_time_and_not_done_later() -> None:
    """Whoever asked is gone by then."""
    w = world(*(task(f"t{n}", every=DAY) for n in range(5)))
    w.disk = "silent"
    for n in range(4):
        w.tasks.pause(f"p{n}", (f"t{n}",))
    w.tasks.run("run", "t4")
    replies = [
        (t - BEGAN, a.request, bool(a.error)) for t, a in [*w.log, *timed(w, MINUTE)] if of([a], Reply)
    ]
    assert replies == [(ANSWER_SECONDS, request, True) for request in ("p0", "p1", "p2", "p3", "run")]
    w.wake()
    w.wait(MINUTE)
    assert (w.starts("t4"), {w.state(name) for name in w.tasks.tasks}) == ([], {"running"})


def test_only_so_many_commands_wait_for_the_store() -> None:
    w = world()
    w.disk = "silent"
    ask(w, "open")
    for n in range(MOST_WAITING + 2):
        w.tasks.pause(n, ("a",))
    refused = [a.request for a in of(w.turn(), Reply)]
    assert refused == [MOST_WAITING, MOST_WAITING + 1]


@pytest.mark.parametrize("what", ["pause", "run"])
def test_the_time_to_answer_counts_from_when_it_was_asked(what: str) -> None:
    w = world(task("a", every=DAY), task("b", every=DAY))
    w.disk = "silent"
    w.tasks.pause("first", ("a",))
    getattr(w.tasks, what)("second", {"pause": ("b",), "run": "b"}[what])
    w.wait(7)
    w.tasks.saved(w.unheard[0].token)
    replies = [(t - BEGAN, a.request) for t, a in timed(w, MINUTE) if of([a], Reply)]
    assert replies == [(7, "first"), (ANSWER_SECONDS, "second")]


def timed(w: World, seconds: float) -> list[tuple[float, Any]]:
    before = len(w.log)
    w.wait(seconds)
    return w.log[before:]


def test_a_store_that_is_known_to_be_silent_refuses_at_once_and_holds_up_no_run_by_hand() -> None:
    w = world()
    w.disk = "silent"
    w.wait(5 * MINUTE)
    told = len(w.unheard)
    assert w.pause("a").error == f"nothing was changed: the state file cannot be written: {SILENCE}"
    assert w.pause("nope").error == "there is no task 'nope'; the tasks are: a"
    assert w.run().result == {"run": 6, "queued": False, "unsaved": SILENCE}
    assert len(w.unheard) == told
    w.wake()
    assert (w.rows["a"]["state"], w.runs[6]["outcome"]) == ("running", "ok")


def test_what_was_refused_never_becomes_true_though_the_store_is_told_nothing_else() -> None:
    """It writes what it was told, and there is no master any more."""
    w = world(task(every=1.0))
    w.disk = "silent"
    w.tasks.pause("p", ("a",))
    w.wait(MINUTE)
    told = [row["state"] for save in w.unheard for row in save.rows if "state" in row]
    assert (told[0], told[-1]) == ("paused", "running")


def test_nothing_that_happens_meanwhile_overwrites_an_order_on_its_way() -> None:
    w = world(bodies=lambda _: Body(None))
    w.wait(60)
    save = of(ask(w), Save)[0]
    w.tasks.ended("a", 1, "failed", code=1)
    rows = [row for s in of(w.tasks.plan(w.now), Save) for row in s.rows]
    assert [row for row in rows if "state" in row] == []
    w.tasks.saved(save.token)
    rows = [row for s in of(w.tasks.plan(w.now), Save) for row in s.rows]
    assert [(row["state"], row["error"], row["failures"]) for row in rows] == [("paused", "exit status 1", 1)]


def test_an_order_for_a_task_that_was_removed_meanwhile_does_not_bring_it_back() -> None:
    for fact in ("saved", "unsaved"):
        w = world()
        save = of(ask(w), Save)[0]
        w.configure()
        getattr(w.tasks, fact)(*[save.token, FULL][: 1 + (fact == "unsaved")])
        assert len(of(w.turn(), Reply)) == 1
        w.wait(AGAIN_SECONDS)
        assert (w.rows["a"]["state"], w.tasks.list()) == ("removed", {})


def test_orders_are_taken_one_at_a_time_and_answered_in_order() -> None:
    w = world()
    w.turn()
    w.tasks.pause("1", ("a",))
    w.tasks.resume("2", ("a",))
    w.tasks.pause("3", ("a",), reason="last")
    replies = of(w.turn(), Reply)
    assert [(r.request, r.error) for r in replies] == [("1", None), ("2", None), ("3", None)]
    assert (w.state(), w.shown()["reason"]) == ("paused", "last")


def test_a_reply_stands_after_everything_that_is_to_be_stored() -> None:
    w = world()
    plan = w.turn()
    w.tasks.run("x", "a", "ann")
    plan = w.tasks.plan(w.now)
    assert [type(a) for a in plan] == [Save, StartRun]
    w.tasks.saved(plan[0].token)
    assert of(w.tasks.plan(w.now), Reply) == [Reply("x", {"run": 1, "queued": False})]


# -- who is meant --------------------------------------------------------------


def test_one_unknown_name_and_nothing_is_done() -> None:
    w = world(task("a"), task("b"))
    assert w.pause("a", "nope").error == "there is no task 'nope'; the tasks are: a, b"
    assert (w.state("a"), w.rows["a"]["state"]) == ("running", "running")
    assert w.resume("nope").error == "there is no task 'nope'; the tasks are: a, b"
    assert w.run("nope").error == "there is no task 'nope'; the tasks are: a, b"
    assert w.pause(all=False).error == "name a task, or say that all are meant"


def test_all_means_all_in_one_transaction() -> None:
    w = world(*(task(f"t{n}") for n in range(300)))
    w.wait(1)
    w.tasks.pause("p", (), all=True, seconds=HOUR, by="ann")
    saves = of(w.turn(), Save)
    assert [len(save.rows) for save in saves] == [300]
    assert {one["state"] for one in w.tasks.list().values()} == {"paused"}


def test_what_is_stored_of_an_order_is_what_it_makes_true_however_long_that_takes() -> None:
    """So nothing is written of it twice."""
    w = world(*(task(f"t{n}", every=DAY) for n in range(10)))
    w.disk = "slow"
    for command in (w.tasks.pause, w.tasks.resume):
        w.written.clear()
        command("p", (), all=True)
        w.wait(1)
        assert len(w.written) == 10
        assert {w.shown(name)["since"] for name in w.rows} == {row["changed_at"] for row in w.written}


def test_a_pause_lasts_as_long_as_was_asked_though_the_clock_is_set_back_while_it_is_stored() -> None:
    w = world(task(every=DAY))
    w.disk = "slow"
    w.tasks.pause("p", ("a",), seconds=MINUTE)
    w.turn()
    w.jump(-HOUR)
    w.wait(1)
    assert w.state() == "paused"
    w.wait(MINUTE)
    assert w.state() == "running"


def test_a_maintenance_window_is_over_by_itself_and_survives_a_restart() -> None:
    w = world(task(every=MINUTE))
    w.pause(seconds=HOUR, reason="maintenance")
    w.restart(down=10 * MINUTE)
    assert (w.state(), w.shown()["paused_until"] - BEGAN) == ("paused", HOUR)
    w.wait(50 * MINUTE + 1)
    assert w.state() == "running"
    w.wait(MINUTE)
    assert len(w.starts()) == 1
    assert w.starts()[0][0] == HOUR + MINUTE


def test_one_that_ended_while_the_master_was_down_is_over() -> None:
    w = world(task(every=MINUTE))
    w.pause(seconds=HOUR)
    w.restart(down=DAY)
    assert w.state() == "running"


def test_a_maintenance_window_leaves_alone_what_is_paused_for_longer() -> None:
    w = world(task("a"), task("b"))
    w.pause("a", reason="for good")
    reply = w.pause(seconds=HOUR)
    assert (reply.result or {})["unchanged"] == ["a"]
    w.wait(2 * HOUR)
    assert (w.state("a"), w.shown("a")["reason"], w.state("b")) == ("paused", "for good", "running")


def test_a_person_who_names_it_has_the_last_word() -> None:
    w = world()
    w.pause("a", reason="for good")
    w.pause("a", seconds=HOUR, reason="for a while")
    assert w.shown()["reason"] == "for a while"
    w.wait(HOUR + 1)
    assert w.state() == "running"


def test_resuming_what_runs_is_answered_and_writes_nothing() -> None:
    w = world()
    w.log.clear()
    assert w.resume("a") == Reply("r", {"changed": [], "unchanged": ["a"], "until": None})
    assert of([a for _, a in w.log], Save) == []


# -- runs by hand --------------------------------------------------------------


def test_a_run_by_hand_is_refused_while_one_goes_on_and_may_not_overlap() -> None:
    w = world(bodies=lambda _: Body(None))
    w.run()
    assert w.run().error == "a runs already (run 1); it is configured not to overlap"


def test_or_waits_where_it_may_and_knows_its_number_already() -> None:
    w = world(task(overlap="queue"), bodies=lambda _: Body(None))
    w.run()
    assert w.run().result == {"run": 2, "queued": True}
    assert w.run().error == "a run of a waits already"
    w.end(1)
    assert list(w.alive) == [2]


def test_a_run_by_hand_takes_the_place_of_one_that_waits_by_itself() -> None:
    w = world(task(every=HOUR, overlap="queue"), bodies=lambda _: Body(None))
    w.wait(2 * HOUR)
    assert w.run().result == {"run": 2, "queued": True}
    w.pause("a")
    w.end(1)
    assert [a.by for a in w.alive.values()] == ["ann"]


def test_a_full_disk_does_not_stop_tasks_nor_a_run_by_hand() -> None:
    w = world()
    w.disk = "full"
    reply = w.run()
    assert reply.result == {"run": 1, "queued": False, "unsaved": FULL}
    w.wait(5 * MINUTE)
    assert len(w.starts()) == 6


def test_one_that_begins_while_the_store_is_silent_is_kept_should_that_fail_then() -> None:
    w = world(task(every=DAY), bodies=lambda _: Body(None))
    w.disk = "silent"
    w.run()
    w.wait(ANSWER_SECONDS)
    w.tasks.unsaved(w.unheard[-1].token, FULL)
    w.disk = "good"
    w.wait(AGAIN_SECONDS)
    assert w.runs[1]["outcome"] == "running"


def test_one_at_the_very_moment_of_a_due_time_leaves_nothing_to_a_second_plan() -> None:
    """The monotonic clock is not there yet, and the wall clock is, since its numbers are larger."""
    w = world(task(overlap="queue"), bodies=lambda _: Body(None))
    w.wait(30)
    w.now, w.wall = w.now + 30 - 1e-9, BEGAN + MINUTE
    assert w.turn() == []
    w.run()
    assert (len(w.starts()), w.shown()["waiting"]) == (1, "schedule")


# -- a store that fails --------------------------------------------------------


def test_what_could_not_be_stored_is_kept_and_stored_later() -> None:
    w = world(task(every=MINUTE))
    w.wait(0)
    w.disk = "full"
    w.wait(5 * MINUTE)
    assert (w.runs, len(w.notes("task.unsaved"))) == ({}, 1)
    w.disk = "good"
    w.wait(AGAIN_SECONDS)
    assert [row["outcome"] for row in w.runs.values()] == ["ok"] * 5
    assert [n["lost"] for n in w.notes("task.stored")] == [0]
    assert w.rows["a"]["last_due"] == BEGAN + 5 * MINUTE


def test_while_it_fails_it_is_tried_now_and_then_and_not_with_every_run() -> None:
    w = world(task(every=1.0))
    w.disk = "full"
    assert len(of(w.wait(300), Save)) <= 12


def test_an_order_that_can_be_stored_brings_the_rest_with_it() -> None:
    w = world()
    w.disk = "full"
    w.wait(61)
    w.disk = "good"
    w.pause("a")
    assert [row["outcome"] for row in w.runs.values()] == ["ok"]


def test_only_so_many_runs_are_kept_and_people_are_told_how_many_were_lost() -> None:
    w = world(task(every=1.0), check=False)
    w.disk = "full"
    w.wait(MOST_RUNS + 100)
    w.disk = "good"
    w.wait(AGAIN_SECONDS)
    lost = w.notes("task.stored")[0]["lost"]
    assert lost >= 100
    assert len(w.runs) == len(w.starts()) - lost


def test_a_stop_tries_at_once_what_could_not_be_stored_and_again_with_all_that_comes() -> None:
    """And says what is left when it could not be stored then either."""
    w = world(task(every=MINUTE), bodies=lambda _: Body(None))
    w.disk = "full"
    w.wait(MINUTE)
    assert w.tasks.trouble == {"since": BEGAN + MINUTE, "reason": FULL, "changes": 2}
    w.tasks.stop()
    assert len(of(w.turn(), Save)) == 1
    assert (w.tasks.unwritten, w.tasks.left()) == (False, {"lost": 2, "reason": FULL})
    w.disk = "good"
    w.end(1)
    assert (w.tasks.unwritten, w.tasks.left(), w.tasks.trouble) == (False, None, None)
    assert [row["outcome"] for row in w.runs.values()] == ["ok"]


def test_those_that_ended_last_are_kept_whenever_they_began() -> None:
    w = world(task("long", every=DAY), task("a", every=1.0), check=False)
    w.bodies = lambda start: Body(MOST_RUNS - 10.0 if start.task == "long" else 0.0)
    w.disk = "full"
    w.run("long")
    w.wait(MOST_RUNS + 100)
    w.disk = "good"
    w.wait(AGAIN_SECONDS)
    newest = max(w.runs)
    assert w.runs.keys() >= {1, *range(newest - MOST_RUNS // 2, newest + 1)}
    assert w.runs[1]["outcome"] == "ok"


def test_a_row_on_its_way_is_not_followed_by_an_older_one() -> None:
    w = world(bodies=lambda _: Body(None))
    w.disk = "silent"
    first = of(w.wait(60), Save)[-1]
    second = of(w.end(1), Save)[-1]
    w.tasks.unsaved(first.token, FULL)
    assert of(w.wait(AGAIN_SECONDS - 1), Save) == []
    w.tasks.saved(second.token)
    assert [row for save in of(w.turn(), Save) for row in save.rows if "run" in row] == []


def test_a_store_that_is_silent_is_told_once_and_how_many_runs_were_lost_by_it() -> None:
    w = world(task(every=MINUTE))
    w.disk = "silent"
    w.wait(3 * DAY)
    assert w.notes("task.unsaved") == [{"reason": SILENCE}]
    w.wake()
    assert [note["lost"] for note in w.notes("task.stored")] == [3 * 24 * 60 - len(w.runs)]


def test_one_that_answers_in_time_is_not_silent_though_it_is_never_done() -> None:
    w = world(task(every=1.0))
    w.disk = "silent"
    w.wait(8)
    for _ in range(9):
        w.tasks.saved(w.unheard.pop(0).token)
        w.wait(8)
    assert w.unheard
    assert w.notes("task.unsaved") == []
    w.wait(3)
    assert len(w.notes("task.unsaved")) == 1


def test_a_stop_does_not_wait_for_a_store_that_is_silent() -> None:
    w = world()
    w.disk = "silent"
    w.wait(MINUTE)
    assert w.tasks.unwritten
    w.wait(ANSWER_SECONDS)
    assert not w.tasks.unwritten


def test_a_store_that_never_answers_is_not_spoken_to_for_ever() -> None:
    w = world(task(every=1.0))
    w.disk = "silent"
    assert len(of(w.wait(500), Save)) <= 64
    w.wake()
    assert len(w.runs) >= 450


# -- the history ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "removed"])
def test_the_history_is_asked_for_and_answered(name: str) -> None:
    w = world(task(name))
    w.wait(5 * MINUTE)
    w.configure(task("a"))
    w.tasks.history("h", name, limit=2)
    reply = of(w.turn(), Reply)[0]
    assert [row["run"] for row in (reply.result or {})["runs"]] == [4, 5]


@pytest.mark.parametrize(("disk", "why"), [("full", FULL), ("silent", "no answer within 10 s")])
def test_a_history_that_cannot_be_read_says_why(disk: str, why: str) -> None:
    w = world()
    w.disk = disk
    w.tasks.history("h", "a")
    assert of(w.wait(11), Reply) == [Reply("h", None, f"the history cannot be read: {why}")]


def test_a_store_that_is_silent_is_asked_only_so_much_until_it_answers() -> None:
    """It would read for each of them, though nobody waits any more."""
    w = world(task(every=DAY))
    w.disk = "silent"
    asked = []
    for n in range(MOST_OPEN + 1):
        w.tasks.history(n, "a")
        asked += of(w.wait(11), Ask)
    assert len(asked) == MOST_OPEN
    error = f"the history cannot be read: {MOST_OPEN} questions have no answer yet"
    assert w.log[-1][1] == Reply(MOST_OPEN, error=error)
    w.tasks.answered(asked[0].token, [])
    w.tasks.history("again", "a")
    assert len(of(w.turn(), Ask)) == 1
