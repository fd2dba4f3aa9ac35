"""Intake errors: refused entries, files that change, an unavailable disk or broker."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.disk.disks import MovingDisk, RacingDisk, RefusingDisk
from support.disk.spools import Spool
from support.parts.fake_context import intake, make_intake_deps, run_all_turns
from support.parts.fakes import FakeLeases, FakePublisher

from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.intake import intake as intake_module
from inboxd.intake import ready_files, scan
from inboxd.intake.intake import Intake
from inboxd.intake.readiness import WaitTimes
from inboxd.logs import events
from inboxd.messaging.payload import Parcel
from inboxd.spool.error_note import parse_note


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


class UnavailableBroker(FakePublisher):
    """A broker that is unavailable until a test changes that."""

    is_unavailable = True

    def send(self, parcel: Parcel, inbox: Inbox) -> None:
        if self.is_unavailable:
            raise BrokerUnavailable("no answer")
        super().send(parcel, inbox)


def drop(spool: Spool, count: int, size: int = 1) -> None:
    for number in range(count):
        spool.put(b"inbox/%04d" % number, b"%d" % (number % 10) * size)


def test_refused_entries_are_moved_to_failed_with_their_reasons(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "TREE_SECONDS", 0.0)
    spool.put(b"inbox/large", b"x" * 101)
    spool.where(b"inbox/link").symlink_to("/etc/passwd")
    os.mkfifo(spool.where(b"inbox/pipe"))
    spool.put(b"inbox/1/2/deep")
    sent = FakePublisher()

    result = intake(spool, FakeLeases(), sent, size_bytes_max=100, depth_max=1).run_turn("event")

    assert result.refused == 4
    assert sent.parcels == []
    notes = {path.removesuffix(b".error.txt"): text for path, text in spool.notes().items()}
    assert notes.keys() == {b"large", b"link", b"pipe", b"1/2"}
    for name, kind, reason in (
        (b"large", "too_large", "101 bytes"),
        (b"link", "link", "symbolic link"),
        (b"pipe", "not_a_file", "named pipe"),
        (b"1/2", "too_deep", "deep"),
    ):
        note = parse_note(notes[name])
        assert note is not None
        assert (note.kind, note.attempts) == (kind, 0)
        assert reason in note.reason
    assert b"it has 101 B, and this folder accepts files of up to 100 B." in notes[b"large"]
    assert spool.files("inbox") == {}
    assert list((spool.root / "claimed").iterdir()) == []


def test_a_file_that_is_opened_for_writing_again_is_released(spool: Spool) -> None:
    place = spool.put(b"inbox/a")
    sent = FakePublisher()
    writers = []

    def reopen(_name: bytes) -> None:
        if not writers:
            writers.append(place.open("ab"))

    result = intake(spool, FakeLeases(), sent, MovingDisk(reopen)).run_turn("event")

    writers[0].close()
    assert result.claimed == 0
    assert sent.parcels == []
    assert spool.files() == {b"inbox/a": b"content"}


def test_a_file_that_was_rewritten_after_the_scan_is_released(spool: Spool) -> None:
    place = spool.put(b"inbox/a", b"old")
    sent = FakePublisher()

    def rewrite(_name: bytes) -> None:
        if place.exists():
            place.write_bytes(b"new and longer")

    intake(spool, FakeLeases(), sent, MovingDisk(rewrite)).run_turn("event")

    assert sent.parcels == []
    assert spool.files() == {b"inbox/a": b"new and longer"}


def test_a_file_without_permission_is_logged_once_and_stays(spool: Spool) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/x/b")
    sent = FakePublisher()
    drop_intake = intake(spool, FakeLeases(), sent, MovingDisk(_not_permitted))

    with capture_logs() as lines:
        for _ in range(3):
            drop_intake.run_turn("scan")

    denied = [line for line in lines if line["event"] == events.FILE_DENIED]
    assert [(line["file"], "make the service the owner" in line["remedy"]) for line in denied] == [(b"x/b", True)]
    assert sent.paths() == [b"a"]
    assert spool.files("inbox") == {b"x/b": b"content"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_an_inbox_wide_error_ends_the_turn_and_the_next_turn_claims_the_file(code: int, spool: Spool) -> None:
    spool.put(b"inbox/a")
    leases, sent = FakeLeases(), FakePublisher()

    with pytest.raises(FolderUnavailable, match="drop"):
        intake(spool, leases, sent, MovingDisk(_raise_error(code))).run_turn("event")

    assert spool.files() == {b"inbox/a": b"content"}
    run_all_turns(intake(spool, leases, sent))
    assert sent.paths() == [b"a"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EROFS], ids=errno.errorcode.get)
def test_a_file_that_can_not_be_moved_does_not_affect_others(code: int, spool: Spool) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/b")
    leases, sent = FakeLeases(), FakePublisher()

    with capture_logs() as lines:
        intake(spool, leases, sent, RefusingDisk("rename_over", b"a", code)).run_turn("event")

    assert spool.files("inbox") == {b"a": b"content"}
    assert ["check the disk" in line["remedy"] for line in lines if line["event"] == events.FILE_DENIED] == [True]
    assert sent.paths() == [b"b"]


@pytest.mark.parametrize("missing", ["inbox", "claimed", "done", "failed"])
def test_after_a_missing_folder_a_new_scan_begins(missing: str, spool: Spool) -> None:
    sent = FakePublisher()
    drop_intake = intake(spool, FakeLeases(), sent)
    (spool.root / missing).rmdir()
    with pytest.raises(FolderUnavailable, match=missing):
        drop_intake.run_turn("scan")

    (spool.root / missing).mkdir()
    spool.put(b"inbox/a")

    assert drop_intake.is_between_scans
    assert drop_intake.run_turn("scan").claimed == 1


def test_a_parcel_that_was_not_sent_is_sent_first_with_the_same_id(spool: Spool) -> None:
    drop(spool, 2)
    sent = UnavailableBroker()
    drop_intake = intake(spool, FakeLeases(), sent)
    with pytest.raises(BrokerUnavailable):
        drop_intake.run_turn("event")
    (claimed,) = (spool.root / "claimed").iterdir()

    sent.is_unavailable = False
    drop_intake.run_turn("start")

    assert sent.parcels[0].id == claimed.name
    assert sorted(sent.paths()) == [b"0000", b"0001"]


def test_nothing_more_is_claimed_while_the_broker_is_unavailable(spool: Spool) -> None:
    drop(spool, 5)
    drop_intake = intake(spool, FakeLeases(), UnavailableBroker())

    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            drop_intake.run_turn("event")

    assert len(spool.files("claimed")) == 1
    assert len(spool.files("inbox")) == 4


def test_a_claim_without_files_leaves_no_lease_and_no_parcel(spool: Spool) -> None:
    place = spool.put(b"inbox/a")
    leases, sent = FakeLeases(), FakePublisher()

    intake(spool, leases, sent, RacingDisk(Disk(), place.unlink, only="mkdir")).run_turn("event")

    assert leases.records == {}
    assert list((spool.root / "claimed").iterdir()) == []


@pytest.mark.parametrize(("keep", "folders"), [("remove", set()), ("keep", {b"x", b"x/y"})])
def test_emptied_sub_folders_are_removed_unless_the_settings_keep_them(keep: str, folders: set[bytes], spool: Spool) -> None:
    drop_intake = intake(spool, FakeLeases(), FakePublisher(), empty_folders=keep, empty_folder_seconds=0.0)
    run_all_turns(drop_intake)  # folders that are there now would stay
    (spool.root / "inbox" / "x" / "y").mkdir(parents=True)
    (spool.root / "done" / "x" / "y").mkdir(parents=True)

    result = drop_intake.run_turn("scan")

    assert result.scan.has_folders
    run_all_turns(drop_intake)
    assert spool.folders_in("inbox") == folders


def test_on_a_network_mount_the_servers_clock_is_used(spool: Spool) -> None:
    """The server's clock is an hour slow: by the local clock, its new files would be an hour old."""
    spool.put(b"inbox/a")
    sent = FakePublisher()
    waits = WaitTimes(settle_seconds=5.0, unsure_seconds=5.0, empty_seconds=5.0)
    drop_intake = Intake(make_intake_deps(SlowClockDisk(), FakeLeases(), sent), spool.inbox(), waits, network=True)

    assert drop_intake.run_turn("scan").claimed == 0


