"""Limits, nice, umask, user: what the kernel says of a worker before its first line of code."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from births import Born, bear, make, say

from supervisor.child.birth import Birth, settle
from supervisor.settings import Account

# The runner has threads of its own; the children here do not use what those may have locked.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")

WEB = Account("www-data", 33, 33, (33, 44), "/var/www", "/usr/sbin/nologin")
PR_SET_KEEPCAPS, PR_SET_SECUREBITS, NO_SETUID_FIXUP = 8, 28, 1 << 2


def status() -> dict[str, str]:
    """/proc/self/status as the kernel tells it."""
    with open("/proc/self/status", encoding="utf-8") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def standing(
    birth: Birth, look: Callable[[], object] = status, before: Callable[[], object] = lambda: None
) -> Born:
    def run(birth: Birth, tell: Callable[..., None]) -> int:
        before()
        there = settle(birth, tell)
        if there is None:
            return 1
        say(there, look())
        return 0

    return bear(birth, run)


def open_folder(tmp_path: Path) -> Path:
    """A folder that anybody may enter: pytest's own are private."""
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


def refusal(born: Born) -> str:
    """The line that the master got; the log has the same, and the process failed."""
    (line,) = born.sent
    assert born.code == 1
    assert [told["event"] for told in born.told] == ["worker.error"]
    reason = born.told[0]["reason"]
    assert line == f"X_ERROR={' '.join(reason.split())[:300]}"
    return str(reason)


def test_limits_are_soft_and_hard(tmp_path: Path) -> None:
    limits = {"nofile": 100, "core": 0, "nproc": 50}
    kinds = [resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC]
    born = standing(make(tmp_path, pool={"limits": limits}), lambda: [resource.getrlimit(k) for k in kinds])
    assert born.said == [[100, 100], [0, 0], [50, 50]]


def test_without_a_limit_of_descriptors_the_masters_own_is_restored(tmp_path: Path) -> None:
    born = standing(make(tmp_path), lambda: resource.getrlimit(resource.RLIMIT_NOFILE))
    assert born.said == [256, 512]


def test_a_limit_that_cannot_be_had_is_told_with_what_is_possible(tmp_path: Path) -> None:
    born = standing(make(tmp_path, pool={"limits": {"nofile": 1 << 50}}))
    assert refusal(born).startswith(f"cannot set limits.nofile of pool web to {1 << 50}: ")
    assert "the most is" in refusal(born)


def test_nice_and_umask_are_absolute(tmp_path: Path) -> None:
    def look() -> object:
        return [os.getpriority(os.PRIO_PROCESS, 0), os.umask(0)]

    def other() -> None:
        os.nice(2)
        os.umask(0o111)

    assert standing(make(tmp_path, pool={"nice": 7, "umask": 0o027}), look, other).said == [7, 0o027]
    inherited = standing(make(tmp_path), look, other).said
    assert inherited == [os.getpriority(os.PRIO_PROCESS, 0) + 2, 0o111]


