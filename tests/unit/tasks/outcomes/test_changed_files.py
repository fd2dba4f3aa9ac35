"""A file that was changed after it was packed is handed out again; what a handler leaves in claimed/ is filed unhandled."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery.states import FAILURE
from structlog.testing import capture_logs
from support.disk.disks import RefusingDisk
from support.disk.spools import Spool
from support.parts import fake_context
from support.parts.fakes import FakeChanges, FakeLeases, FakePublisher

from inboxd.intake.packing import Packed, build_parcel, dispose_of_unpacked
from inboxd.logs import events
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, lone_file_to_bytes, outcome_to_wire
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.error_note import parse_note
from inboxd.spool.failure import Failure, FailureKind
from inboxd.spool.requeue import list_failed_files
from inboxd.tasks.outcomes.callbacks import failed, succeeded
from inboxd.tasks.process_state.context import WorkerContext


class Claimed:
    """An inbox whose files were claimed and packed by a real intake."""

    def __init__(self, root: Path, files: dict[bytes, bytes], **rules: object) -> None:
        self.spool, self.leases, self.sent = Spool.make(root), FakeLeases(paces={"drop": 1e-4}), FakePublisher()
        self.changes = FakeChanges()
        self.rules = rules
        self.drop_intake = fake_context.intake(self.spool, self.leases, self.sent, **rules)
        self.spool.put(b"inbox/first", b"the first parcel has one file, after which the speed is known")
        shutil.rmtree(self.spool.root / "claimed" / self.claim().id)
        self.sent.parcels.clear()
        for path, content in files.items():
            self.spool.put(b"inbox/" + path, content)
        assert len(self.claim().files) == len(files)

    def claim(self) -> Parcel:
        """Claim what is in inbox/, and return its parcel."""
        fake_context.run_all_turns(self.drop_intake)
        self.parcel: Parcel = self.sent.parcels[-1]
        return self.parcel

    @property
    def context(self) -> WorkerContext:
        return fake_context.make_worker_context(self.spool.inbox(**self.rules), self.leases, self.sent, changes=self.changes)

    def place(self, name: str) -> Path:
        return self.spool.root / "claimed" / self.parcel.id / name

    def outcome(self, verdict: Verdict = Verdict.DONE) -> dict[str, Any]:
        files = tuple(FileOutcome(part.filename, verdict, "a reason", None, part.version) for part in self.parcel.files)
        return outcome_to_wire(Outcome(self.parcel.id, "drop", 1, files, self.parcel.unreadable))


@pytest.fixture
def claimed(tmp_path: Path) -> Claimed:
    return Claimed(tmp_path / "drop", {b"a.txt": b"first"})


def _append(place: Path) -> None:
    with place.open("ab") as file:
        file.write(b" and more")


def _rewrite_with_old_times(place: Path) -> None:
    before = place.stat()
    place.write_bytes(b"FIRST")
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(place: Path) -> None:
    place.with_name(".other").write_bytes(b"other")
    place.with_name(".other").rename(place)


@pytest.mark.parametrize("change", [_append, _rewrite_with_old_times, _replace])
@pytest.mark.parametrize("verdict", [Verdict.DONE, Verdict.REJECTED])
def test_a_changed_file_is_handed_out_again_as_new(claimed: Claimed, change: Callable[[Path], None], verdict: Verdict) -> None:
    change(claimed.place("a.txt"))
    content = claimed.place("a.txt").read_bytes()

    with capture_logs() as lines:
        succeeded(claimed.context, claimed.outcome(verdict))

    assert claimed.spool.files() == {b"inbox/a.txt": content}
    assert [line["event"] for line in lines] == [events.FILE_CHANGED, events.FILE_RELEASED]
    assert claimed.claim().files[0].content_length == len(content)
    succeeded(claimed.context, claimed.outcome())
    assert claimed.spool.files() == {b"done/a.txt": content}


def test_a_file_that_is_open_for_writing_when_it_should_be_filed_is_handed_out_again(claimed: Claimed) -> None:
    with claimed.place("a.txt").open("ab") as writer:
        succeeded(claimed.context, claimed.outcome())
        assert claimed.spool.files() == {b"inbox/a.txt": b"first"}
        fake_context.run_all_turns(claimed.drop_intake)
        assert claimed.spool.files() == {b"inbox/a.txt": b"first"}
        writer.write(b" and more")

    assert claimed.claim().files[0].content_length == len(b"first and more")
    succeeded(claimed.context, claimed.outcome())
    assert claimed.spool.files() == {b"done/a.txt": b"first and more"}


def test_an_unchanged_file_is_filed(claimed: Claimed) -> None:
    succeeded(claimed.context, claimed.outcome())

    assert claimed.spool.files() == {b"done/a.txt": b"first"}


def test_of_several_files_only_the_changed_one_is_handed_out_again(tmp_path: Path) -> None:
    claimed = Claimed(tmp_path / "drop", {b"a.txt": b"a", b"b.txt": b"b", b"c.txt": b"c"})
    _append(claimed.place("b.txt"))

    succeeded(claimed.context, claimed.outcome())

    assert claimed.spool.files() == {b"done/a.txt": b"a", b"inbox/b.txt": b"b and more", b"done/c.txt": b"c"}


def test_a_file_that_changes_too_often_fails_with_the_reason(tmp_path: Path) -> None:
    claimed = Claimed(tmp_path / "drop", {b"a.txt": b"first"}, changes_max=2)
    for _ in range(3):
        _append(claimed.place("a.txt"))
        succeeded(claimed.context, claimed.outcome())
        fake_context.run_all_turns(claimed.drop_intake)
        claimed.parcel = claimed.sent.parcels[-1]

    assert claimed.spool.failed_files().keys() == {b"a.txt"}
    note = parse_note(claimed.spool.notes()[b"a.txt.error.txt"])
    assert note is not None
    assert (note.kind, note.attempts) == ("changed", 3)
    assert "was changed 3 times while it was processed" in note.reason
    assert b"in progress, 3 times." in claimed.spool.notes()[b"a.txt.error.txt"]


def test_an_inbox_whose_handler_writes_to_its_file_can_ignore_changes(tmp_path: Path) -> None:
    claimed = Claimed(tmp_path / "drop", {b"a.txt": b"first"}, ignore_changes=True)
    _append(claimed.place("a.txt"))

    succeeded(claimed.context, claimed.outcome())

    assert claimed.spool.files() == {b"done/a.txt": b"first and more"}


def test_on_a_network_mount_only_size_and_mtime_count(claimed: Claimed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may learn late that its own rename has changed a file's ctime."""
    monkeypatch.setattr("inboxd.fs.mounts.LOCAL_FILE_SYSTEMS", frozenset())
    claimed.place("a.txt").chmod(0o640)

    succeeded(claimed.context, claimed.outcome())

    assert claimed.spool.files() == {b"done/a.txt": b"first"}


