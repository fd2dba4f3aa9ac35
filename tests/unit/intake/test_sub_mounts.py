"""The mounts below inbox/: each has its own wait times and clock, and each costs only itself."""

import errno
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest
from support.disk.disks import RefusingDisk
from support.disk.spools import NO_WAITS, Spool
from support.parts.fake_context import make_intake_deps
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.intake.folder_clock import CLOCK_FILE, time_of_new_file
from inboxd.intake.intake import Intake
from inboxd.intake.readiness import Ready, Wait
from inboxd.intake.scan import DeniedEntry, ScannedEntry, scan, scan_path
from inboxd.intake.sub_mounts import SubMounts

MOUNT_ID = 999_999


class MountingDisk(Disk):
    """A disk on which inbox/scans is a mount of its own, whose clock is ``ahead`` seconds ahead."""

    def __init__(self, file_system: str, ahead: float = 0.0) -> None:
        self._file_system = file_system
        self._ahead_ns = int(ahead * 1e9)
        self._mounted: set[Fd] = set()

    def open_folder(self, at: Fd, name: bytes) -> Fd:
        fd = super().open_folder(at, name)
        self._mounted.discard(fd)
        if name == b"scans" or (at in self._mounted and name != b".."):
            self._mounted.add(fd)
        return fd

    def open_file(self, at: Fd, name: bytes) -> Fd:
        return self._on_mount_of(at, super().open_file(at, name))

    def create(self, at: Fd, name: bytes, mode: int, *, append: bool = False) -> Fd:
        return self._on_mount_of(at, super().create(at, name, mode, append=append))

    def _on_mount_of(self, at: Fd, fd: Fd) -> Fd:
        self._mounted.discard(fd)
        if at in self._mounted:
            self._mounted.add(fd)
        return fd

    def stat(self, at: Fd, name: bytes) -> Stat:
        return self._shift(super().stat(at, name)) if at in self._mounted else super().stat(at, name)

    def fstat(self, fd: Fd) -> Stat:
        return self._shift(super().fstat(fd)) if fd in self._mounted else super().fstat(fd)

    def _shift(self, stat: Stat) -> Stat:
        return stat._replace(
            dev=stat.dev + 1_000_000, mtime_ns=stat.mtime_ns + self._ahead_ns, ctime_ns=stat.ctime_ns + self._ahead_ns
        )

    def mount_id(self, fd: Fd) -> int:
        return MOUNT_ID if fd in self._mounted else super().mount_id(fd)

    def read_text(self, path: PurePath) -> str:
        text = super().read_text(path)
        return text + f"{MOUNT_ID} 1 0:99 / /x rw - {self._file_system} x rw\n" if path.name == "mountinfo" else text


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool.make(tmp_path / "drop")
    spool.put(b"inbox/scans/page.pdf")
    return spool


def _decide(spool: Spool, disk: Disk) -> dict[bytes, object]:
    with spool.folders() as folders:
        rules = spool.inbox(settle_seconds=0.0)
        entries = scan(disk, folders.inbox, rules, NO_WAITS, time.time, sub_mounts=SubMounts(disk, rules))
        return {entry.path: entry.decision for entry in entries if isinstance(entry, ScannedEntry)}


def test_a_young_file_on_a_network_mount_waits_for_the_mounts_own_time(spool: Spool) -> None:
    spool.put(b"inbox/local.pdf")

    found = _decide(spool, MountingDisk("fuse.sshfs"))

    assert isinstance(found[b"scans/page.pdf"], Wait)
    assert found[b"local.pdf"] == Ready()


def test_a_young_file_on_a_local_mount_is_ready(spool: Spool) -> None:
    assert _decide(spool, MountingDisk("xfs")) == {b"scans/page.pdf": Ready()}


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_a_file_servers_own_clock_decides(spool: Spool, ahead: float) -> None:
    """By the local clock a file would be an hour old, or its time would be in the future, which counts as old, too."""
    assert isinstance(_decide(spool, MountingDisk("nfs4", ahead))[b"scans/page.pdf"], Wait)


def test_explaining_a_file_there_uses_the_mounts_wait_times_and_writes_nothing(spool: Spool) -> None:
    disk, rules = MountingDisk("cifs"), spool.inbox(settle_seconds=0.0)
    sub_mounts = SubMounts(disk, rules, reads_only=True)
    before = (spool.root / "inbox" / "scans").stat()

    with spool.folders() as folders:
        found = scan_path(disk, folders.inbox, b"scans/page.pdf", rules, NO_WAITS, time.time, sub_mounts=sub_mounts)

    assert isinstance(found, ScannedEntry)
    assert isinstance(found.decision, Wait)
    assert {path: mount.file_system for path, mount in sub_mounts.mounts.items()} == {b"scans": "cifs"}
    assert (spool.root / "inbox" / "scans").stat().st_mtime_ns == before.st_mtime_ns


def test_an_intake_reports_the_mounts_of_its_last_scan(spool: Spool) -> None:
    disk = MountingDisk("fuse.sshfs")
    intake = Intake(make_intake_deps(disk, FakeLeases(), FakePublisher()), spool.inbox(), NO_WAITS, network=False)

    intake.run_turn("scan")

    (sentence,) = intake.describe_sub_mounts()
    assert sentence.startswith("inbox/scans is on fuse.sshfs")
    assert "unchanged for 10 s" in sentence


class DeadMount(MountingDisk):
    """The mount's server is gone: the kernel answers for it."""

    def entries(self, at: Fd) -> Iterator[tuple[bytes, bool]]:
        if at in self._mounted:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return super().entries(at)


def test_a_mount_that_is_gone_does_not_stop_its_inbox(spool: Spool) -> None:
    spool.put(b"inbox/local.pdf")
    disk = DeadMount("fuse.sshfs")

    with spool.folders() as folders:
        entries = list(scan(disk, folders.inbox, spool.inbox(), NO_WAITS, time.time, sub_mounts=SubMounts(disk, spool.inbox())))

    denied = [entry for entry in entries if isinstance(entry, DeniedEntry)]
    assert [(entry.path, entry.error.errno) for entry in denied] == [(b"scans", errno.ENOTCONN)]
    assert [entry.path for entry in entries if isinstance(entry, ScannedEntry)] == [b"local.pdf"]


def test_the_clock_is_read_from_a_new_file_that_is_removed(spool: Spool) -> None:
    (spool.root / "inbox" / CLOCK_FILE.decode()).touch()  # a crash left it

    with spool.folders() as folders:
        now = time_of_new_file(Disk(), folders.inbox)

    assert now == pytest.approx(time.time(), abs=60)
    assert not (spool.root / "inbox" / CLOCK_FILE.decode()).exists()


def test_where_no_file_can_be_made_the_local_clock_is_used(spool: Spool) -> None:
    disk = RefusingDisk("create", CLOCK_FILE, errno.EROFS)
    with spool.folders() as folders:
        assert time_of_new_file(disk, folders.inbox) == pytest.approx(time.time(), abs=60)
