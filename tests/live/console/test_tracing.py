"""`inboxd log` and `inboxd trace` on the logs of real programs: each file's story is the true one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support.live.stand import Program, Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
HOSTILE = b'x\n{"event":"file_done"}\x1b[2J.pdf'


def console(stand: Stand, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the stand's logs, as a person would."""
    argv = [sys.executable, "-m", "inboxd", command, *arguments]
    return subprocess.run(
        argv, env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, timeout=60, check=False
    )


def lives(stand: Stand, asked: str) -> list[dict[str, Any]]:
    """Trace a file in the logs that the settings name."""
    found: list[dict[str, Any]] = json.loads(console(stand, "trace", "--json", asked).stdout)["lives"]
    return found


def steps(life: dict[str, Any]) -> list[str]:
    return [step["step"] for step in life["steps"]]


@pytest.fixture
def stand(make_stand: MakeStand) -> Stand:
    return make_stand({"drop": {"retries": 2}}, log={"format": "json", "files": ["watcher.log", "worker.log", "beat.log"]})


def filed(stand: Stand, *programs: Program, seconds: float = 30.0, count: int) -> None:
    """Wait until so many files have been filed, and that was logged."""
    ended = ("file_done", "file_failed", "file_refused")
    stand.wait_until(lambda: sum(len(stand.log_events(event, *programs)) for event in ended) >= count, seconds)


def test_a_file_that_goes_well_is_told_from_claim_to_done_and_once_more_when_dropped_again(stand: Stand) -> None:
    stand.start()
    stand.drop(b"sub/a.txt", b"once")
    filed(stand, count=1)
    stand.drop(b"sub/a.txt", b"twice")
    filed(stand, count=2)

    first, second = lives(stand, "sub/a.txt")

    assert steps(first) == steps(second) == ["claimed", "handled", "done"]
    assert (first["filed"], second["filed"]) == ("sub/a.txt", "sub/a (2).txt")
    assert [step["program"] for step in first["steps"]] == ["watcher", "worker", "worker"]
    assert 0 < first["seconds"] < 30
    assert [step["after_seconds"] >= 0 for step in first["steps"]] == [True] * 3
    (by_path,) = lives(stand, str(stand.path("done", b"sub/a (2).txt")))
    (by_digest,) = lives(stand, second["sha256"])
    (by_id,) = lives(stand, stand.calls()[1].id)
    assert by_path["parcels"] == by_digest["parcels"] == by_id["parcels"] == [stand.calls()[1].parcel]


def test_a_file_that_fails_is_told_with_each_of_its_attempts(stand: Stand) -> None:
    stand.start()
    stand.drop(b"bad.txt", b"always_raise no such customer")
    filed(stand, count=1)

    (life,) = lives(stand, "bad.txt")
    told = console(stand, "trace", "bad.txt").stdout

    assert steps(life) == ["claimed", "handled", "retried", "handled", "retried", "handled", "failed"]
    assert [step["attempt"] for step in life["steps"] if step["step"] == "handled"] == [1, 2, 3]
    assert told.count("no such customer") == 4
    assert told.splitlines()[-1].startswith("  failed after ")


def test_a_file_that_raises_in_company_is_followed_into_its_own_parcel(stand: Stand) -> None:
    stand.start()
    for number in range(8):  # files share parcels once the handler is known to be quick
        stand.drop(b"warm %d.txt" % number, b"warm")
        filed(stand, count=number + 1)
    files = {b"%d.txt" % number: b"good %d" % number for number in range(50)}
    stand.drop_folder(b"load", {**files, b"25 twice.txt": b"raise_twice"})
    filed(stand, count=8 + 51)

    (life,) = lives(stand, "load/25 twice.txt")
    calls = [call for call in stand.calls() if call.path == b"load/25 twice.txt"]
    alone = [line for line in stand.log_events("parcel_split") if line["file"] == "load/25 twice.txt"]

    assert len(alone) == 1, "it was not in company"
    assert life["parcels"] == list(dict.fromkeys(call.parcel for call in calls))
    assert steps(life) == ["claimed", "handled", "split", "sent", "handled", "retried", "handled", "done"]
    assert {one["file"] for one in lives(stand, life["parcels"][0])} >= {"load/25 twice.txt"}


def test_a_killed_worker_is_part_of_its_file_s_story(stand: Stand) -> None:
    stand.start()
    stand.drop(b"long.txt", b"sleep 2")
    stand.wait_until(stand.calls)
    stand.worker.kill9()
    stand.worker.start()
    filed(stand, count=1)

    (life,) = lives(stand, "long.txt")

    told = steps(life)
    assert (told[0], told[-1]) == ("claimed", "done")
    assert [step for step in told if step in ("crashed", "handled")] == ["crashed", "handled"]
    assert life["outcome"] == "done"


def test_a_hostile_name_is_one_escaped_line_everywhere(stand: Stand) -> None:
    stand.start()
    stand.drop(HOSTILE, b"hostile")
    stand.drop(b"honest.txt", b"honest")
    filed(stand, count=2)

    told = [console(stand, *command) for command in (["log"], ["log", "--json"], ["trace", os.fsdecode(HOSTILE)])]
    done = console(stand, "log", "--outcome", "done").stdout.splitlines()

    assert all(line.isprintable() for result in told for line in result.stdout.splitlines())
    assert len(done) == 2
    assert sum('x\\n{"event":"file_done"}\\x1b[2J.pdf' in line for line in done) == 1
    assert 'drop:x\\n{"event":"file_done"}\\x1b[2J.pdf  ' in told[2].stdout.splitlines()[0]


def test_what_was_never_dropped_is_not_known(stand: Stand) -> None:
    stand.start()

    result = console(stand, "trace", "never.txt")

    assert result.returncode == 1
    assert "watcher.log" in result.stderr
