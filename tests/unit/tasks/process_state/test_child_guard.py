"""What the guard of a child process counts, and what it ends. What it restores is shown by real handlers, in the live tests."""

import errno
import os
import resource
import subprocess
import sys
import time

import pytest

from inboxd.tasks.process_state.child_guard import ChildGuard, children, count_open_files, descendants, end_processes


def test_open_files_are_counted() -> None:
    before = count_open_files()
    read_end, write_end = os.pipe()

    assert count_open_files() == before + 2
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize(("code", "count"), [(errno.EMFILE, float("inf")), (errno.ENOENT, 0)])
def test_files_that_can_not_be_counted(code: int, count: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_folder: str) -> list[str]:
        raise OSError(code, "refused")

    monkeypatch.setattr(os, "listdir", refuse)

    assert count_open_files() == count


def test_a_guard_that_was_not_started_does_nothing() -> None:
    guard, limits = ChildGuard(1), resource.getrlimit(resource.RLIMIT_NOFILE)
    guard.before_parcel()
    guard.before_call()
    os.environ["LEFT"] = "behind"

    assert (guard.after_call(), guard.after_parcel(), guard.end_descendants()) == ([], [], 0)
    assert not guard.is_spent
    assert os.environ.pop("LEFT") == "behind"
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


def test_all_descendants_of_a_process_are_found_and_ended() -> None:
    script = "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        deadline = time.monotonic() + 10
        while not (found := descendants(parent.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert parent.pid in children(os.getpid())

        assert end_processes(lambda: descendants(parent.pid)) == len(found) == 1
        assert descendants(parent.pid) == set()
        parent.kill()
