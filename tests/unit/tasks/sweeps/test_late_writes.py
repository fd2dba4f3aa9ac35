"""A filed file that a program wrote to unseen is handed out again by the next sweep."""

import errno
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.disk.spools import Spool
from support.parts import fake_context
from support.parts.fakes import FakeChanges, FakeLeases, FakePublisher

from inboxd.broker.changes import LOOK_SECONDS
from inboxd.fs.mounts import Mount
from inboxd.fs.syscalls import Disk, Fd, Stat, WriterCheck
from inboxd.logs import events
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_to_wire
from inboxd.tasks.outcomes import apply
from inboxd.tasks.outcomes.callbacks import succeeded
from inboxd.tasks.process_state.context import WorkerContext
from inboxd.tasks.sweeps import late_writes
from inboxd.tasks.sweeps.late_writes import hand_out_late_writes


class LeaselessDisk(Disk):
    """A disk without kernel leases, as for a service without CAP_LEASE."""

    def check_writers(self, _fd: Fd) -> WriterCheck:
        return WriterCheck.UNKNOWN


class Filed:
    """An inbox from which a file was dropped, handled and filed."""

    def __init__(self, root: Path, disk: Disk | None = None, **rules: object) -> None:
        self.spool, self.leases, self.sent, self.changes = Spool.make(root), FakeLeases(), FakePublisher(), FakeChanges()
        self.rules = rules
        self.disk: Disk | None = None
        self.intake = fake_context.intake(self.spool, self.leases, self.sent, disk or LeaselessDisk(), **rules)
        self.drop(b"x/a.txt", b"first")

    def drop(self, path: bytes, content: bytes) -> None:
        self.spool.put(b"inbox/" + path, content)
        self.handle()

    def handle(self) -> None:
        """Claim, handle and file what is in inbox/."""
        fake_context.run_all_turns(self.intake)
        parcel = self.sent.parcels[-1]
        files = tuple(FileOutcome(part.filename, Verdict.DONE, version=part.version) for part in parcel.files)
        succeeded(self.context(), outcome_to_wire(Outcome(parcel.id, "drop", 1, files, parcel.unreadable)))

    def context(self) -> WorkerContext:
        inbox = self.spool.inbox(**self.rules)
        return fake_context.make_worker_context(inbox, self.leases, self.sent, self.disk, changes=self.changes)

    def sweep(self) -> list[str]:
        """Sweep, and return the events of the log."""
        with capture_logs() as lines, self.spool.folders() as folders:
            hand_out_late_writes(self.context(), self.spool.inbox(**self.rules), folders)
        return [line["event"] for line in lines]

    def append(self, path: bytes = b"done/x/a.txt") -> None:
        with self.spool.where(path).open("ab") as file:
            file.write(b" and more")


def test_a_file_that_is_written_to_in_done_is_handed_out_again(tmp_path: Path) -> None:
    filed = Filed(tmp_path / "drop")
    filed.append()

    assert filed.sweep() == [events.FILE_CHANGED, events.FILE_RELEASED]
    assert filed.spool.files() == {b"inbox/x/a.txt": b"first and more"}

    filed.handle()
    assert filed.spool.files() == {b"done/x/a.txt": b"first and more"}
    assert filed.sweep() == []


def test_it_goes_back_under_the_name_that_it_was_dropped_by(tmp_path: Path) -> None:
    filed = Filed(tmp_path / "drop")
    filed.drop(b"x/a.txt", b"second")
    filed.append(b"done/x/a (2).txt")

    filed.sweep()

    assert filed.spool.files() == {b"done/x/a.txt": b"first", b"inbox/x/a.txt": b"second and more"}


def test_an_unchanged_file_stays_and_is_forgotten_after_the_last_look(tmp_path: Path) -> None:
    filed = Filed(tmp_path / "drop")

    for _ in LOOK_SECONDS:
        assert filed.sweep() == []
    assert filed.changes.files == []
    assert filed.spool.files() == {b"done/x/a.txt": b"first"}


def test_a_file_that_is_written_to_too_often_fails(tmp_path: Path) -> None:
    filed = Filed(tmp_path / "drop", changes_max=1)
    filed.append()
    filed.sweep()
    filed.handle()
    filed.append()

    assert filed.sweep() == [events.FILE_CHANGED, events.FILE_FAILED]
    assert filed.spool.failed_files() == {b"x/a.txt": b"first and more and more"}


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_is_no_longer_in_done_is_forgotten(tmp_path: Path, how: str) -> None:
    filed = Filed(tmp_path / "drop")
    place = filed.spool.where(b"done/x/a.txt")
    if how == "replaced":
        place.with_name("other").write_bytes(b"a person's own file")
        place.with_name("other").rename(place)
    else:
        place.unlink()

    before = filed.spool.files()

    assert filed.sweep() == []
    assert filed.spool.files() == before
    assert filed.changes.files == []


