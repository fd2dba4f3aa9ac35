"""Who works on a parcel, and what is known of that process's life."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.repository import REPOSITORY

from inboxd.tasks.worker.process_identity import Liveness, liveness, process_token

CODE = """
import sys
from inboxd.tasks.worker.process_identity import process_token
print(process_token("here"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """Start a process that makes a token, tells it, and lives until its input ends."""
    root = REPOSITORY
    with subprocess.Popen(
        [sys.executable, "-c", CODE], cwd=root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process


def told(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def end(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.close()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie


def changed(owner: str, part: int, to: str) -> str:
    parts = owner.rsplit("/", 4)
    parts[part] = to
    return "/".join(parts)


def test_this_process_is_alive() -> None:
    assert liveness(process_token("here")) is Liveness.ALIVE


def test_each_attempt_has_a_token_of_its_own() -> None:
    assert process_token("here") != process_token("here")


def test_a_process_next_door_is_alive_until_it_ends(worker: subprocess.Popen[str]) -> None:
    owner = told(worker)

    assert liveness(owner) is Liveness.ALIVE
    end(worker)
    assert liveness(owner) is Liveness.DEAD


def test_a_process_that_has_ended_and_been_reaped_is_dead(worker: subprocess.Popen[str]) -> None:
    owner = told(worker)
    end(worker)
    worker.wait()

    assert liveness(owner) is Liveness.DEAD


def test_a_process_whose_number_has_been_given_to_another_is_dead() -> None:
    assert liveness(changed(process_token("here"), 3, "1")) is Liveness.DEAD


@pytest.mark.parametrize("world", ["", "another-boot", "another-boot-4026531836"])
def test_a_process_of_another_machine_or_container_is_unknown(worker: subprocess.Popen[str], world: str) -> None:
    owner = told(worker)
    end(worker)

    assert liveness(changed(owner, 1, world)) is Liveness.UNKNOWN


def test_a_host_whose_name_has_slashes_is_still_a_host() -> None:
    assert liveness(process_token("a/b")) is Liveness.ALIVE


@pytest.mark.parametrize("nonsense", ["", "/", "////", "here", "here/1/1", "a/b/c/d/e", "here//1/1/1"])
def test_a_token_that_makes_no_sense_is_unknown(nonsense: str) -> None:
    assert liveness(nonsense) is Liveness.UNKNOWN


@pytest.mark.parametrize("pid", ["", "x", "-1", "1.5", " 1", "self", "..", "²", "٣"])
def test_what_is_no_number_of_a_process_is_unknown(pid: str) -> None:
    assert liveness(changed(process_token("here"), 2, pid)) is Liveness.UNKNOWN


@pytest.mark.parametrize("pid", ["0", "9" * 30, "9" * 5000], ids=len)
def test_a_number_that_no_process_can_have_is_not_alive(pid: str) -> None:
    assert liveness(changed(process_token("here"), 2, pid)) is not Liveness.ALIVE
