"""FUSE mounts that hang, die or hide their writers: each costs only itself."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live.stand import Stand
from support.mounts import FuseMount
from support.waiting import PROGRAM_SECONDS

pytestmark = pytest.mark.mounts

MakeStand = Callable[..., Stand]
Fuse = Callable[[Path, Path], FuseMount]

LONE_SECONDS = 3.0
"""A lone file of another inbox; one of many may meet a busy machine."""
START_SECONDS = 30.0
"""The checks before the start wait 2 s for a mount, and the programs must start."""


def status(stand: Stand) -> dict[str, object]:
    """Return what `inboxd status` says."""
    command = [sys.executable, "-m", "inboxd", "status", "--json"]
    result = subprocess.run(
        command, env=stand.environment(), cwd=stand.folder, capture_output=True, check=False, timeout=PROGRAM_SECONDS
    )
    return json.loads(result.stdout)


def lone_file_seconds(stand: Stand, name: bytes, inbox: str) -> float:
    """Drop a file; return after how many seconds it is in done/."""
    started = time.monotonic()
    stand.drop(name, b"content", inbox)
    stand.wait_until(lambda: name in stand.names("done", inbox=inbox))
    return time.monotonic() - started


def test_a_file_on_a_fuse_mount_below_inbox_waits_until_it_is_unchanged(
    make_stand: MakeStand, fuse: Fuse, tmp_path: Path
) -> None:
    """Its writers can't be seen: at the root's own wait time, it would be taken half-written."""
    stand = make_stand({"drop": {"settle_seconds": 0.1, "unsure_seconds": 3.0}})
    mount = fuse(tmp_path / "backing", stand.path("inbox", b"scans"))
    stand.start()

    with (mount.source / "page.pdf").open("wb") as file:
        for _ in range(5):
            file.write(b"a part, ")
            file.flush()
            os.fsync(file.fileno())
            time.sleep(1.0)
            assert not stand.path("done", b"scans/page.pdf").exists()
    stand.wait_until(lambda: stand.path("done", b"scans/page.pdf").exists())

    assert stand.path("done", b"scans/page.pdf").read_bytes() == b"a part, " * 5
    (sentence,) = status(stand)["inboxes"]["drop"]["sub_mounts"]  # type: ignore[index]
    assert "inbox/scans is on fuse" in sentence


@pytest.mark.parametrize("fault", ["hang", "die"])
@pytest.mark.parametrize("below", [True, False])
def test_a_mount_that_fails_stops_nothing_else(
    make_stand: MakeStand, fuse: Fuse, tmp_path: Path, fault: str, below: bool
) -> None:
    stand = make_stand({"drop": {"unsure_seconds": 0.5}, "other": {"settle_seconds": 0.0}})
    point = stand.path("inbox", b"scans") if below else stand.root("drop")
    if not below:
        for name in ("inbox", "claimed", "done", "failed"):
            (tmp_path / "backing" / name).mkdir(parents=True, exist_ok=True)
    mount = fuse(tmp_path / "backing", point)
    stand.start()
    first = b"scans/first" if below else b"first"
    stand.drop(first, b"content")
    stand.wait_until(lambda: stand.path("done", first).exists())

    getattr(mount, fault)()
    seconds = []
    for number in range(15):
        seconds.append(lone_file_seconds(stand, b"%d" % number, "other"))
        if below:
            stand.drop(b"beside %d" % number, b"content")
        time.sleep(1.0)

    assert sorted(seconds)[-2] < LONE_SECONDS
    if below:
        stand.wait_until(lambda: {b"beside %d" % number for number in range(15)} <= stand.names("done"))
    problems = " ".join(status(stand)["problems"])  # type: ignore[arg-type]
    assert str(point) in problems or "drop" in problems
    if fault == "hang":
        mount.answer()
        last = b"scans/last" if below else b"last"
        stand.drop(last, b"content")
        stand.wait_until(lambda: stand.path("done", last).exists())


def test_a_mount_that_hangs_at_the_start_stops_nothing_else(make_stand: MakeStand, fuse: Fuse, tmp_path: Path) -> None:
    stand = make_stand({"drop": {}, "other": {"settle_seconds": 0.0}})
    for name in ("inbox", "claimed", "done", "failed"):
        (tmp_path / "backing" / name).mkdir(parents=True)
    mount = fuse(tmp_path / "backing", stand.root("drop"))
    mount.hang()
    stand.start()

    first, *others = [lone_file_seconds(stand, b"%d" % number, "other") for number in range(20)]

    assert first < START_SECONDS
    assert sorted(others)[-2] < LONE_SECONDS
    stand.wait_until(lambda: "does not answer" in " ".join(status(stand)["problems"]))  # type: ignore[arg-type]
    mount.answer()
    stand.drop(b"late", b"content")
    stand.wait_until(lambda: stand.path("done", b"late").exists())
