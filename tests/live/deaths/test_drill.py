"""Run a small drill with one fault of every kind in 15 s; `make drill` runs large ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.live.stand import REPOSITORY

pytestmark = pytest.mark.live


def test_no_fault_loses_changes_overwrites_or_duplicates_a_file(tmp_path: Path) -> None:
    argv = [sys.executable, REPOSITORY / "bench" / "drill.py", "--files", "400", "--faults", "16", "--every", "1"]
    paths = os.pathsep.join((str(REPOSITORY / "tests"), str(REPOSITORY)))

    drill = subprocess.run(
        [*argv, "--seed", "4", "--keep", tmp_path / "drill"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert drill.returncode == 0, drill.stdout + drill.stderr
    assert "16 of 16 kinds" in drill.stdout
