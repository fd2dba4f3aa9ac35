"""A small drill: a fault of every kind in a quarter of a minute. The large ones are `make drill`'s."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.live.stand import REPOSITORY

pytestmark = pytest.mark.live


def test_a_fault_of_every_kind_loses_changes_overwrites_and_doubles_no_file(tmp_path: Path) -> None:
    argv = [sys.executable, REPOSITORY / "bench" / "drill.py", "--files", "400", "--faults", "15", "--every", "1"]
    paths = os.pathsep.join((str(REPOSITORY / "tests"), str(REPOSITORY)))

    run = subprocess.run(
        [*argv, "--seed", "4", "--keep", tmp_path / "drill"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "15 of 15 kinds" in run.stdout
