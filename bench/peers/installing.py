"""Installing the peers' packages: Python's into a venv of the bench's own, Node's beside it; nothing near inboxd's."""

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
    """A runtime can't be had; the text says why, in a line."""


def install(runtime: str) -> None:
    """Install a runtime's packages, unless that was done before. Raises NotInstalled."""
    match runtime:
        case "python":
            _python()
        case "node":
            _node()


def _python() -> None:
    marker = BUILD / "venv" / DONE
    wanted = REQUIREMENTS.read_text("utf-8")
    if not _is(marker, wanted):
        _run([sys.executable, "-m", "venv", "--clear", str(BUILD / "venv")])
        pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)])
        marker.write_text(wanted, "utf-8")


def _node() -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NotInstalled("no node or npm on PATH")
    NODE.mkdir(parents=True, exist_ok=True)
    for script in SCRIPTS.glob("*.mjs"):  # modules are looked for beside the script that imports them
        shutil.copy(script, NODE)
    wanted = (SCRIPTS / LOCK).read_text("utf-8")
    if not _is(NODE / DONE, wanted):
        for file in ("package.json", LOCK):
            shutil.copy(SCRIPTS / file, NODE)
        _run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], NODE)
        (NODE / DONE).write_text(wanted, "utf-8")


def _is(marker: Path, wanted: str) -> bool:
    return marker.exists() and marker.read_text("utf-8") == wanted


def _run(argv: Sequence[str], folder: Path | None = None) -> None:
    try:
        process = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    except OSError as error:
        raise NotInstalled(f"{argv[0]}: {error}") from error
    if process.returncode:
        last = (process.stderr or process.stdout).strip().splitlines()[-1:]
        raise NotInstalled(f"{Path(argv[0]).name} ended with {process.returncode}: {''.join(last)}")
