"""Large files for workers that do not see the folders, by way of a store: a folder, and a server with S3's protocol."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.live.s3_server import BUCKET, S3Server
from support.live.stand import Program, Stand, Table

from inboxd.messaging.queues import host_queue
from inboxd.stage.staged_copy import BLOCK_BYTES

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
STAGE_HANDLER = "support.live.stage_handlers:read_file"
RECOVERY_SECONDS = 150
"""More than a fault of the store is remembered for, which a sweep may notice after the test has forgotten it."""
SMALL, LARGE = 1000, 2 * BLOCK_BYTES + 12345


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


def content(size: int, command: str = "read") -> bytes:
    return (command.encode() + b" " + os.urandom(size))[:size]


def add_helper(stand: Stand) -> Program:
    argv = (sys.executable, "-m", "celery", "-A", "inboxd", "worker", "-c", "1", "-n", "helper@%h", "-Q", "inboxd.work")
    environment = stand.environment(INBOXD_HOST="elsewhere")
    return stand.program(
        "helper", argv, lambda start: " ready." in stand.programs["helper"].text(start), environment=environment
    )


def make(
    make_stand: MakeStand, stage: Table, *, only_helper: bool = True, secrets: Table | None = None, **keys: object
) -> Stand:
    """Return a stand with a helper; with ``only_helper`` its own worker uploads and files, and handles nothing."""
    sweep = {"missed_seconds": 1.0, "stale_seconds": 1.0, "grace_seconds": 1.0, "expired_seconds": 2.0}
    stand = make_stand(
        {"drop": {"handler": STAGE_HANDLER, "inline_bytes_max": SMALL, "retry_backoff_seconds": 0.1, **keys}},
        stage=stage, sweep=sweep,
    )  # fmt: skip
    if secrets:
        path = stand.folder / "stage-secret.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in secrets.items()))
        path.chmod(0o600)
    if only_helper:
        stand.worker.argv = (*stand.worker.argv, "-Q", host_queue("stand"))
    add_helper(stand)
    return stand


def make_with_s3(make_stand: MakeStand, s3: S3Server, **keys: object) -> Stand:
    stage = {"url": f"s3://{BUCKET}/inboxd", "options": s3.options, "secret_file": "stage-secret.toml"}
    return make(make_stand, stage, secrets=s3.secrets, **keys)


def console(stand: Stand, *argv: str) -> "subprocess.CompletedProcess[str]":
    command = (sys.executable, "-m", "inboxd", *argv)
    return subprocess.run(command, env=stand.environment(), cwd=stand.folder, capture_output=True, text=True, check=False)


def start(stand: Stand) -> Stand:
    stand.start()
    stand.programs["helper"].start()
    return stand


def pause(stand: Stand, helper: Program) -> None:
    """Stop a helper that has registered itself, so that it may be waited for."""
    stand.wait_until(lambda: any(name.endswith(b"\0inboxd.work") for name in stand.client.zrange("inboxd:workers", 0, -1)))
    helper.send(signal.SIGSTOP)


def reads(stand: Stand) -> list[dict[str, Any]]:
    path = stand.folder / "reads.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def whole_reads(stand: Stand) -> list[dict[str, Any]]:
    return [line for line in reads(stand) if "sha256" in line]


def is_read_elsewhere(read: dict[str, Any], dropped: bytes) -> bool:
    digest = hashlib.sha256(dropped).hexdigest()
    return (
        (read["sha256"], read["announced"], read["size"], read["tail"]) == (digest, digest, len(dropped), dropped[-10:].hex())
        and read["host"] == "elsewhere"
        and not read["local"]
    )


def test_a_helper_reads_a_large_file_from_a_folder_that_it_sees(make_stand: MakeStand, tmp_path: Path) -> None:
    store = tmp_path / "shared"
    store.mkdir()
    stand = start(make(make_stand, {"url": f"file://{store}"}))
    files = {b"a b.bin": content(LARGE), b"sub/\xff.bin": content(SMALL + 1), b"small.txt": content(SMALL)}

    for name, dropped in files.items():
        stand.drop(name, dropped)

    stand.wait_until(lambda: set(stand.names("done")) == {*files})
    by_path = {read["size"]: read for read in whole_reads(stand)}
    assert all(is_read_elsewhere(by_path[len(dropped)], dropped) for dropped in files.values())
    assert len(stand.log_events("file_staged")) == 2
    stand.wait_until(lambda: not [path for path in store.rglob("*") if path.is_file()], awaited="the copies' removal")


def test_a_helper_reads_from_s3_whatever_becomes_of_the_file(make_stand: MakeStand, s3: S3Server) -> None:
    stand = start(make_with_s3(make_stand, s3, retries=2))
    files = {command.encode(): content(LARGE, command) for command in ("read", "raise", "reject", "make")}

    for name, dropped in files.items():
        stand.drop(name, dropped)

    stand.wait_until(lambda: len(stand.names("done")) == 3 and b"reject" in stand.names("failed"))
    assert set(stand.names("done")) == {b"read", b"raise", b"make"}
    made = (stand.root() / "out" / "make.sha256").read_text()
    assert made == hashlib.sha256(files[b"make"]).hexdigest()
    attempts = sorted(read["attempt"] for read in whole_reads(stand) if read["size"] == LARGE)
    assert attempts == [1, 1, 1, 1, 2]
    assert len(stand.log_events("file_staged")) == 4  # the second attempt reads the same copy
    stand.wait_until(lambda: not s3.names(), awaited="the copies' removal")
    assert s3.unfinished() == []
    assert stand.client.hlen("inboxd:staged:stand") == 0


def test_without_a_helper_nothing_is_uploaded(make_stand: MakeStand, s3: S3Server) -> None:
    stand = make_with_s3(make_stand, s3, only_helper=False).start()

    stand.drop(b"a.bin", content(LARGE))

    stand.wait_until(lambda: set(stand.names("done")) == {b"a.bin"})
    assert not stand.log_events("file_staged")
    assert [read["local"] for read in whole_reads(stand)] == [True]


def test_while_the_store_is_away_workers_that_see_the_folders_take_the_files(make_stand: MakeStand, s3: S3Server) -> None:
    stand = start(make_with_s3(make_stand, s3, only_helper=False))
    s3.stop()

    stand.drop(b"a.bin", content(LARGE))
    stand.drop(b"b.bin", content(LARGE))

    stand.wait_until(lambda: set(stand.names("done")) == {b"a.bin", b"b.bin"})
    assert [read["local"] for read in whole_reads(stand)] == [True, True]
    assert len(stand.log_events("stage_unavailable")) == 1
    assert "stage: s3://files/inboxd: " in console(stand, "status").stdout


def test_while_the_store_is_away_files_wait_if_nobody_else_may_take_them(make_stand: MakeStand, s3: S3Server) -> None:
    stand = start(make_with_s3(make_stand, s3))
    s3.stop()
    dropped = content(LARGE)

    stand.drop(b"a.bin", dropped)

    stand.wait_until(lambda: stand.log_events("stage_unavailable") and set(stand.names("claimed")))
    s3.start()
    stand.client.delete("inboxd:stage_fault:stand")  # instead of a minute's wait
    stand.wait_until(lambda: set(stand.names("done")) == {b"a.bin"}, seconds=RECOVERY_SECONDS)
    assert is_read_elsewhere(whole_reads(stand)[-1], dropped)


@pytest.mark.parametrize("fault", ["changed", "removed", "lost"])
def test_a_copy_that_is_not_what_was_uploaded_is_never_read(make_stand: MakeStand, s3: S3Server, fault: str) -> None:
    """The handler rejects the file for it, as libraries do; it is uploaded again all the same."""
    stand = make_with_s3(make_stand, s3).start()
    helper = stand.programs["helper"]
    helper.start()
    pause(stand, helper)
    dropped = content(LARGE)
    stand.drop(b"a.bin", dropped)
    stand.wait_until(lambda: stand.log_events("file_staged"))
    (name,) = s3.names()

    if fault == "changed":
        s3.overwrite(name, dropped[: BLOCK_BYTES + 5] + b"!" + dropped[BLOCK_BYTES + 6 :])
    elif fault == "removed":
        s3.remove(name)
    else:
        s3.stop()
        s3.start()
    helper.send(signal.SIGCONT)

    stand.wait_until(lambda: any(line["program"] == "worker" for line in stand.log_events("stage_unavailable")))
    stand.client.delete("inboxd:stage_fault:stand")
    stand.wait_until(lambda: set(stand.names("done")) == {b"a.bin"}, seconds=RECOVERY_SECONDS)
    assert len(stand.log_events("file_staged")) == 2
    assert all(is_read_elsewhere(read, dropped) for read in whole_reads(stand))
    assert [read["attempt"] for read in whole_reads(stand)] == [1]
    stand.wait_until(lambda: not s3.names(), awaited="the copies' removal")


@pytest.mark.parametrize("command", ["read", "ignore"])
def test_a_store_that_hangs_while_a_helper_reads_is_no_fault_of_the_file(
    make_stand: MakeStand, s3: S3Server, command: str
) -> None:
    """The handler exceeds its time limit, or takes the error for a bad file and says that it is done."""
    s3.options["config_kwargs"] |= {"read_timeout": 60 if command == "read" else 3}
    stand = make_with_s3(make_stand, s3, time_limit_seconds=8, retries=0).start()
    helper = stand.programs["helper"]
    helper.start()
    pause(stand, helper)
    dropped = content(LARGE, command)
    stand.drop(b"a.bin", dropped)
    stand.wait_until(lambda: stand.log_events("file_staged"))
    s3.pause()
    helper.send(signal.SIGCONT)

    stand.wait_until(lambda: stand.log_events("parcel_split"))
    assert set(stand.names("claimed"))
    s3.resume()

    stand.wait_until(lambda: set(stand.names("done")) == {b"a.bin"})
    assert is_read_elsewhere(whole_reads(stand)[-1], dropped)
    assert whole_reads(stand)[-1]["attempt"] == 1


def test_while_a_file_is_uploaded_others_are_handled_and_filed(make_stand: MakeStand, s3: S3Server) -> None:
    stand = start(make_with_s3(make_stand, s3, only_helper=False))
    stand.wait_until(lambda: len(stand.client.zrange("inboxd:workers", 0, -1)) == 2)
    s3.pause()
    for number in range(5):
        stand.drop(b"%d.bin" % number, content(LARGE))
    stand.wait_until(lambda: stand.client.llen("inboxd.stage.stand") == 4)
    small = [b"%d.txt" % number for number in range(20)]

    for name in small:
        stand.drop(name, b"small")

    stand.wait_until(lambda: set(stand.names("done")) >= set(small), seconds=20)
    s3.resume()
    stand.wait_until(lambda: len(stand.names("done")) == 25)


def test_a_helper_that_is_killed_twice_costs_no_second_upload(make_stand: MakeStand, s3: S3Server) -> None:
    stand = start(make_with_s3(make_stand, s3))
    dropped = content(LARGE, "slow")
    stand.drop(b"a.bin", dropped)
    helper = stand.programs["helper"]

    for times in (1, 2):
        stand.wait_until(lambda times=times: sum(read["at"] == 1 << 20 for read in reads(stand) if "at" in read) == times)
        os.killpg(helper.pid, signal.SIGKILL)
        helper.wait(45)
        helper.start()

    stand.wait_until(lambda: set(stand.names("done")) == {b"a.bin"}, seconds=RECOVERY_SECONDS)
    assert len(stand.log_events("file_staged")) == 1
    assert [read["attempt"] for read in whole_reads(stand)] == [3]
    stand.wait_until(lambda: not s3.names(), awaited="the copies' removal")


def test_an_uploader_that_is_killed_leaves_nothing_behind(make_stand: MakeStand, s3: S3Server) -> None:
    stand = start(make_with_s3(make_stand, s3))
    s3.pause()
    dropped = content(LARGE)
    stand.drop(b"a.bin", dropped)
    stand.wait_until(lambda: list(stand.client.scan_iter("inboxd:upload:*")), awaited="the upload")
    os.killpg(stand.worker.pid, signal.SIGKILL)
    stand.worker.wait(45)
    s3.resume()

    stand.worker.start()

    stand.wait_until(lambda: set(stand.names("done")) == {b"a.bin"}, seconds=90)
    assert is_read_elsewhere(whole_reads(stand)[-1], dropped)
    stand.wait_until(lambda: not s3.names(), awaited="the copies' removal")


def test_a_lost_redis_costs_an_upload_and_no_file(make_stand: MakeStand, s3: S3Server) -> None:
    stand = start(make_with_s3(make_stand, s3))
    pause(stand, stand.programs["helper"])
    dropped = content(LARGE)
    stand.drop(b"a.bin", dropped)
    stand.wait_until(lambda: stand.log_events("file_staged"))

    stand.client.flushall()
    stand.programs["helper"].send(signal.SIGCONT)

    stand.wait_until(lambda: set(stand.names("done")) == {b"a.bin"}, seconds=RECOVERY_SECONDS)
    assert all(is_read_elsewhere(read, dropped) for read in whole_reads(stand))
    stand.wait_until(lambda: not s3.names(), awaited="the copies' removal")  # by what the store has, not by what Redis knows


def test_a_file_for_this_hosts_own_worker_is_read_where_it_lies(make_stand: MakeStand, s3: S3Server) -> None:
    """The message with the copy may be taken by a worker that sees the folders."""
    stand = make_with_s3(make_stand, s3, only_helper=False).start()
    helper = stand.programs["helper"]
    helper.start()
    pause(stand, helper)

    stand.drop(b"a.bin", content(LARGE))
    stand.drop(b"b.bin", content(LARGE))
    stand.drop(b"c.bin", content(LARGE))

    stand.wait_until(lambda: any(read["local"] for read in whole_reads(stand)))
    helper.send(signal.SIGCONT)
    stand.wait_until(lambda: len(stand.names("done")) == 3)


def test_without_any_worker_for_it_a_large_file_waits_for_one_on_another_host(make_stand: MakeStand, s3: S3Server) -> None:
    stand = make_with_s3(make_stand, s3).start()
    dropped = content(LARGE)
    stand.drop(b"a.bin", dropped)
    stand.wait_until(lambda: set(stand.names("claimed")) and stand.client.llen("inboxd.stage.stand") == 0)

    stand.programs["helper"].start()

    stand.wait_until(lambda: set(stand.names("done")) == {b"a.bin"}, seconds=RECOVERY_SECONDS)
    assert is_read_elsewhere(whole_reads(stand)[-1], dropped)


def test_check_tries_the_store(make_stand: MakeStand, s3: S3Server) -> None:
    stand = make_with_s3(make_stand, s3)
    stand.redis.start()

    assert "stage.url" not in console(stand, "check").stdout
    assert s3.names() == []
    s3.stop()

    assert "note: stage.url: s3://files/inboxd: " in console(stand, "check").stdout
