"""The import contracts in pyproject.toml: lint-imports reports a violation of each that is planted in a copy of the package."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.repository import REPOSITORY

LINT = Path(sys.executable).with_name("lint-imports")

VIOLATIONS = {
    "Imports run downwards, and every package has its layer": ("inboxd/spool/claims.py", "import inboxd.intake.intake"),
    "The packages of tasks import downwards": ("inboxd/tasks/processing/handler_runs.py", "import inboxd.tasks.sweeps.repair"),
    "No package or module imports a sibling that depends on it": ("inboxd/fs/copy.py", "import inboxd.fs.rename"),
    "Only fs.syscalls makes system calls": ("inboxd/intake/scan.py", "import os"),
    "Only the observer and its emitter import watchdog": ("inboxd/watcher/daemon.py", "import watchdog.events"),
    "Modules of pure decisions import nothing that acts": ("inboxd/intake/readiness.py", "import redis"),
}


def lint(tree: Path) -> str:
    """Return what lint-imports says of a copy of the tree."""
    command = [LINT, "--config", "pyproject.toml", "--no-cache"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    shutil.copytree(REPOSITORY / "inboxd", copy / "inboxd", ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_every_contract_has_a_violation_here_and_the_tree_has_none(tree: Path) -> None:
    report = lint(tree)

    assert {line.partition(" KEPT")[0] for line in report.splitlines() if " KEPT" in line} == set(VIOLATIONS)
    assert f"Contracts: {len(VIOLATIONS)} kept, 0 broken." in report


@pytest.mark.parametrize(("contract", "planted"), VIOLATIONS.items())
def test_a_planted_violation_is_reported(contract: str, planted: tuple[str, str], tree: Path) -> None:
    module, violation = planted
    source = (tree / module).read_text()

    (tree / module).write_text(f"{source}\n{violation}\n")
    report = lint(tree)
    (tree / module).write_text(source)

    assert f"{contract} BROKEN" in report


def test_a_package_without_a_layer_is_reported(tree: Path) -> None:
    package = tree / "inboxd" / "unplaced"
    package.mkdir()
    (package / "__init__.py").touch()

    report = lint(tree)
    shutil.rmtree(package)

    assert "Imports run downwards, and every package has its layer BROKEN" in report
