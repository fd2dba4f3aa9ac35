"""Taking files in, in trouble: what can't be accepted, files that change, a disk or a broker that is away."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.disk.disks import MovingDisk, RacingDisk, RefusingDisk
from support.disk.spools import Spool
from support.parts.fake_context import intake, means, take_all
from support.parts.fakes import FakeLeases, Sent

from inboxd.config.settings import Inbox
from inboxd.errors import BrokerUnavailable, FolderUnavailable
from inboxd.fs.syscalls import Disk, Fd, Stat
from inboxd.intake.intake import Intake
from inboxd.intake.readiness import WaitTimes
from inboxd.logs import events
from inboxd.messaging.payload import Parcel


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


class Away(Sent):
    """A broker that does not answer, until it is told to."""

    away = True

    def send(self, parcel: Parcel, inbox: Inbox) -> None:
        if self.away:
            raise BrokerUnavailable("no answer")
        super().send(parcel, inbox)


def drop(spool: Spool, count: int, size: int = 1) -> None:
    for number in range(count):
        spool.put(b"inbox/%04d" % number, b"%d" % (number % 10) * size)


def test_what_can_not_be_accepted_is_in_failed_with_its_reason(spool: Spool) -> None:
    spool.put(b"inbox/large", b"x" * 101)
    spool.where(b"inbox/link").symlink_to("/etc/passwd")
    os.mkfifo(spool.where(b"inbox/pipe"))
    spool.put(b"inbox/1/2/deep")
    sent = Sent()

    taken = intake(spool, FakeLeases(), sent, size_bytes_max=100, depth_max=1).run_turn("event")

    assert taken.refused == 4
    assert sent.parcels == []
    notes = {path.removesuffix(b".error.txt"): text for path, text in spool.notes().items()}
    assert notes.keys() == {b"large", b"link", b"pipe", b"1/2"}
    assert b"101 bytes" in notes[b"large"]
    assert b"symbolic link" in notes[b"link"]
    assert b"named pipe" in notes[b"pipe"]
    assert b"deep" in notes[b"1/2"]
    assert all(b"It was not passed to the handler." in text for text in notes.values())
    assert spool.files("inbox") == {}
    assert list((spool.root / "claimed").iterdir()) == []


def test_a_file_that_is_written_to_again_is_given_back(spool: Spool) -> None:
    place = spool.put(b"inbox/a")
    sent = Sent()
    writers = []

    def reopen(_name: bytes) -> None:
        if not writers:
            writers.append(place.open("ab"))

    taken = intake(spool, FakeLeases(), sent, MovingDisk(reopen)).run_turn("event")

    writers[0].close()
    assert taken.claimed == 0
    assert sent.parcels == []
    assert spool.files() == {b"inbox/a": b"content"}


def test_a_file_that_was_replaced_since_it_was_found_complete_is_given_back(spool: Spool) -> None:
    place = spool.put(b"inbox/a", b"old")
    sent = Sent()

    def replace(_name: bytes) -> None:
        if place.exists():
            place.write_bytes(b"new and longer")

    intake(spool, FakeLeases(), sent, MovingDisk(replace)).run_turn("event")

    assert sent.parcels == []
    assert spool.files() == {b"inbox/a": b"new and longer"}


def test_a_file_that_the_system_keeps_from_us_is_told_once_and_stays(spool: Spool) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/x/b")
    sent = Sent()
    way_in = intake(spool, FakeLeases(), sent, MovingDisk(_not_permitted))

    with capture_logs() as lines:
        for _ in range(3):
            way_in.run_turn("scan")

    told = [line for line in lines if line["event"] == events.FILE_DENIED]
    assert [(line["file"], "remedy" in line) for line in told] == [(b"x/b", True)]
    assert sent.paths() == [b"a"]
    assert spool.files("inbox") == {b"x/b": b"content"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=errno.errorcode.get)
def test_a_disk_in_trouble_ends_the_turn_and_every_file_stays_where_the_next_one_finds_it(code: int, spool: Spool) -> None:
    spool.put(b"inbox/a")
    leases, sent = FakeLeases(), Sent()

    with pytest.raises(FolderUnavailable, match="drop"):
        intake(spool, leases, sent, MovingDisk(_trouble(code))).run_turn("event")

    assert spool.files() == {b"inbox/a": b"content"}
    take_all(intake(spool, leases, sent))
    assert sent.paths() == [b"a"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_a_file_that_can_not_be_moved_does_not_stop_its_inbox(code: int, spool: Spool) -> None:
    spool.put(b"inbox/a")
    spool.put(b"inbox/b")
    leases, sent = FakeLeases(), Sent()

    intake(spool, leases, sent, RefusingDisk("rename_over", b"a", code)).run_turn("event")

    assert spool.files("inbox") == {b"a": b"content"}
    assert sent.paths() == [b"b"]


@pytest.mark.parametrize("missing", ["inbox", "claimed", "done", "failed"])
def test_a_folder_that_is_away_is_unknown_and_its_scan_begins_anew(missing: str, spool: Spool) -> None:
    sent = Sent()
    way_in = intake(spool, FakeLeases(), sent)
    (spool.root / missing).rmdir()
    with pytest.raises(FolderUnavailable, match=missing):
        way_in.run_turn("scan")

    (spool.root / missing).mkdir()
    spool.put(b"inbox/a")

    assert way_in.is_between_scans
    assert way_in.run_turn("scan").claimed == 1


def test_what_an_absent_broker_did_not_take_is_sent_first_and_under_the_same_name(spool: Spool) -> None:
    drop(spool, 2)
    sent = Away()
    way_in = intake(spool, FakeLeases(), sent)
    with pytest.raises(BrokerUnavailable):
        way_in.run_turn("event")
    (claimed,) = (spool.root / "claimed").iterdir()

    sent.away = False
    way_in.run_turn("start")

    assert sent.parcels[0].id == claimed.name
    assert sorted(sent.paths()) == [b"0000", b"0001"]


def test_while_the_broker_is_away_nothing_more_is_claimed(spool: Spool) -> None:
    drop(spool, 5)
    way_in = intake(spool, FakeLeases(), Away())

    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            way_in.run_turn("event")

    assert len(spool.files("claimed")) == 1
    assert len(spool.files("inbox")) == 4


def test_a_claim_that_came_to_nothing_leaves_no_lease_and_no_parcel(spool: Spool) -> None:
    place = spool.put(b"inbox/a")
    leases, sent = FakeLeases(), Sent()

    intake(spool, leases, sent, RacingDisk(Disk(), place.unlink, only="mkdir")).run_turn("event")

    assert leases.records == {}
    assert list((spool.root / "claimed").iterdir()) == []


@pytest.mark.parametrize(("keep", "folders"), [("remove", set()), ("keep", {b"x", b"x/y"})])
def test_sub_folders_that_we_have_emptied_are_removed_unless_the_settings_keep_them(
    keep: str, folders: set[bytes], spool: Spool
) -> None:
    (spool.root / "inbox" / "x" / "y").mkdir(parents=True)
    (spool.root / "done" / "x" / "y").mkdir(parents=True)

    taken = intake(spool, FakeLeases(), Sent(), empty_folders=keep, empty_folder_seconds=0.0).run_turn("scan")

    assert taken.scan.has_folders
    assert spool.folders_in("inbox") - folders in (set(), {b"x"})  # one level goes with each pass
    take_all(intake(spool, FakeLeases(), Sent(), empty_folders=keep, empty_folder_seconds=0.0))
    assert spool.folders_in("inbox") == folders


def test_on_a_network_mount_time_is_taken_from_its_own_clock(spool: Spool) -> None:
    """The server's clock is an hour behind: by ours, everything there would look old enough."""
    spool.put(b"inbox/a")
    sent = Sent()
    patience = WaitTimes(settle_seconds=5.0, unsure_seconds=5.0, empty_seconds=5.0)
    way_in = Intake(means(_HourBehind(), FakeLeases(), sent), spool.inbox(), patience, network=True)

    assert way_in.run_turn("scan").claimed == 0


def _not_permitted(name: bytes) -> None:
    if name == b"b":
        raise PermissionError(errno.EACCES, "not permitted")


def _trouble(code: int) -> Callable[[bytes], None]:
    def fail(_name: bytes) -> None:
        raise OSError(code, "in trouble")

    return fail


class _HourBehind(Disk):
    def stat(self, at: Fd, name: bytes) -> Stat:
        return _behind(super().stat(at, name))

    def fstat(self, fd: Fd) -> Stat:
        return _behind(super().fstat(fd))


def _behind(look: Stat) -> Stat:
    hour = 3600 * 10**9
    return look._replace(ctime_ns=look.ctime_ns - hour, mtime_ns=look.mtime_ns - hour)
