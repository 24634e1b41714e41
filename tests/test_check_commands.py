"""`check` looks whether the program of a command is there, and by whose eyes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from reading import written

from supervisor.check import check
from supervisor.config import read

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root names others")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a test's config.toml is, which is also the current folder."""
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(above.stat().st_mode | 0o011)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/nowhere")
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "nginx")
    program(tmp_path / "bin" / "plain", 0o644)
    program(tmp_path / "bin" / "mine", 0o700)
    program(tmp_path / "serve")
    return tmp_path


def program(path: Path, mode: int = 0o755) -> None:
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)


def of_command(name: str, keys: str = "") -> list[str]:
    written(f"[pools.a]\ncommand = ['{name}', '-x']\n{keys}")
    return [line.removeprefix("config.toml: pools.a.") for line in check(read("config.toml", os.environ))]


@pytest.mark.parametrize("name", ["nginx", "./serve", "bin/nginx", "/bin/sh"])
def test_a_program_that_is_there_is_no_mistake(name: str) -> None:
    """By PATH, by a path from the working folder, by a whole path; it is not run."""
    assert of_command(name) == []


def test_the_path_is_that_of_the_pool() -> None:
    assert of_command("nginx", "env = {PATH = '/nowhere'}") != []
    assert of_command("sh", "env = {PATH = '/bin'}") == []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ngnix", "'ngnix' is not in PATH (FOLDER/bin:/nowhere), did you mean 'nginx'?"),
        ("xyzzy", "'xyzzy' is not in PATH (FOLDER/bin:/nowhere)"),
        ("serve", "'serve' is not in PATH (FOLDER/bin:/nowhere); for the one in FOLDER, write './serve'"),
        ("./gone", "there is no FOLDER/./gone"),
        ("./bin", "FOLDER/./bin is a folder"),
        ("/dev/null", "/dev/null is no regular file"),
        ("plain", "uid UID may not execute FOLDER/bin/plain: 'chmod +x' it, or name its interpreter first"),
    ],
)
def test_what_keeps_a_program_from_being_run(folder: Path, name: str, wrong: str) -> None:
    wrong = wrong.replace("FOLDER", str(folder)).replace("UID", str(os.geteuid()))
    assert of_command(name) == [f"command: {wrong}"]


def test_a_folder_that_is_not_there_comes_first(folder: Path) -> None:
    assert of_command("ngnix", "working_dir = 'gone'") == [
        f"working_dir: cannot enter {folder}/gone: No such file or directory"
    ]
    assert of_command("ngnix", "working_dir = 'serve'") == [f"working_dir: {folder}/serve is no folder"]


@as_root
def test_who_runs_it_must_be_able_to(folder: Path) -> None:
    assert of_command("mine") == []
    assert of_command("mine", "user = 'nobody'") == [
        f"command: nobody may not execute {folder}/bin/mine: 'chmod +x' it, or name its interpreter first"
    ]
    (folder / "closed").mkdir(mode=0o700)
    assert of_command("nginx", "user = 'nobody'\nworking_dir = 'closed'") == [
        f"working_dir: nobody may not enter {folder}/closed"
    ]


@as_root
def test_a_target_is_imported_as_its_user(folder: Path) -> None:
    """Nothing of the application runs as root, in a check neither."""
    (folder / "app.py").write_text(
        "import os\n"
        "assert os.getresuid() == (65534,) * 3 and os.getresgid() == (65534,) * 3, os.getresuid()\n"
        "assert os.getgroups() == [65534], os.getgroups()\n"
        "assert os.environ['USER'] == 'nobody', os.environ['USER']\n"
        "def run(): ...\n"
    )
    written("[pools.a]\ntarget = 'app:run'\nuser = 'nobody'\n")
    assert check(read("config.toml", os.environ)) == []