def test_a_changed_lone_file_whose_handler_failed_is_handed_out_again(claimed: Claimed) -> None:
    """What was handled was not the whole file: its failure says nothing."""
    (part,) = claimed.parcel.files
    claimed.leases.start(claimed.parcel.id, "me", 60.0, lone_file=lone_file_to_bytes(part.filename, part.version))
    claimed.sent.results[claimed.parcel.id] = {
        "status": FAILURE,
        "result": {"exc_type": "HandlerFailed", "exc_message": ["truncated"]},
    }
    _append(claimed.place("a.txt"))

    failed(claimed.context, "drop", claimed.parcel.id)

    assert claimed.spool.files() == {b"inbox/a.txt": b"first and more"}


# outputs


def test_an_output_is_filed_beside_its_file_unhandled(claimed: Claimed) -> None:
    claimed.place("a.txt.ocr.txt").write_bytes(b"output")

    with capture_logs() as lines:
        succeeded(claimed.context, claimed.outcome())

    assert claimed.spool.files() == {b"done/a.txt": b"first", b"done/a.txt.ocr.txt": b"output"}
    output = next(line for line in lines if line["event"] == events.OUTPUT_FILED)
    assert (output["file"], output["beside"], output["filed"]) == (b"a.txt.ocr.txt", b"a.txt", b"a.txt.ocr.txt")
    assert list((claimed.spool.root / "claimed").iterdir()) == []


def test_an_output_of_a_file_that_failed_is_filed_in_failed_and_not_retried_with_the_others(claimed: Claimed) -> None:
    (part,) = claimed.parcel.files
    claimed.leases.start(claimed.parcel.id, "me", 60.0, lone_file=lone_file_to_bytes(part.filename, part.version))
    claimed.sent.results[claimed.parcel.id] = {
        "status": FAILURE,
        "result": {"exc_type": "HandlerFailed", "exc_message": ["no"]},
    }
    claimed.place("a.txt.part1").write_bytes(b"output")

    failed(claimed.context, "drop", claimed.parcel.id)

    assert claimed.spool.failed_files() == {b"a.txt": b"first", b"a.txt.part1": b"output"}
    note = parse_note(claimed.spool.notes()[b"a.txt.part1.error.txt"])
    assert note is not None
    assert note.is_output
    assert "handler of a.txt left it behind" in note.reason
    with claimed.spool.folders() as folders:
        assert [failure.path for failure in list_failed_files(claimed.context.disk, folders)] == [b"a.txt"]
    assert claimed.sent.parcels == [claimed.parcel]


def test_what_a_handler_unpacked_before_it_removed_its_file_and_failed_is_not_handled(claimed: Claimed) -> None:
    (part,) = claimed.parcel.files
    claimed.leases.start(claimed.parcel.id, "me", 60.0, lone_file=lone_file_to_bytes(part.filename, part.version))
    claimed.sent.results[claimed.parcel.id] = {
        "status": FAILURE,
        "result": {"exc_type": "HandlerFailed", "exc_message": ["no"]},
    }
    claimed.place("page1.txt").write_bytes(b"1")
    claimed.place("page2.txt").write_bytes(b"2")
    claimed.place("a.txt").unlink()

    failed(claimed.context, "drop", claimed.parcel.id)

    assert claimed.spool.failed_files() == {b"page1.txt": b"1", b"page2.txt": b"2"}
    assert claimed.sent.parcels == [claimed.parcel]


