"""`inboxd log` and `inboxd trace` on the logs of real programs report what happened to each file."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.live.stand import Program, Stand
from support.waiting import PROGRAM_SECONDS

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
HOSTILE = b'x\n{"event":"file_done"}\x1b[2J.pdf'


def console(stand: Stand, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of inboxd's commands in the stand's folder."""
    argv = [sys.executable, "-m", "inboxd", command, *arguments]
    return subprocess.run(
        argv, env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False
    )


def trace(stand: Stand, query: str) -> list[dict[str, Any]]:
    """Return the lives that `inboxd trace --json` finds."""
    lives: list[dict[str, Any]] = json.loads(console(stand, "trace", "--json", query).stdout)["lives"]
    return lives


def steps(life: dict[str, Any]) -> list[str]:
    return [step["step"] for step in life["steps"]]


@pytest.fixture
def stand(make_stand: MakeStand) -> Stand:
    return make_stand({"drop": {"retries": 2}}, log={"format": "json", "files": ["watcher.log", "worker.log", "beat.log"]})


def wait_until_filed(stand: Stand, *programs: Program, seconds: float = 30.0, count: int) -> None:
    """Wait until the logs contain ``count`` files that were filed."""
    final_events = ("file_done", "file_failed", "file_refused")
    stand.wait_until(lambda: sum(len(stand.log_events(event, *programs)) for event in final_events) >= count, seconds)


def test_a_trace_shows_a_file_from_claim_to_done_and_again_when_dropped_again(stand: Stand) -> None:
    stand.start()
    stand.drop(b"sub/a.txt", b"once")
    wait_until_filed(stand, count=1)
    stand.drop(b"sub/a.txt", b"twice")
    wait_until_filed(stand, count=2)

    first, second = trace(stand, "sub/a.txt")

    assert steps(first) == steps(second) == ["claimed", "handled", "done"]
    assert (first["filed"], second["filed"]) == ("sub/a.txt", "sub/a (2).txt")
    assert [step["program"] for step in first["steps"]] == ["watcher", "worker", "worker"]
    assert 0 < first["seconds"] < 30
    assert [step["after_seconds"] >= 0 for step in first["steps"]] == [True] * 3
    (by_path,) = trace(stand, str(stand.path("done", b"sub/a (2).txt")))
    (by_digest,) = trace(stand, second["sha256"])
    (by_id,) = trace(stand, stand.calls()[1].id)
    assert by_path["parcels"] == by_digest["parcels"] == by_id["parcels"] == [stand.calls()[1].parcel]


def test_a_trace_shows_each_attempt_of_a_failed_file(stand: Stand) -> None:
    stand.start()
    stand.drop(b"bad.txt", b"always_raise no such customer")
    wait_until_filed(stand, count=1)

    (life,) = trace(stand, "bad.txt")
    output = console(stand, "trace", "bad.txt").stdout

    assert steps(life) == ["claimed", "handled", "retried", "handled", "retried", "handled", "failed"]
    assert [step["attempt"] for step in life["steps"] if step["step"] == "handled"] == [1, 2, 3]
    assert output.count("no such customer") == 4
    assert output.splitlines()[-1].startswith("  failed after ")


def test_a_trace_follows_a_file_that_is_split_off_into_its_own_parcel(stand: Stand) -> None:
    stand.start()
    for number in range(8):  # files share parcels once the handler's rate is known
        stand.drop(b"warm %d.txt" % number, b"warm")
        wait_until_filed(stand, count=number + 1)
    files = {b"%d.txt" % number: b"good %d" % number for number in range(50)}
    stand.drop_folder(b"load", {**files, b"25 twice.txt": b"raise_twice"})
    wait_until_filed(stand, count=8 + 51)

    (life,) = trace(stand, "load/25 twice.txt")
    calls = [call for call in stand.calls() if call.path == b"load/25 twice.txt"]
    splits = [line for line in stand.log_events("parcel_split") if line["file"] == "load/25 twice.txt"]

    assert len(splits) == 1, "the file did not share a parcel"
    assert life["parcels"] == list(dict.fromkeys(call.parcel for call in calls))
    assert steps(life) == ["claimed", "handled", "split", "sent", "handled", "retried", "handled", "done"]
    assert {life["file"] for life in trace(stand, life["parcels"][0])} >= {"load/25 twice.txt"}


def test_a_trace_shows_that_a_files_worker_was_killed(stand: Stand) -> None:
    stand.start()
    stand.drop(b"long.txt", b"sleep 2")
    stand.wait_until(stand.calls)
    stand.worker.kill9()
    stand.worker.start()
    wait_until_filed(stand, count=1)

    (life,) = trace(stand, "long.txt")

    assert (steps(life)[0], steps(life)[-1]) == ("claimed", "done")
    assert [step for step in steps(life) if step in ("crashed", "handled")] == ["crashed", "handled"]
    assert life["outcome"] == "done"


def test_every_command_prints_a_hostile_file_name_escaped_and_on_one_line(stand: Stand) -> None:
    stand.start()
    stand.drop(HOSTILE, b"hostile")
    stand.drop(b"harmless.txt", b"harmless")
    wait_until_filed(stand, count=2)

    results = [console(stand, *command) for command in (["log"], ["log", "--json"], ["trace", os.fsdecode(HOSTILE)])]
    done = console(stand, "log", "--outcome", "done").stdout.splitlines()

    assert all(line.isprintable() for result in results for line in result.stdout.splitlines())
    assert len(done) == 2
    assert sum('x\\n{"event":"file_done"}\\x1b[2J.pdf' in line for line in done) == 1
    assert 'drop:x\\n{"event":"file_done"}\\x1b[2J.pdf  ' in results[2].stdout.splitlines()[0]


def test_a_trace_of_a_file_that_was_never_dropped_exits_with_code_1_and_names_the_logs(stand: Stand) -> None:
    stand.start()

    result = console(stand, "trace", "never.txt")

    assert result.returncode == 1
    assert "watcher.log" in result.stderr
