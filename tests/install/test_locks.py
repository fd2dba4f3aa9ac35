"""Each lock file with each installer: the pip of Debian 12, the newest pip, and uv. Needs a package index."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.repository import REPOSITORY

pytestmark = pytest.mark.install

INSTALLERS = ("pip 23.0.1", "pip", "uv")
SYSTEM_PYTHON = Path("/usr/bin/python3")

Installer = Callable[[Path], list[str]]


def run(*argv: object) -> str:
    result = subprocess.run([*map(str, argv)], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def environment(folder: Path, python: object = sys.executable) -> Path:
    run(python, "-m", "venv", "--without-pip", folder)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def old_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = environment(tmp_path_factory.mktemp("pip") / "venv")
    lock = Path(__file__).with_name("pip-23.0.1.txt")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--require-hashes", "-r", lock)
    return python


@pytest.fixture(params=INSTALLERS)
def installer(request: pytest.FixtureRequest) -> Installer:
    match request.param:
        case "pip 23.0.1":
            old_pip = request.getfixturevalue("old_pip")
            return lambda python: [old_pip, "-m", "pip", "--python", python, "install", "--quiet"]
        case "pip":
            return lambda python: [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
        case _:
            return lambda python: [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python]


def test_the_lock_of_the_bench_is_installable_and_complete(installer: Installer, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")

    run(*installer(python), "--no-deps", "--require-hashes", "-r", "bench/requirements.txt")

    assert "No broken requirements" in run(sys.executable, "-m", "pip", "--python", python, "check")


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-stage.txt", "requirements-dev.txt"])
def test_a_lock_is_installable_and_complete_for_inboxd(lock: str, installer: Installer, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")

    run(*installer(python), "--no-deps", "--require-hashes", "-r", lock)
    run(*installer(python), "--no-deps", "--no-build-isolation", "-e", REPOSITORY)

    assert "No broken requirements" in run(sys.executable, "-m", "pip", "--python", python, "check")
    assert "inboxd, version" in run(python.with_name("inboxd"), "--version")


def test_a_wheelhouse_is_complete_for_each_patch_release_of_its_python(tmp_path: Path) -> None:
    """This Python fills it; the system's, perhaps an older release, uses it: 3.11.2 needs more packages than 3.11.7."""
    wheels = tmp_path / "wheels"
    run("env", f"PYTHON={sys.executable}", "deploy/wheelhouse.sh", wheels)
    python = environment(tmp_path / "venv", SYSTEM_PYTHON)
    pip = [sys.executable, "-m", "pip", "--python", python]
    without_network = ["--quiet", "--no-index", "--find-links", wheels]

    run(*pip, "install", *without_network, "--no-deps", "--require-hashes", "-r", "requirements-stage.txt")

    assert "No broken requirements" in run(*pip, "check")
