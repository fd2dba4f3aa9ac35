"""On a full, read-only or missing disk every file stays in its folder; processing continues once the disk is back."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
Mount = Callable[[Path, str], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Yield a function that mounts a tmpfs over a folder, or remounts it with other options; it is unmounted after the test."""
    with ExitStack() as stack:

        def mount_over(folder: Path, options: str) -> None:
            arguments = ["-o", f"remount,{options}"] if folder.is_mount() else ["-t", "tmpfs", "-o", options]
            result = subprocess.run(["mount", *arguments, "inboxd-test", folder], check=False, capture_output=True)
            if result.returncode and not folder.is_mount():
                pytest.skip(f"this test needs root, to mount a tmpfs: {result.stderr.decode()}")
            assert result.returncode == 0, result.stderr.decode()
            if not arguments[-1].startswith("remount"):
                stack.callback(subprocess.run, ["umount", "--lazy", folder], check=True)

        yield mount_over


def random_files(count: int, size: int) -> dict[bytes, bytes]:
    return {b"%d.bin" % number: b"%d" % number + os.urandom(size) for number in range(count)}


def use_up_inodes(folder: Path) -> None:
    for number in range(100):
        (folder / str(number)).touch()


def test_a_full_done_folder_loses_no_file_and_pauses_the_inbox_until_there_is_room(make_stand: MakeStand, mount: Mount) -> None:
    stand = make_stand().start()
    mount(stand.path("done"), "size=12m")

    dropped = stand.drop_folder(b"many", random_files(40, 600_000))
    stand.wait_until(lambda: stand.log_events("folder_unavailable"))
    assert stand.log_events("folder_unavailable")[0]["error"] == f"{stand.path('done')}: No space left on device"
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.watcher), awaited="the watcher to read the outage")
    stand.drop(b"late.bin", b"not to be claimed during the outage")
    lines = len(stand.log_lines())
    paused_at = time.monotonic()
    while time.monotonic() < paused_at + 5:
        assert stand.names("inbox") == {b"late.bin"}
        time.sleep(0.2)

    assert len(stand.log_lines()) - lines < 20, "an outage must not flood the log"
    assert len(stand.log_events("folder_unavailable")) == 2  # from the worker with the error, and from the watcher
    assert 10 <= len(stand.names("done")) <= 20
    mount(stand.path("done"), "size=64m")
    stand.wait_until(stand.has_no_pending_files)
    digests = stand.tree("done")
    assert b"late.bin" in digests
    assert {name: digest for name, digest in digests.items() if name != b"late.bin"} == dropped
    stand.wait_until(lambda: stand.log_events("folder_available", stand.watcher))


def test_an_inbox_without_free_inodes_for_a_parcel_is_paused_until_there_are_some(make_stand: MakeStand, mount: Mount) -> None:
    stand = make_stand()
    mount(stand.root(), "size=12m,nr_inodes=60")
    for folder in ("inbox", "claimed", "done", "failed"):
        stand.path(folder).mkdir()
    stand.redis.start()
    stand.worker.start()
    for number in range(5):
        stand.drop(b"%d.txt" % number, b"%d" % number)
    filler = stand.root() / "filler"
    filler.mkdir()
    with pytest.raises(OSError, match="No space left"):
        use_up_inodes(filler)

    stand.watcher.start()
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.watcher))
    assert len(stand.names("inbox")) == 5
    (filler / "0").unlink()
    (filler / "1").unlink()
    stand.wait_until(lambda: len(stand.names("done")) == 5)

    assert len(stand.log_events("folder_unavailable", stand.watcher)) <= 2
    assert stand.log_events("folder_available", stand.watcher)


def test_a_rejected_file_stays_claimed_while_failed_is_read_only(make_stand: MakeStand, mount: Mount) -> None:
    stand = make_stand().start()
    mount(stand.path("failed"), "size=1m,ro")

    stand.drop(b"bad.txt", b"reject the invoice has no total")
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.watcher))
    assert [name.partition(b"/")[2] for name in stand.names("claimed")] == [b"bad.txt"]
    mount(stand.path("failed"), "rw")
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("failed") == {b"bad.txt", b"bad.txt.error.txt"}
    assert len(stand.calls()) == 1


def test_a_file_is_filed_once_the_missing_done_folder_is_back(make_stand: MakeStand) -> None:
    stand = make_stand().start()

    stand.drop(b"good.txt", b"sleep 1")
    stand.wait_until(stand.calls)
    stand.path("done").rename(stand.root() / "elsewhere")
    stand.wait_until(lambda: stand.log_events("folder_unavailable"))
    stand.drop(b"late.txt", b"content")
    (stand.root() / "elsewhere").rename(stand.path("done"))
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("done") == {b"good.txt", b"late.txt"}
    assert len(stand.calls(b"good.txt")) == 1


def test_a_file_deleted_from_claimed_is_reported_once_and_not_retried(make_stand: MakeStand) -> None:
    stand = make_stand().start()

    stand.drop(b"small.txt", b"sleep 1")
    stand.drop(b"large.bin", b"raise_twice\n" + bytes(100_000))
    stand.wait_until(lambda: len({call.path for call in stand.calls()}) == 2)
    for name in stand.names("claimed"):
        stand.path("claimed", name).unlink()
    stand.wait_until(lambda: len(stand.log_events("file_missing")) == 2)
    stand.drop(b"next.txt", b"content")
    stand.wait_until(lambda: stand.names("done") == {b"next.txt"})
    stand.wait_until(lambda: not any(stand.path("claimed").iterdir()))

    assert {line["file"] for line in stand.log_events("file_missing")} == {"small.txt", "large.bin"}
    assert stand.names("failed") == set()
