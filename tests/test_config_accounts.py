"""Users, groups and files of variables, as they come out of a configuration."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest
from reading import POOL, problems, settings

from supervisor.config import env_file
from supervisor.settings import Account, Settings

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root names others")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's config.toml is, which is also the current folder."""
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system with two accounts, whatever this one has."""
    ann = pwd.struct_passwd(("ann", "x", 501, 601, "", "/home/ann", "/bin/ann"))
    bare = pwd.struct_passwd(("bare", "x", 502, 602, "", "", ""))
    groups = [grp.struct_group((name, "x", gid, [])) for name, gid in (("staff", 601), ("video", 44))]
    for module, find, key, known in (
        (pwd, "getpwnam", 0, (ann, bare)),
        (pwd, "getpwuid", 2, (ann, bare)),
        (grp, "getgrnam", 0, groups),
    ):
        found = {entry[key]: entry for entry in known}  # type: ignore[index]
        monkeypatch.setattr(module, find, found.__getitem__)
    monkeypatch.setattr(pwd, "getpwall", lambda: [ann, bare])
    monkeypatch.setattr(grp, "getgrall", lambda: groups)
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, 44] if name == "ann" else [gid])
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def account(keys: str) -> Account:
    return settings(POOL + keys).accounts["web"]


ANN = Account("ann", 501, 601, (44, 601), "/home/ann", "/bin/ann")


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("user = 'ann'", ANN),
        ("user = '501'", ANN),
        ("user = 501", ANN),
        ("user = 501\ngroup = 7", Account("ann", 501, 7, (7, 44), "/home/ann", "/bin/ann")),
        ("user = 1234\ngroup = 44", Account("1234", 1234, 44, (44,))),
        ("user = 0\ngroup = 0", Account("0", 0, 0, (0,))),
        ("user = 'ann'\ngroup = 'video'", Account("ann", 501, 44, (44,), "/home/ann", "/bin/ann")),
        ("user = 'ann'\ngroup = '7'", Account("ann", 501, 7, (7, 44), "/home/ann", "/bin/ann")),
        ("user = 'bare'", Account("bare", 502, 602, (602,), "/", "/bin/sh")),
        ("user = '1234'\ngroup = 'video'", Account("1234", 1234, 44, (44,), "/", "/bin/sh")),
        ("user = '1234'\ngroup = '4294967294'", Account("1234", 1234, 4294967294, (4294967294,))),
        ("group = 'video'", Account("0", 0, 44, (44,))),
    ],
)
def test_names_and_numbers(accounts: None, keys: str, expected: Account) -> None:
    """A number without an account has the one group that is named; a group alone keeps the uid."""
    assert account(keys) == expected


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("user = 'anne'", "user: there is no user 'anne', did you mean 'ann'?"),
        ("user = 'xyzzy'", "user: there is no user 'xyzzy'"),
        ("user = ''", "user: there is no user ''"),
        ("group = 'vidoe'", "group: there is no group 'vidoe', did you mean 'video'?"),
        (
            "user = '1234'",
            "user: there is no account with uid 1234 that says its group: set 'group' as well",
        ),
        ("user = '4294967295'", "user: an id is a number up to 4294967294, not '4294967295'"),
        (
            "user = '99999999999999999999'",
            "user: an id is a number up to 4294967294, not '99999999999999999999'",
        ),
        ("group = '4294967295'", "group: an id is a number up to 4294967294, not '4294967295'"),
        ("user = '-1'", "user: there is no user '-1'"),
        ("user = -1", "user: there is no user '-1'"),
        (
            "user = 1234",
            "user: there is no account with uid 1234 that says its group: set 'group' as well",
        ),
        ("group = 4294967295", "group: an id is a number up to 4294967294, not '4294967295'"),
        ("user = true", 'user: expected a name or a number, such as "www-data" or 33, not true'),
        ("group = 1.5", 'group: expected a name or a number, such as "www-data" or 33, not 1.5'),
    ],
)
def test_who_is_not_there_is_told_by_name(accounts: None, keys: str, line: str) -> None:
    """4294967295 is -1: setresuid(2) would succeed and leave root in place."""
    assert problems(POOL + keys) == [f"config.toml: pools.web.{line}"]


def test_only_root_can_become_somebody_else(accounts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 501)
    monkeypatch.setattr(os, "getegid", lambda: 601)
    monkeypatch.setattr(os, "getgroups", lambda: [601, 9])
    only = "only root can start workers as somebody else: start the master as root, or leave the key out"
    assert problems(POOL + "user = 'bare'") == [
        f"config.toml: pools.web.user: is not the user that you are (uid 501); {only}"
    ]
    assert problems(POOL + "group = 'video'") == [
        f"config.toml: pools.web.group: is not the group that you have (gid 601); {only}"
    ]
    assert account("user = 'ann'").groups == (9, 601), "what it cannot give up it keeps"


def test_pools_without_user_and_group_have_no_account() -> None:
    assert settings(POOL).accounts == {}


@as_root
def test_the_system_itself_is_asked() -> None:
    found = pwd.getpwnam("nobody")
    assert account("user = 'nobody'").uid == found.pw_uid
    assert account("user = 'nobody'").gid == found.pw_gid


# -- env_file ------------------------------------------------------------------


def with_file(text: str, keys: str = "") -> Settings:
    Path("x.env").write_text(text)
    Path("x.env").chmod(0o600)
    return settings(f"{POOL}env_file = 'x.env'\n{keys}")


def test_a_file_of_variables_is_read_and_env_is_over_it(folder: Path) -> None:
    text = "# a comment\n ; another\n\nA=1\n  B = two words  \r\nC=\nA=3\nD=it's # no comment\n"
    pool = with_file(text, "env = {B = 'mine', E = 'e'}").pools["web"]
    assert pool.env == {"A": "3", "B": "mine", "C": "", "D": "it's # no comment", "E": "e"}
    assert pool.env_file == f"{folder}/x.env"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'a b '", "a b "),
        ('" a"', " a"),
        ("''", ""),
        (r"'a\n$B'", r"a\n$B"),
        (r'"a\"b\\c\$d\`e\n"', r'a"b\c$d`e\n'),
        ("${HOME} $HOME", "${HOME} $HOME"),
        (r"a\ b\\", "a b\\"),
        ("a=b=c", "a=b=c"),
        ("x'y'", "x'y'"),
        ("grün", "grün"),
    ],
)
def test_values_mean_what_they_mean_to_systemd(written: str, value: str) -> None:
    """Nothing is expanded."""
    assert env_file.parse(f"A={written}\n", "x") == {"A": value}


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("A", "expected KEY=VALUE"),
        ("=b", "expected KEY=VALUE"),
        ("A B=c", "expected KEY=VALUE"),
        ("export A=b", "expected KEY=VALUE; this is no shell script, take 'export' away"),
        ("A='b", "the quote ' is not closed in its line"),
        ('A="b\\"', 'the quote " is not closed in its line'),
        ("A='b' # c", "expected nothing after the closing quote"),
        ("A='b'c", "expected nothing after the closing quote"),
        ("A=b\\", "a value ends with its line: write it in one, without the backslash at the end"),
    ],
)
def test_a_line_that_is_none_is_told_with_its_number(folder: Path, line: str, wrong: str) -> None:
    Path("x.env").write_text(f"OK=1\n# x\n{line}\nMORE=1\n")
    Path("x.env").chmod(0o600)
    expected = f"config.toml: pools.web.env_file: {folder}/x.env:3: {wrong}"
    assert problems(f"{POOL}env_file = 'x.env'") == [expected]


def test_only_a_small_text_file_is_read(folder: Path) -> None:
    def refused(data: bytes | None, mode: int = 0o600) -> str:
        if data is not None:
            Path("x.env").write_bytes(data)
            Path("x.env").chmod(mode)
        (line,) = problems(f"{POOL}env_file = 'x.env'")
        start = f"config.toml: pools.web.env_file: {folder}/x.env: "
        assert line.startswith(start)
        return line.removeprefix(start)

    assert refused(None) == "there is no such file"
    assert refused(b"A=\0") == "line 1: holds a NUL byte; this is no text file"
    assert refused(b"A=1\nB=\xff") == "line 2: is not valid UTF-8"
    assert refused(b"#" * ((1 << 20) + 1)) == "is larger than 1 MiB: this is no file of variables"
    if os.geteuid() == 0:
        assert "may be written by anybody and you are root" in refused(b"A=1", 0o666)
    Path("x.env").unlink()
    os.mkfifo("x.env")
    assert refused(None) == "is a FIFO, not a regular file"


# -- keys of one kind of worker ---------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (
            "target = 'a:b'\nstop_signal = 'INT'",
            "stop_signal: is for a 'command': a target is told by TERM and USR2",
        ),
        (
            "command = ['x']\npreload = true",
            "preload: is for a 'target': a command has nothing to import",
        ),
        (
            "command = ['x']\nhooks = {on_worker_stop = 'a:b'}",
            "hooks: is for a 'target': a command knows nothing of hooks",
        ),
        (
            "command = ['x']\noptions = {a = 1}",
            "options: is for a 'target': a command knows nothing of options",
        ),
        ("target = 'a:b'\nsockets = ['s', 's']", "sockets[1]: names 's' a second time"),
    ],
)
def test_a_key_that_has_no_meaning_for_a_pool_is_told(keys: str, line: str) -> None:
    text = f"[pools.web]\n{keys}\n[sockets.s]\nbind = '127.0.0.1:1'"
    assert problems(text) == [f"config.toml: pools.web.{line}"]


def test_what_such_keys_say_by_default_may_be_written() -> None:
    settings("[pools.a]\ntarget = 'a:b'\nstop_signal = 'SIGTERM'\nsurge = 0\n")
    settings("[pools.a]\ncommand = ['a']\nstop_signal = 'INT'\npreload = false\nhooks = {}\nsurge = '1%'\n")
