"""The scan of an inbox over several turns: which folders it prunes, and when denied files are tried again."""

import errno
from pathlib import Path

import pytest
from support.disk.disks import RefusingDisk
from support.disk.spools import NO_WAITS, Spool

from inboxd.fs.syscalls import Disk
from inboxd.intake import ready_files
from inboxd.intake.ready_files import DENIED_SECONDS, ReadyFiles


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def make_ready_files(spool: Spool, disk: Disk | None = None) -> ReadyFiles:
    return ReadyFiles(disk or Disk(), spool.inbox(empty_folder_seconds=0.0), NO_WAITS, network=False)


def scan(spool: Spool, scanner: ReadyFiles) -> None:
    with spool.folders() as folders:
        while scanner.advance(folders, 100).has_more:
            pass


def test_only_folders_that_appeared_while_the_inbox_was_watched_are_removed(spool: Spool) -> None:
    """An administrator made inbox/alice for a scanner that can't make it again."""
    (spool.root / "inbox" / "alice").mkdir()
    scanner = make_ready_files(spool)
    scan(spool, scanner)

    for name in ("alice", "dropped"):
        (spool.root / "inbox" / name).mkdir(exist_ok=True)
        (spool.root / "done" / name).mkdir()
    scan(spool, scanner)

    assert spool.folders_in("inbox") == {b"alice"}


def test_a_denied_file_is_tried_again_after_ever_longer_times(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(ready_files.time, "monotonic", lambda: now)
    spool.put(b"inbox/a")
    disk = RefusingDisk("stat", b"a", errno.EIO)
    scanner = make_ready_files(spool, disk)
    first, longest = DENIED_SECONDS
    waits = []

    for _ in range(9):
        scan(spool, scanner)
        scanner.set_denied(b"a", OSError(errno.EIO, "Input/output error"))
        started, step = now, first / 4
        while scanner._is_denied(b"a"):  # noqa: SLF001
            now += step
        waits.append(now - started)

    assert waits[:3] == [first, 2 * first, 4 * first]
    assert waits[-1] == longest
