"""Tokens of processes, and the liveness of the processes that they identify."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from support.repository import REPOSITORY

from inboxd.tasks.process_state.process_identity import Liveness, liveness, process_token

CODE = """
import sys
from inboxd.tasks.process_state.process_identity import process_token
print(process_token("here"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """Start a process that prints its token, and runs until its input ends."""
    argv = [sys.executable, "-c", CODE]
    with subprocess.Popen(argv, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process


def read_token(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline().strip()


def end(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.close()
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie


def replace_part(owner: str, part: int, value: str) -> str:
    parts = owner.rsplit("/", 4)
    parts[part] = value
    return "/".join(parts)


def test_this_process_is_alive() -> None:
    assert liveness(process_token("here")) is Liveness.ALIVE


def test_each_attempt_has_a_token_of_its_own() -> None:
    assert process_token("here") != process_token("here")


def test_another_process_on_this_host_is_alive_until_it_ends(worker: subprocess.Popen[str]) -> None:
    owner = read_token(worker)

    assert liveness(owner) is Liveness.ALIVE
    end(worker)
    assert liveness(owner) is Liveness.DEAD


def test_a_process_that_has_ended_and_been_reaped_is_dead(worker: subprocess.Popen[str]) -> None:
    owner = read_token(worker)
    end(worker)
    worker.wait()

    assert liveness(owner) is Liveness.DEAD


def test_a_process_whose_pid_was_reused_is_dead() -> None:
    assert liveness(replace_part(process_token("here"), 3, "1")) is Liveness.DEAD


@pytest.mark.parametrize("namespace", ["", "another-boot", "another-boot-4026531836"])
def test_a_process_of_another_host_or_container_is_unknown(worker: subprocess.Popen[str], namespace: str) -> None:
    owner = read_token(worker)
    end(worker)

    assert liveness(replace_part(owner, 1, namespace)) is Liveness.UNKNOWN


def test_a_host_name_may_have_slashes() -> None:
    assert liveness(process_token("a/b")) is Liveness.ALIVE


@pytest.mark.parametrize("token", ["", "/", "////", "here", "here/1/1", "a/b/c/d/e", "here//1/1/1"])
def test_an_invalid_token_is_unknown(token: str) -> None:
    assert liveness(token) is Liveness.UNKNOWN


@pytest.mark.parametrize("pid", ["", "x", "-1", "1.5", " 1", "self", "..", "²", "٣"])
def test_an_invalid_pid_is_unknown(pid: str) -> None:
    assert liveness(replace_part(process_token("here"), 2, pid)) is Liveness.UNKNOWN


@pytest.mark.parametrize("pid", ["0", "9" * 30, "9" * 5000], ids=len)
def test_an_impossible_pid_is_not_alive(pid: str) -> None:
    assert liveness(replace_part(process_token("here"), 2, pid)) is not Liveness.ALIVE
