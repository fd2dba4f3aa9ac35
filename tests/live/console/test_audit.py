"""Run a small `make audit`: `inboxd audit` after killed workers, a flush of Redis, and failed files."""

import os
import subprocess
import sys

import pytest
from support.live.stand import REPOSITORY

pytestmark = pytest.mark.live


def test_the_audit_accounts_for_every_file_and_names_a_deleted_one() -> None:
    argv = [sys.executable, REPOSITORY / "bench" / "audit.py", "--files", "400", "--failures", "8"]
    paths = os.pathsep.join((str(REPOSITORY / "tests"), str(REPOSITORY)))

    audit = subprocess.run(
        argv, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=180, check=False
    )

    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "WRONG" not in audit.stdout
