"""All that is installed is the package inboxd; each of its modules has one name."""

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.repository import REPOSITORY

LOADED = """
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


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return files(build("wheel", tmp_path_factory.mktemp("wheel")))


def test_a_wheel_holds_the_package_and_nothing_else(wheel: set[str]) -> None:
    assert {name.partition("/")[0] for name in wheel} == {"inboxd", "inboxd-0.1.0.dist-info"}
    assert wheel >= {
        "inboxd/py.typed",
        "inboxd/watcher/main.py",
        "inboxd/tasks/app.py",
        "inboxd/console/systemd/templates/inboxd-worker.service",
    }


def test_a_wheel_holds_every_module_of_the_tree(wheel: set[str]) -> None:
    tree = set(REPOSITORY.glob("inboxd/*.py"))
    for package in REPOSITORY.glob("inboxd/*/"):  # a pattern does not follow the links to watcher/ and tasks/ by itself
        tree.update(package.rglob("*.py"))

    assert {name for name in wheel if name.endswith(".py")} == {str(file.relative_to(REPOSITORY)) for file in tree}


def test_a_wheel_of_the_source_archive_is_the_same(wheel: set[str], tmp_path: Path) -> None:
    for folder in ("archive", "tree", "wheel"):
        (tmp_path / folder).mkdir()
    with tarfile.open(build("sdist", tmp_path / "archive")) as archive:
        archive.extractall(tmp_path / "tree", filter="data")
    [tree] = (tmp_path / "tree").iterdir()

    assert files(build("wheel", tmp_path / "wheel", tree)) == wheel


def test_no_module_of_ours_is_loaded_under_two_names() -> None:
    told = subprocess.run([sys.executable, "-c", LOADED], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    ours = {name: file for name, file in json.loads(told.stdout).items() if Path(file).is_relative_to(REPOSITORY)}
    ours = {name: file for name, file in ours.items() if ".venv" not in file}

    assert len(ours) == len(set(ours.values())) > 100
    assert {name.partition(".")[0] for name in ours} == {"inboxd"}


@pytest.mark.parametrize("name", ["tasks", "watcher", "spool", "console"])
def test_an_installation_offers_no_other_name(name: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "ModuleNotFoundError" in done.stderr
