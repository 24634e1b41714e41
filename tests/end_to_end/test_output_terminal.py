"""In the foreground of a terminal: whose line it is, Ctrl-C, and a screen that was stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest
from program import Program
from screen import BEFORE, CTRL_C, CTRL_Q, CTRL_S, Screen

Start = Callable[..., Program]

GREETS = """
    import sys
    def run(worker):
        print("hello")
        print("careful", file=sys.stderr)
        worker.wait()
        print("bye")
"""
TWO = '[pools.web]\ntarget = "app:run"\nworkers = 2\nstable_after = "100ms"\n'


@pytest.fixture
def screen() -> Iterator[Screen]:
    one = Screen()
    yield one
    one.close()


def test_each_line_tells_whose_it_is_and_ctrl_c_stops_in_order(program: Start, screen: Screen) -> None:
    """Ctrl-C reaches the master alone; the workers' last words are shown before it leaves with 0."""
    one = program(GREETS, TWO, before=BEFORE, output=screen.there, log_format="auto")
    screen.wait_for("web.0 | careful")
    screen.wait_for("web.1 | careful")
    screen.wait_for("all pools are ready")
    screen.press(CTRL_C)
    screen.wait_for("stopped: SIGINT")  # read meanwhile: of what nobody reads a terminal holds 4 KiB
    one.wait(0)
    shown = screen.rest()
    for line in ("web.0 | hello", "web.1 | hello", "web.0 | bye", "web.1 | bye"):
        assert shown.count(line) == 1
    assert not [line for line in shown if line.startswith("{")]
    assert any("stopped: SIGINT" in line for line in shown)


def test_a_failure_does_not_show_the_last_lines_twice(program: Start, screen: Screen) -> None:
    """They stand above already."""
    app = """
        import sys
        def run(worker):
            print("my last words")
            sys.exit(7)
    """
    config = '[pools.web]\ntarget = "app:run"\nbackoff = { initial = "1h", max = "1h" }'
    one = program(app, config, before=BEFORE, output=screen.there, log_format="auto")
    screen.wait_for("web.0 failed: exit status 7")
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)
    assert [line for line in screen.rest() if "my last words" in line] == ["web.0 | my last words"]


def test_a_stopped_screen_blocks_nobody(program: Start, screen: Screen) -> None:
    """After Ctrl-S the worker prints a megabyte and works on, and the master stops it in time."""
    app = """
        def run(worker):
            print("hello")
            worker.ready()
            import os
            while not os.path.exists("go"):
                worker.wait(0.01)
            for _ in range(10_000):
                print("x" * 99)
            worker.status("written")
            worker.wait()
    """
    config = '[pools.web]\ntarget = "app:run"\nready = "notify"\n'
    one = program(app, config, before=BEFORE, output=screen.there, log_format="auto")
    screen.wait_for("web.0 | hello")
    screen.wait_for("all pools are ready")
    screen.press(CTRL_S)
    (one.folder / "go").touch()
    one.wait_shown("web.0", lambda w: w["status"] == "written")
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)


def test_a_worker_that_fails_behind_a_stopped_screen_is_replaced(program: Start, screen: Screen) -> None:
    """What it says of its error finds no room: that holds it up for seconds, not until Ctrl-Q."""
    app = """
        import os
        def run(worker):
            while not os.path.exists("go"):
                worker.wait(0.01)
            if not os.path.exists("been"):
                open("been", "w").close()
                raise ValueError("broken")
            worker.status("the second")
            worker.wait()
    """
    one = program(app, TWO, before=BEFORE, output=screen.there, log_format="auto")
    screen.wait_for("all pools are ready")
    screen.press(CTRL_S)
    (one.folder / "go").touch()
    for name in ("web.0", "web.1"):
        one.wait_shown(name, lambda w: w["status"] == "the second")
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)


def test_what_a_stopped_screen_missed_is_counted_when_it_goes_on(program: Start, screen: Screen) -> None:
    """After Ctrl-Q lines flow again, and the log says how many are lost."""
    app = """
        import os
        def run(worker):
            print("hello")
            while not os.path.exists("go"):
                worker.wait(0.01)
            for _ in range(10_000):
                print("x" * 99)
            worker.status("written")
            while not worker.wait(0.01):
                print("on and on")
    """
    one = program(
        app, '[pools.web]\ntarget = "app:run"\n', before=BEFORE, output=screen.there, log_format="text"
    )
    screen.wait_for("web.0 | hello")
    screen.wait_for("all pools are ready")
    screen.press(CTRL_S)
    (one.folder / "go").touch()
    one.wait_shown("web.0", lambda w: w["status"] == "written")
    screen.press(CTRL_Q)
    screen.wait_for("lines dropped")
    screen.wait_for("on and on")
    one.process.send_signal(signal.SIGTERM)
    one.wait(0)


def test_a_terminal_that_is_closed_ends_nothing_but_the_view(program: Start, screen: Screen) -> None:
    """HUP from the terminal is a reload; workers go on without it, and TERM stops them with 0."""
    one = program(GREETS, TWO, before=BEFORE, output=screen.there, log_format="auto")
    screen.wait_for("all pools are ready")
    screen.close()
    one.wait_until(lambda: one.status()["last_reload"]["ok"])
    assert all(w["state"] == "ready" for w in one.status()["pools"]["web"]["workers"])
    os.kill(one.process.pid, signal.SIGTERM)
    one.wait(0)
