"""Install the peers' packages: Python's in a separate venv, Node's next to the venv, apart from inboxd's packages."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers.peer import BUILD, NODE, PYTHON, REPOSITORY

REQUIREMENTS = REPOSITORY / "bench" / "requirements.txt"
SCRIPTS = REPOSITORY / "bench" / "peers" / "with_bullmq"
LOCK = "package-lock.json"
DONE = ".installed"


class NotInstalled(Exception):
    """A runtime can't be installed; the message is one line with the cause."""


def install(runtime: str) -> None:
    """Install a runtime's packages unless they are installed. Raises NotInstalled."""
    match runtime:
        case "python":
            _install_python()
        case "node":
            _install_node()


def _install_python() -> None:
    marker = BUILD / "venv" / DONE
    lock = REQUIREMENTS.read_text("utf-8")
    if not _is_installed(marker, lock):
        _run([sys.executable, "-m", "venv", "--clear", str(BUILD / "venv")])
        pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)])
        marker.write_text(lock, "utf-8")


def _install_node() -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NotInstalled("no node or npm on PATH")
    NODE.mkdir(parents=True, exist_ok=True)
    for script in SCRIPTS.glob("*.mjs"):  # Node resolves modules from the script's folder
        shutil.copy(script, NODE)
    lock = (SCRIPTS / LOCK).read_text("utf-8")
    if not _is_installed(NODE / DONE, lock):
        for file in ("package.json", LOCK):
            shutil.copy(SCRIPTS / file, NODE)
        _run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], NODE)
        (NODE / DONE).write_text(lock, "utf-8")


def _is_installed(marker: Path, lock: str) -> bool:
    return marker.exists() and marker.read_text("utf-8") == lock


def _run(argv: Sequence[str], folder: Path | None = None) -> None:
    try:
        process = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    except OSError as error:
        raise NotInstalled(f"{argv[0]}: {error}") from error
    if process.returncode:
        last_line = (process.stderr or process.stdout).strip().splitlines()[-1:]
        raise NotInstalled(f"{Path(argv[0]).name} exited with {process.returncode}: {''.join(last_line)}")