@as_root
def test_a_worker_is_its_user_and_nobody_else(tmp_path: Path) -> None:
    """All ids, exactly the groups of the account, no capability, and no new privileges by exec."""
    said = standing(make(open_folder(tmp_path), pool={"user": "www-data"}, account=WEB)).said
    assert said["Uid"].split() == ["33"] * 4
    assert said["Gid"].split() == ["33"] * 4
    assert said["Groups"].split() == ["33", "44"]
    assert said["NoNewPrivs"] == "1"
    assert {int(said[caps], 16) for caps in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {0}


@as_root
def test_groups_of_root_are_given_up(tmp_path: Path) -> None:
    account = Account("daemon", 1, 1)
    born = standing(
        make(open_folder(tmp_path), pool={"user": "daemon"}, account=account),
        before=lambda: os.setgroups([0, 4, 27]),
    )
    assert born.said["Groups"].split() == ["1"]


@as_root
def test_there_is_no_way_back(tmp_path: Path) -> None:
    def tries() -> object:
        denied = []
        for attempt in (os.setuid, os.seteuid, os.setgid):
            try:
                attempt(0)
            except PermissionError:
                denied.append(attempt.__name__)
        return denied

    account = Account("nobody", 65534, 65534)
    birth = make(open_folder(tmp_path), pool={"user": "nobody"}, account=account)
    assert standing(birth, tries).said == ["setuid", "seteuid", "setgid"]


@as_root
def test_who_could_become_root_again_does_not_begin(tmp_path: Path) -> None:
    """securebits that keep the capabilities over setresuid(2)."""

    def keep() -> None:
        prctl = ctypes.CDLL(None).prctl
        assert prctl(PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0) == 0

    birth = make(open_folder(tmp_path), pool={"user": "www-data"}, account=WEB)
    reason = refusal(standing(birth, before=keep))
    assert reason.startswith("cannot become www-data (uid 33, gid 33) for pool web: it could become root")


@as_root
@pytest.mark.parametrize("step", ["setgroups", "setresgid", "setresuid"])
def test_a_step_that_is_denied_ends_the_start(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a master without CAP_SETUID or CAP_SETGID."""

    def denied(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    denied.__name__ = step
    monkeypatch.setattr(os, step, denied)
    birth = make(open_folder(tmp_path), pool={"user": "www-data"}, account=WEB)
    assert refusal(standing(birth)) == (
        f"cannot become www-data (uid 33, gid 33) for pool web: {step}: Operation not permitted; start the "
        "master as root with CAP_SETUID and CAP_SETGID, or leave 'user' and 'group' out"
    )


@as_root
def test_a_step_that_lies_ends_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is looked at: -1 as a uid, for one, succeeds and changes nothing."""
    monkeypatch.setattr(os, "setresuid", lambda *_: None)
    birth = make(open_folder(tmp_path), pool={"user": "www-data"}, account=WEB)
    assert "the kernel said yes and did something else" in refusal(standing(birth))


def test_a_user_that_nobody_looked_up_never_means_the_masters_own(tmp_path: Path) -> None:
    for key in ("user", "group"):
        reason = refusal(standing(make(tmp_path, pool={key: "www-data"})))
        assert reason == "pool web has a user or a group that nobody looked up"


def test_who_is_that_already_needs_no_rights(tmp_path: Path) -> None:
    """A master that is not root may name its own user."""
    account = Account("me", os.geteuid(), os.getegid(), tuple(os.getgroups()))

    def unable(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    def before() -> None:
        os.setgroups = os.setresgid = os.setresuid = unable  # type: ignore[assignment]

    birth = make(tmp_path, pool={"user": "me"}, account=account)
    assert standing(birth, before=before).said["Uid"].split() == [str(os.geteuid())] * 4


@as_root
def test_a_group_alone_keeps_the_user(tmp_path: Path) -> None:
    account = Account("root", 0, 33, (33,))
    said = standing(make(tmp_path, pool={"group": "www-data"}, account=account)).said
    assert (said["Uid"].split()[0], said["Gid"].split()[0], said["Groups"]) == ("0", "33", "33")
    assert said["NoNewPrivs"] == "0"


@pytest.mark.parametrize(
    ("pool", "expected"),
    [({}, "0"), ({"no_new_privs": True}, "1"), ({"no_new_privs": False, "user": "me"}, "0")],
)
def test_no_new_privileges_as_said_else_where_there_is_a_user(
    tmp_path: Path, pool: dict[str, Any], expected: str
) -> None:
    account = Account("me", os.geteuid(), os.getegid(), tuple(os.getgroups())) if "user" in pool else None
    assert standing(make(tmp_path, pool=pool, account=account)).said["NoNewPrivs"] == expected


@as_root
def test_a_folder_is_entered_by_who_will_work_there(tmp_path: Path) -> None:
    """Root could, www-data may not; and a symlink is followed by the same."""
    closed = open_folder(tmp_path) / "closed"
    closed.mkdir(mode=0o700)
    birth = make(tmp_path, pool={"user": "www-data", "working_dir": str(closed)}, account=WEB)
    assert refusal(standing(birth)).startswith(
        f"cannot enter the working_dir {closed} as uid 33: Permission denied"
    )


@as_root
def test_the_death_signal_is_set_after_the_user_was_changed(tmp_path: Path) -> None:
    """setresuid(2) clears it: the one that counts comes later."""

    def look() -> object:
        number = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(number), 0, 0, 0)
        return number.value

    birth = make(open_folder(tmp_path), pool={"user": "www-data"}, account=WEB)
    assert standing(birth, look).said == signal.SIGTERM