def test_a_permission_that_is_changed_in_done_is_no_write(tmp_path: Path) -> None:
    filed = Filed(tmp_path / "drop")
    filed.spool.where(b"done/x/a.txt").chmod(0o600)

    assert filed.sweep() == []
    assert filed.spool.files() == {b"done/x/a.txt": b"first"}


@pytest.mark.parametrize("rules", [{}, {"ignore_changes": True}])
def test_a_file_without_writers_is_not_looked_at_again_nor_any_where_changes_are_ignored(
    tmp_path: Path, rules: dict[str, object]
) -> None:
    filed = Filed(tmp_path / "drop", None if rules else Disk(), **rules)

    assert filed.changes.files == []


def test_each_file_of_a_network_mount_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "foreign_mount", lambda _disk, _root: object())

    filed = Filed(tmp_path / "drop", Disk())

    assert [file.filed for file in filed.changes.files] == [b"x/a.txt"]


def test_another_file_that_got_name_and_inode_of_an_earlier_one_stays(tmp_path: Path) -> None:
    filed = Filed(tmp_path / "drop")
    (first,) = filed.changes.files
    filed.spool.where(b"done/x/a.txt").unlink()
    filed.drop(b"x/a.txt", b"the second")
    (second,) = filed.changes.files[1:]
    filed.changes.files[0] = first._replace(ino=second.ino)

    assert filed.sweep() == []
    assert filed.spool.files() == {b"done/x/a.txt": b"the second"}


class DeniedDisk(LeaselessDisk):
    """A disk on which one folder of done/ can't be entered, or none of its entries moved."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation

    def stat(self, folder: Fd, name: bytes) -> Stat:
        if self.operation == "stat" and name == b"denied.txt":
            raise PermissionError(errno.EACCES, "Permission denied")
        return super().stat(folder, name)

    def rename(self, src_at: Fd, src: bytes, dst_at: Fd, dst: bytes) -> None:
        if self.operation == "rename" and src == b"denied.txt":
            raise PermissionError(errno.EACCES, "Permission denied")
        super().rename(src_at, src, dst_at, dst)


@pytest.mark.parametrize("operation", ["stat", "rename"])
def test_a_file_that_can_not_be_reached_keeps_no_other_from_its_look(tmp_path: Path, operation: str) -> None:
    filed = Filed(tmp_path / "drop")
    filed.drop(b"denied.txt", b"first")
    filed.drop(b"z.txt", b"first")
    for name in (b"x/a.txt", b"denied.txt", b"z.txt"):
        filed.append(b"done/" + name)
    filed.disk = DeniedDisk(operation)

    seen = [event for _ in range(4) for event in filed.sweep()]

    assert seen.count(events.FILE_DENIED) == len(LOOK_SECONDS)
    assert seen.count(events.FILE_RELEASED) == 2
    assert {name for name in filed.spool.files() if name.startswith(b"done")} == {b"done/denied.txt"}
    assert filed.changes.counts["drop", b"denied.txt"] == 0
    assert filed.changes.files == []


def test_files_are_watched_before_they_are_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filed = Filed(tmp_path / "drop")
    filed.changes.files.clear()

    def die(*_arguments: object, **_options: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(apply, "move_to_done", die)
    with pytest.raises(KeyboardInterrupt):
        filed.drop(b"b.txt", b"b")

    assert [file.filed for file in filed.changes.files] == [b"b.txt"]
    assert filed.sweep() == []
    assert filed.changes.files == []


@pytest.mark.parametrize("kind", ["folder", "link", "another user's file"])
def test_what_has_taken_a_files_name_and_inode_is_left_alone(tmp_path: Path, kind: str) -> None:
    filed = Filed(tmp_path / "drop")
    place = filed.spool.where(b"done/x/a.txt")
    place.unlink()
    match kind:
        case "folder":
            place.mkdir()
        case "link":
            place.symlink_to("elsewhere")
        case _:
            place.write_bytes(b"own")
    filed.changes.files = [
        file._replace(ino=place.lstat().st_ino, uid=file.uid + (kind == "another user's file")) for file in filed.changes.files
    ]

    assert filed.sweep() == []
    assert place.is_symlink() or place.exists()


def test_on_fuse_the_inode_number_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filed = Filed(tmp_path / "drop")
    filed.append()
    filed.changes.files = [file._replace(ino=file.ino + 1) for file in filed.changes.files]
    mount = Mount(1, "fuse.sshfs", "/")
    monkeypatch.setattr(late_writes, "find_mount", lambda *_: mount)

    assert filed.sweep() == [events.FILE_CHANGED, events.FILE_RELEASED]
