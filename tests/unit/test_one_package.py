"""An installation has the package inboxd only, and no module of it is loaded under two names."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.repository import REPOSITORY

PRINT_FILES = """
import json, os, sys
from inboxd.celery import app
import inboxd.console.main, inboxd.watcher.main, inboxd.tasks.service.worker, inboxd.tasks.service.beat
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps({name: os.path.realpath(file) for name, file in files.items() if file}))
"""


def build(kind: str, to: Path, tree: Path = REPOSITORY) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", to], cwd=tree, check=True, capture_output=True
    )
    [built] = to.iterdir()
    return built


def list_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return list_names(build("wheel", tmp_path_factory.mktemp("wheel")))


def test_a_wheel_contains_the_package_its_pages_and_nothing_else(wheel: set[str]) -> None:
    assert {name.partition("/")[0] for name in wheel} == {"inboxd", "inboxd-0.1.0.dist-info", "inboxd-0.1.0.data"}
    share = REPOSITORY / "deploy/share"
    pages = {f"inboxd-0.1.0.data/data/share/{file.relative_to(share)}" for file in share.rglob("*") if file.is_file()}
    assert {name for name in wheel if name.startswith("inboxd-0.1.0.data/")} == pages
    assert wheel >= {
        "inboxd/py.typed",
        "inboxd/watcher/main.py",
        "inboxd/tasks/app.py",
        "inboxd/console/systemd/templates/inboxd-worker.service",
    }


def test_a_wheel_contains_every_module_of_the_tree(wheel: set[str]) -> None:
    tree = set(REPOSITORY.glob("inboxd/*.py"))
    for package in REPOSITORY.glob("inboxd/*/"):  # rglob does not follow the symlinks to watcher/ and tasks/
        tree.update(package.rglob("*.py"))

    assert {name for name in wheel if name.endswith(".py")} == {str(file.relative_to(REPOSITORY)) for file in tree}


def test_a_wheel_built_from_the_source_archive_is_the_same(wheel: set[str], tmp_path: Path) -> None:
    for folder in ("archive", "tree", "wheel"):
        (tmp_path / folder).mkdir()
    archive = build("sdist", tmp_path / "archive")
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path / "tree"], check=True)  # tarfile's filters are new in Python 3.11.4
    [tree] = (tmp_path / "tree").iterdir()

    assert list_names(build("wheel", tmp_path / "wheel", tree)) == wheel


def test_no_module_is_loaded_under_two_names() -> None:
    result = subprocess.run([sys.executable, "-c", PRINT_FILES], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = {name: file for name, file in json.loads(result.stdout).items() if Path(file).is_relative_to(REPOSITORY)}
    files = {name: file for name, file in files.items() if ".venv" not in file}

    assert len(files) == len(set(files.values())) > 100
    assert {name.partition(".")[0] for name in files} == {"inboxd"}


@pytest.mark.parametrize("name", ["tasks", "watcher", "spool", "console"])
def test_an_installation_has_no_other_top_level_name(name: str, tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "ModuleNotFoundError" in result.stderr


@pytest.mark.parametrize("options", [("-P",), ()], ids=["safe path", "python -m"])
def test_a_folder_named_by_pythonpath_stays_on_the_import_path_of_a_program_started_in_it(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "named.py").touch()
    (tmp_path / "program.py").write_text(
        "from inboxd.import_path import distrust_current_folder\ndistrust_current_folder()\nimport sys; print(sys.path)\n"
    )

    def run(**environment: str) -> bool:
        argv = [sys.executable, *options, "-c", (tmp_path / "program.py").read_text()]
        path = subprocess.run(
            argv, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=True
        ).stdout
        return repr(str(tmp_path)) in path or "''" in path

    assert run(PYTHONPATH=str(tmp_path))
    assert not run()