def _not_permitted(name: bytes) -> None:
    if name == b"b":
        raise PermissionError(errno.EACCES, "not permitted")


def _raise_error(code: int) -> Callable[[bytes], None]:
    def fail(_name: bytes) -> None:
        raise OSError(code, "inbox-wide error")

    return fail


class SlowClockDisk(Disk):
    def stat(self, at: Fd, name: bytes) -> Stat:
        return _shift_times(super().stat(at, name))

    def fstat(self, fd: Fd) -> Stat:
        return _shift_times(super().fstat(fd))


def _shift_times(stat: Stat) -> Stat:
    hour_ns = 3600 * 10**9
    return stat._replace(ctime_ns=stat.ctime_ns - hour_ns, mtime_ns=stat.mtime_ns - hour_ns)


def test_a_flood_of_files_without_permission_is_a_few_lines_that_count_the_others(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_files, "DENIED_MAX", 10)  # the others are tried again at each scan
    for number in range(60):
        spool.put(b"inbox/%d" % number)

    def deny(_name: bytes) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    drop_intake = intake(spool, FakeLeases(), FakePublisher(), MovingDisk(deny))
    with capture_logs() as lines:
        for _ in range(3):
            run_all_turns(drop_intake)
    with capture_logs() as later_lines:
        drop_intake._ready_files._denied_lines_reset_at = 0.0  # noqa: SLF001 - a minute later
        run_all_turns(drop_intake)

    assert [line["event"] for line in lines] == ["file_denied"] * ready_files.DENIED_LINES_MAX
    assert later_lines[0]["others"] >= 60 + 50 + 50 - ready_files.DENIED_LINES_MAX


def test_a_flood_of_refused_entries_leaves_other_inboxes_their_turn(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(intake_module, "REFUSED_PER_PARCEL", 10)
    for number in range(35):
        (spool.root / "inbox" / str(number)).symlink_to("/etc/passwd")
    drop_intake = intake(spool, FakeLeases(), FakePublisher())

    turns = [drop_intake.run_turn("scan") for _ in range(4)]

    assert [turn.refused for turn in turns] == [10, 10, 10, 5]
    assert [turn.has_more for turn in turns] == [True, True, True, False]