def test_a_refused_file_that_can_not_be_moved_is_named_in_the_message_and_is_no_output(tmp_path: Path) -> None:
    spool = Spool.make(tmp_path / "drop")
    parcel = spool.claimed(b"good", b"refused")
    with spool.folders() as folders:
        packed = Packed(refused=[(b"refused", Failure(FailureKind.TOO_LARGE, "a reason"))])
        packed.parts.append(FilePart(b"good", "text/plain", 7, {"id": "1"}, b"content"))
        disk = RefusingDisk("rename", b"refused", errno.EIO)

        assert dispose_of_unpacked(disk, folders, spool.inbox(), parcel, packed) == 0

    assert build_parcel(packed, parcel, spool.inbox(), "here").unreadable == (b"refused",)


def test_outputs_of_several_files_go_where_their_files_go(tmp_path: Path) -> None:
    claimed = Claimed(tmp_path / "drop", {b"good.txt": b"good", b"bad.txt": b"bad"})
    for name in ("good.txt.json", "bad.txt.json"):
        claimed.place(name).write_bytes(b"{}")
    wire = claimed.outcome()
    for file in wire["files"]:
        file["verdict"] = "rejected" if file["filename"] == b"bad.txt" else "done"

    succeeded(claimed.context, wire)

    assert claimed.spool.files("done").keys() == {b"good.txt", b"good.txt.json"}
    assert claimed.spool.failed_files().keys() == {b"bad.txt", b"bad.txt.json"}


def test_an_unreadable_file_of_the_parcel_is_no_output(tmp_path: Path) -> None:
    claimed = Claimed(tmp_path / "drop", {b"a.txt": b"a", b"b.txt": b"b"})
    wire = claimed.outcome()
    wire["files"] = [file for file in wire["files"] if file["filename"] == b"a.txt"]
    wire["unreadable"] = [b"b.txt"]

    succeeded(claimed.context, wire)

    assert claimed.spool.files() == {b"done/a.txt": b"a", b"claimed/%s/b.txt" % claimed.parcel.id.encode(): b"b"}


# claims by a copy


@pytest.mark.parametrize("claim", ["rename", "copy"])
def test_a_file_with_a_second_link_gets_an_inode_of_its_own(tmp_path: Path, claim: str) -> None:
    spool = Spool.make(tmp_path / "drop")
    place = spool.put(b"inbox/a.txt", b"first")
    (tmp_path / "backdoor").hardlink_to(place)
    leases, sent = FakeLeases(), FakePublisher()
    fake_context.run_all_turns(fake_context.intake(spool, leases, sent, claim=claim))
    (parcel,) = sent.parcels
    claimed_file = spool.root / "claimed" / parcel.id / "a.txt"

    (tmp_path / "backdoor").write_bytes(b"written by another name")

    assert claimed_file.read_bytes() == b"first"
    assert claimed_file.stat().st_nlink == 1
    assert spool.files("inbox") == {}


def test_a_claim_by_copy_leaves_open_descriptors_and_setuid_bits_outside(tmp_path: Path) -> None:
    spool = Spool.make(tmp_path / "drop")
    place = spool.put(b"inbox/a.txt", b"first")
    place.chmod(0o4755)
    with place.open("rb") as reader:
        leases, sent = FakeLeases(), FakePublisher()
        fake_context.run_all_turns(fake_context.intake(spool, leases, sent, claim="copy"))
        (parcel,) = sent.parcels
        claimed_file = spool.root / "claimed" / parcel.id / "a.txt"
        with open(f"/proc/self/fd/{reader.fileno()}", "wb") as writer:  # noqa: PTH123
            writer.write(b"reopened for writing")

    assert claimed_file.read_bytes() == b"first"
    assert claimed_file.stat().st_mode & 0o7777 == 0o755
    assert spool.files("inbox") == {}


def test_a_file_that_is_linked_after_the_scan_waits_for_the_next_one(tmp_path: Path) -> None:
    spool = Spool.make(tmp_path / "drop")
    place = spool.put(b"inbox/a.txt", b"first")
    leases, sent = FakeLeases(), FakePublisher()
    drop_intake = fake_context.intake(spool, leases, sent)
    queue, links = leases.queue, [tmp_path / "backdoor"]

    def link_and_queue(parcel: str, inbox: str, seconds: float) -> float | None:
        while links:
            links.pop().hardlink_to(place)
        return queue(parcel, inbox, seconds)

    leases.queue = link_and_queue  # type: ignore[method-assign, assignment]

    fake_context.run_all_turns(drop_intake)
    assert spool.files("inbox") == {b"a.txt": b"first"}
    fake_context.run_all_turns(drop_intake)

    (parcel,) = sent.parcels
    assert (spool.root / "claimed" / parcel.id / "a.txt").stat().st_nlink == 1
