"""`inboxd audit` on real programs: killed workers, a Redis that forgot, failures; a small run of what `make audit` runs."""

import os
import subprocess
import sys

import pytest
from support.live.stand import REPOSITORY

pytestmark = pytest.mark.live


def test_every_file_is_accounted_for_and_a_deleted_one_is_named() -> None:
    argv = [sys.executable, REPOSITORY / "bench" / "audit.py", "--files", "400", "--failures", "8"]
    paths = os.pathsep.join((str(REPOSITORY / "tests"), str(REPOSITORY)))

    ran = subprocess.run(
        argv, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=180, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "WRONG" not in ran.stdout
