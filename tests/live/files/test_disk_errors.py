"""A disk that is full, read-only, or not there: every file stays where it is, and goes on when it can."""

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
    """Mount a small file system in memory over a folder, or mount it again with other options; it is gone after the test."""
    with ExitStack() as stack:

        def over(folder: Path, options: str) -> None:
            again = ["-o", f"remount,{options}"] if folder.is_mount() else ["-t", "tmpfs", "-o", options]
            done = subprocess.run(["mount", *again, "inboxd-test", folder], check=False, capture_output=True)
            if done.returncode and not folder.is_mount():
                pytest.skip(f"only root may mount: {done.stderr.decode()}")
            assert done.returncode == 0, done.stderr.decode()
            if not again[-1].startswith("remount"):
                stack.callback(subprocess.run, ["umount", "--lazy", folder], check=True)

        yield over


def sizes(count: int, size: int) -> dict[bytes, bytes]:
    return {b"%d.bin" % number: b"%d" % number + os.urandom(size) for number in range(count)}


def fill(folder: Path) -> None:
    for number in range(100):
        (folder / str(number)).touch()


def test_a_done_folder_that_fills_up_loses_nothing_and_takes_the_rest_once_there_is_room(
    make_stand: MakeStand, mount: Mount
) -> None:
    stand = make_stand().start()
    mount(stand.path("done"), "size=12m")

    dropped = stand.drop_folder(b"many", sizes(40, 600_000))
    stand.wait_until(lambda: stand.log_events("folder_unavailable"))
    assert stand.log_events("folder_unavailable")[0]["error"] == f"{stand.path('done')}: No space left on device"
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.watcher), awaited="the watcher to hear of it")
    stand.drop(b"late.bin", b"not to be claimed now")
    lines = len(stand.log_lines())
    watched = time.monotonic()
    while time.monotonic() < watched + 5:
        assert stand.names("inbox") == {b"late.bin"}
        time.sleep(0.2)

    assert len(stand.log_lines()) - lines < 20, "a flood"
    assert len(stand.log_events("folder_unavailable")) == 2  # the one who met it, and the watcher
    assert 10 <= len(stand.names("done")) <= 20
    mount(stand.path("done"), "size=64m")
    stand.wait_until(stand.is_at_rest)
    tree = stand.tree("done")
    assert {name: sha for name, sha in tree.items() if name != b"late.bin"} == dropped
    assert b"late.bin" in tree
    stand.wait_until(lambda: stand.log_events("folder_available", stand.watcher))


def test_an_inbox_without_room_for_a_parcel_is_paused_until_there_is_some(make_stand: MakeStand, mount: Mount) -> None:
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
        fill(filler)

    stand.watcher.start()
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.watcher))
    assert len(stand.names("inbox")) == 5
    (filler / "0").unlink()
    (filler / "1").unlink()
    stand.wait_until(lambda: len(stand.names("done")) == 5)

    assert len(stand.log_events("folder_unavailable", stand.watcher)) <= 2
    assert stand.log_events("folder_available", stand.watcher)


def test_a_failed_folder_that_is_read_only_keeps_its_files_claimed_until_it_is_writable(
    make_stand: MakeStand, mount: Mount
) -> None:
    stand = make_stand().start()
    mount(stand.path("failed"), "size=1m,ro")

    stand.drop(b"bad.txt", b"reject no good")
    stand.wait_until(lambda: stand.log_events("folder_unavailable", stand.watcher))
    assert [name.partition(b"/")[2] for name in stand.names("claimed")] == [b"bad.txt"]
    mount(stand.path("failed"), "rw")
    stand.wait_until(stand.is_at_rest)

    assert stand.names("failed") == {b"bad.txt", b"bad.txt.error.txt"}
    assert len(stand.calls()) == 1


def test_a_done_folder_that_is_taken_away_is_waited_for(make_stand: MakeStand) -> None:
    stand = make_stand().start()

    stand.drop(b"good.txt", b"sleep 1")
    stand.wait_until(stand.calls)
    stand.path("done").rename(stand.root() / "elsewhere")
    stand.wait_until(lambda: stand.log_events("folder_unavailable"))
    stand.drop(b"late.txt", b"content")
    (stand.root() / "elsewhere").rename(stand.path("done"))
    stand.wait_until(stand.is_at_rest)

    assert stand.names("done") == {b"good.txt", b"late.txt"}
    assert len(stand.calls(b"good.txt")) == 1


def test_a_file_that_somebody_deletes_from_claimed_is_reported_once_and_not_tried_for_ever(make_stand: MakeStand) -> None:
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
