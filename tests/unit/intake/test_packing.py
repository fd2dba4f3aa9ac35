"""Packing a claimed parcel: files sent inline, files sent by reference, refused and busy files."""

import contextlib
import errno
import hashlib
import os
import pwd
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import pytest
from support.descriptors import open_descriptors
from support.disk.disks import LinkingDisk, RacingDisk, RefusingDisk
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk, Fd, FileKind, Stat, closing
from inboxd.intake.folder_clock import file_system_time, folder_clock_now
from inboxd.intake.inspection import file_version
from inboxd.intake.packing import Packed, build_parcel, file_id, pack
from inboxd.messaging.payload import parcel_from_wire, parcel_to_wire
from inboxd.spool.claims import claim, split_off
from inboxd.spool.failure import Failure, FailureKind
from inboxd.spool.layout import created_at, new_parcel_id

GIB = 1024**3
NOBODY = 65534
OLD = 1_000_000_000


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def pack_all(spool: Spool, parcel: str, *paths: bytes, disk: Disk | None = None, **rules: object) -> Packed:
    with spool.folders() as folders:
        return pack(disk or Disk(), folders, spool.inbox(**rules), parcel, paths)


def place(spool: Spool, parcel: str, path: bytes) -> Path:
    return spool.where(b"claimed/%s/%s" % (parcel.encode(), path))


def get_stat(spool: Spool, path: bytes) -> Stat:
    folder, _, name = path.rpartition(b"/")
    with closing(Disk(), Disk().open_root(PurePath(spool.where(folder)))) as at:
        return Disk().stat(at, name)


def only_list(packed: Packed) -> str:
    """Return the name of the only list that is not empty."""
    (name,) = [name for name in ("parts", "refused", "busy") if getattr(packed, name)]
    return name


class DeviceDisk(Disk):
    """A disk that reports every entry as a device, because only root can make one."""

    def stat(self, at: Fd, name: bytes) -> Stat:
        return super().stat(at, name)._replace(kind=FileKind.DEVICE)


# accepted files


def test_a_small_file_is_sent_inline_with_its_headers(spool: Spool) -> None:
    parcel = spool.claimed(b"x/a.pdf", data=b"content")
    os.utime(place(spool, parcel, b"x/a.pdf"), (1, OLD))

    (part,) = pack_all(spool, parcel, b"x/a.pdf").parts

    assert (part.filename, part.content_type) == (b"x/a.pdf", "application/pdf")
    assert (part.content_length, part.stream) == (7, b"content")
    assert part.headers["sha256"] == hashlib.sha256(b"content").hexdigest()
    assert (part.headers["mtime"], part.headers["claimed-at"]) == (OLD, created_at(parcel))


def test_the_message_says_to_whom_a_file_belongs(spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    (part,) = pack_all(spool, parcel, b"a").parts

    assert part.headers["uid"] == os.getuid()
    assert part.headers["owner"] == pwd.getpwuid(os.getuid()).pw_name


def test_the_message_does_not_say_that_a_copy_belongs_to_the_service(spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    (part,) = pack_all(spool, parcel, b"a", claim="copy").parts

    assert {"uid", "owner"}.isdisjoint(part.headers)


def test_a_larger_file_is_sent_by_reference_and_not_read(spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"x" * 65)

    (part,) = pack_all(spool, parcel, b"a").parts

    assert (part.stream, part.content_length) == (None, 65)
    assert set(part.headers) - {"owner"} == {"id", "mtime", "claimed-at", "uid"}


@pytest.mark.parametrize(("size", "is_inline"), [(0, True), (63, True), (64, True), (65, False)])
def test_files_up_to_inline_bytes_max_are_sent_inline(size: int, is_inline: bool, spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"x" * size)

    (part,) = pack_all(spool, parcel, b"a", inline_bytes_max=64).parts

    assert part.stream == (b"x" * size if is_inline else None)


def test_with_inline_bytes_max_0_only_empty_files_are_sent_inline(spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"")
    spool.put(b"claimed/%s/b" % parcel.encode(), b"x")

    parts = pack_all(spool, parcel, b"a", b"b", inline_bytes_max=0).parts

    assert [part.stream for part in parts] == [b"", None]


def test_files_that_exceed_parcel_bytes_max_are_sent_by_reference_and_smaller_ones_still_inline(spool: Spool) -> None:
    parcel = new_parcel_id()
    sizes = {b"a": 600, b"b": 600, b"c": 424, b"d": 1, b"e": 0}
    for path, size in sizes.items():
        spool.put(b"claimed/%s/%s" % (parcel.encode(), path), b"x" * size)

    parts = pack_all(spool, parcel, *sizes, inline_bytes_max=600, parcel_bytes_max=1024).parts

    assert {part.filename: part.stream is not None for part in parts} == {
        b"a": True,
        b"b": False,
        b"c": True,
        b"d": False,
        b"e": True,
    }


def test_without_inline_files_are_sent_by_reference_and_small_ones_have_a_hash(spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"hello")
    spool.put(b"claimed/%s/b" % parcel.encode(), b"x" * 65)

    with spool.folders() as folders:
        parts = pack(Disk(), folders, spool.inbox(inline_bytes_max=64), parcel, [b"a", b"b"], inline=False).parts

    assert [part.stream for part in parts] == [None, None]
    assert parts[0].headers["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert "sha256" not in parts[1].headers


def test_missing_files_are_skipped(spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    result = pack_all(spool, parcel, b"missing", b"x/missing", b"a")

    assert [part.filename for part in result.parts] == [b"a"]
    assert (result.refused, result.busy) == ([], [])


def test_an_unreadable_file_stays_in_the_parcel_and_the_others_are_packed(spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    for name in (b"b", b"c"):
        spool.put(b"claimed/%s/%s" % (parcel.encode(), name))
    disk = RefusingDisk("open_file", b"b", errno.EIO)

    packed = pack_all(spool, parcel, b"a", b"b", b"c", disk=disk)

    assert [part.filename for part in packed.parts] == [b"a", b"c"]
    assert (packed.refused, packed.busy) == ([], [])
    with pytest.raises(OSError, match="refused"):
        pack_all(spool, parcel, b"b", disk=disk)


def test_a_missing_parcel_has_no_files(spool: Spool) -> None:
    assert pack_all(spool, new_parcel_id(), b"a") == Packed()


@pytest.mark.parametrize(
    ("name", "kind"),
    [(b"a.txt", "text/plain"), (b"a", "application/octet-stream"), (b"x.pdf/a", "application/octet-stream"),
     (b"caf\xe9.png", "image/png"), (b"a.unknown-type", "application/octet-stream")],
)  # fmt: skip
def test_the_content_type_is_guessed_from_the_name(name: bytes, kind: str, spool: Spool) -> None:
    parcel = spool.claimed(name)

    (part,) = pack_all(spool, parcel, name).parts

    assert part.content_type == kind


def test_a_packed_parcel_can_be_serialized(spool: Spool) -> None:
    parcel = spool.claimed(b"caf\xe9", b"x/b")

    built = build_parcel(pack_all(spool, parcel, b"caf\xe9", b"x/b"), parcel, spool.inbox(), "here")

    assert parcel_from_wire(parcel_to_wire(built)) == built
    assert (built.id, built.inbox, built.host, built.root) == (parcel, "drop", "here", os.fsencode(spool.root))


# files that are not complete


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(b"more than that"),
        lambda file: os.truncate(file, 2),
        lambda file: file.write_bytes(b"CONTENT"),
    ],
    ids=["grows", "shrinks", "is rewritten"],
)
def test_a_file_that_changes_while_it_is_read_is_busy(change: Callable[[Path], object], spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"content")
    file = place(spool, parcel, b"a")
    os.utime(file, (OLD, OLD))

    result = pack_all(spool, parcel, b"a", disk=RacingDisk(Disk(), lambda: change(file), only="read"))

    assert only_list(result) == "busy"
    assert result.busy == [b"a"]


@pytest.mark.parametrize("size", [7, 100])
def test_a_file_that_is_open_for_writing_is_busy(size: int, spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"x" * size)

    with place(spool, parcel, b"a").open("ab"):
        result = pack_all(spool, parcel, b"a")

    assert only_list(result) == "busy"
    assert result.busy == [b"a"]


class LeasedDisk(Disk):
    """A disk on which another program holds a kernel lease on every file: open() fails with EAGAIN."""

    def open_file(self, *_: object) -> Fd:
        raise BlockingIOError(errno.EAGAIN, "a lease is held")


def test_a_file_with_a_kernel_lease_of_another_program_is_busy(spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    result = pack_all(spool, parcel, b"a", disk=LeasedDisk())

    assert only_list(result) == "busy"
    assert result.busy == [b"a"]


@pytest.mark.parametrize("size", [7, 100])
def test_a_file_with_another_version_than_expected_is_busy(size: int, spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"b", data=b"x" * size)
    file = place(spool, parcel, b"a")
    expected = {name: file_version(get_stat(spool, b"claimed/%s/%s" % (parcel.encode(), name))) for name in (b"a", b"b")}
    os.utime(file, (OLD, OLD))

    with spool.folders() as folders:
        result = pack(Disk(), folders, spool.inbox(), parcel, [b"a", b"b"], expected)

    assert ([part.filename for part in result.parts], result.busy) == ([b"b"], [b"a"])


def test_a_file_that_is_open_for_reading_is_accepted(spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    with place(spool, parcel, b"a").open("rb"):
        result = pack_all(spool, parcel, b"a")

    assert only_list(result) == "parts"


def test_a_busy_file_does_not_count_towards_parcel_bytes_max(spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"b", data=b"x" * 1024)

    with place(spool, parcel, b"a").open("ab"):
        result = pack_all(spool, parcel, b"a", b"b", inline_bytes_max=1024, parcel_bytes_max=1024)

    assert [part.stream for part in result.parts] == [b"x" * 1024]


# refused entries


def get_reason(result: Packed) -> str:
    assert only_list(result) == "refused"
    ((path, failure),) = result.refused
    assert path == b"a"
    return failure.reason


def test_a_link_is_refused_and_not_followed(spool: Spool, tmp_path: Path) -> None:
    parcel = spool.claimed(b"a")
    (tmp_path / "secret").write_bytes(b"secret")
    place(spool, parcel, b"a").unlink()
    place(spool, parcel, b"a").symlink_to(tmp_path / "secret")

    assert get_reason(pack_all(spool, parcel, b"a")) == "not a regular file but a symbolic link: drop the file itself"


def test_a_named_pipe_is_refused_without_blocking(spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    place(spool, parcel, b"a").unlink()
    os.mkfifo(place(spool, parcel, b"a"))

    assert get_reason(pack_all(spool, parcel, b"a")) == "not a regular file but a named pipe: drop the file itself"


def test_an_expected_version_does_not_bypass_the_checks(spool: Spool) -> None:
    parcel = spool.claimed(b"pipe", b"link", b"grown", b"good")
    for name in (b"pipe", b"link"):
        place(spool, parcel, name).unlink()
    os.mkfifo(place(spool, parcel, b"pipe"))
    place(spool, parcel, b"link").symlink_to("/etc/passwd")
    place(spool, parcel, b"grown").write_bytes(b"too much")

    with spool.folders() as folders:
        inbox = spool.inbox(size_bytes_max=7)
        names = [b"pipe", b"link", b"grown", b"good"]
        result = pack(Disk(), folders, inbox, parcel, names, dict.fromkeys(names, (0, 0)))

    assert result.busy == [b"good"]  # another version than expected
    assert [(path, failure.reason.partition(":")[0]) for path, failure in result.refused] == [
        (b"pipe", "not a regular file but a named pipe"),
        (b"link", "not a regular file but a symbolic link"),
        (b"grown", "the file has 8 bytes"),
    ]


def test_a_folder_is_refused(spool: Spool) -> None:
    parcel = spool.claimed(b"a/b")

    assert get_reason(pack_all(spool, parcel, b"a")) == "not a regular file but a folder: drop the file itself"


def test_a_device_is_refused(spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    reason = get_reason(pack_all(spool, parcel, b"a", disk=DeviceDisk()))

    assert reason == "not a regular file but a device: drop the file itself"


def test_a_large_sparse_file_is_refused(spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"")
    os.truncate(place(spool, parcel, b"a"), 2 * GIB)

    reason = get_reason(pack_all(spool, parcel, b"a"))

    assert reason.startswith(f"a sparse file: its size is {2 * GIB} bytes, but only ")


def test_a_whole_file_on_a_file_system_that_reports_no_blocks_is_accepted(spool: Spool) -> None:
    """Some FUSE file systems report 0 blocks for any file, and no holes."""

    class BlocklessDisk(Disk):
        def fstat(self, fd: Fd) -> Stat:
            return super().fstat(fd)._replace(size=2 * GIB, allocated=0)

        def stat(self, at: Fd, name: bytes) -> Stat:
            return super().stat(at, name)._replace(size=2 * GIB, allocated=0)

        def has_holes(self, _fd: Fd, _size: int) -> bool:
            return False

    with spool.folders() as folders:
        parcel = spool.claimed(b"large.bin")
        packed = pack(BlocklessDisk(), folders, spool.inbox(), parcel, [b"large.bin"])

    assert [part.filename for part in packed.parts] == [b"large.bin"]
    assert packed.refused == []


@pytest.mark.parametrize(("size", "target"), [(10, "parts"), (11, "refused")])
def test_a_file_above_size_bytes_max_is_refused(size: int, target: str, spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"x" * size)

    result = pack_all(spool, parcel, b"a", size_bytes_max=10)

    assert only_list(result) == target
    assert target == "parts" or get_reason(result) == "the file has 11 bytes: this inbox accepts at most 10 bytes"


def test_an_unreadable_file_is_refused(spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"b")
    place(spool, parcel, b"a").chmod(0o000)

    with spool.folders() as folders, as_unprivileged_user(spool.root / "claimed", spool.root / "claimed" / parcel):
        result = pack(Disk(), folders, spool.inbox(), parcel, [b"a", b"b"])

    assert [part.filename for part in result.parts] == [b"b"]
    reason = "no permission to read the file: its owner must make it readable for the service"
    assert result.refused == [(b"a", Failure(FailureKind.UNREADABLE, reason))]


@contextlib.contextmanager
def as_unprivileged_user(*folders: Path) -> Iterator[None]:
    """Run as a user that permissions apply to and that owns these folders; root becomes nobody meanwhile."""
    before = os.geteuid()
    if before == 0:
        for folder in folders:
            os.chown(folder, NOBODY, -1)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_refused_entry_does_not_affect_others(spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"b", b"c")
    place(spool, parcel, b"b").unlink()
    place(spool, parcel, b"b").symlink_to("/")

    result = pack_all(spool, parcel, b"a", b"b", b"c")

    assert [part.filename for part in result.parts] == [b"a", b"c"]
    assert [path for path, _ in result.refused] == [b"b"]


def test_packing_closes_all_descriptors(spool: Spool) -> None:
    parcel = spool.claimed(b"x/a", b"b")
    place(spool, parcel, b"b").unlink()
    place(spool, parcel, b"b").symlink_to("/")
    open_before = open_descriptors()

    pack_all(spool, parcel, b"x/a", b"b", b"missing", b"x/missing")

    assert open_descriptors() == open_before


# file ids


def get_id(spool: Spool, path: bytes) -> str:
    return file_id("drop", b"x/a", get_stat(spool, path))


@pytest.mark.parametrize("disk", [Disk(), LinkingDisk()], ids=["renames", "links"])
def test_a_claim_and_a_split_do_not_change_the_id(disk: Disk, spool: Spool) -> None:
    spool.put(b"inbox/x/a")
    before = get_id(spool, b"inbox/x/a")
    parcel, new_parcel = new_parcel_id(), new_parcel_id()

    with spool.folders() as folders:
        claim(disk, folders, parcel, [b"x/a"])
    (claimed,) = pack_all(spool, parcel, b"x/a").parts
    with spool.folders() as folders:
        split_off(disk, folders, parcel, b"x/a", new_parcel)
    (split,) = pack_all(spool, new_parcel, b"x/a", inline_bytes_max=0).parts

    assert claimed.headers["id"] == split.headers["id"] == before
    assert claimed.headers["claimed-at"] == created_at(parcel)


def test_another_file_of_the_same_name_has_another_id(spool: Spool) -> None:
    first = spool.put(b"inbox/x/a")
    before = get_id(spool, b"inbox/x/a")

    first.rename(spool.root / "kept")
    spool.put(b"inbox/x/a")

    assert get_id(spool, b"inbox/x/a") != before


def test_a_rewritten_file_has_another_id(spool: Spool) -> None:
    file = spool.put(b"inbox/x/a")
    before = get_id(spool, b"inbox/x/a")

    file.write_bytes(b"other content")

    assert get_id(spool, b"inbox/x/a") != before


def test_the_same_file_in_another_inbox_or_under_another_path_has_another_id(spool: Spool) -> None:
    spool.put(b"inbox/x/a")
    stat = get_stat(spool, b"inbox/x/a")

    ids = {file_id(inbox, path, stat) for inbox, path in (("drop", b"a"), ("other", b"a"), ("drop", b"b"))}

    assert len(ids) == 3


# clocks


class SlowClockDisk(Disk):
    """A disk of a server whose clock is a day slow."""

    def touch(self, fd: Fd) -> None:
        os.utime(fd, (time.time() - 86_400,) * 2)


def test_on_a_network_mount_the_servers_clock_is_used(spool: Spool) -> None:
    with spool.folders() as folders:
        now = folder_clock_now(SlowClockDisk(), folders, network=True)

    assert now == pytest.approx(time.time() - 86_400, abs=60)


def test_on_a_local_disk_the_local_clock_is_used_and_no_time_is_set(spool: Spool) -> None:
    os.utime(spool.root / "claimed", (OLD, OLD))

    with spool.folders() as folders:
        now = folder_clock_now(SlowClockDisk(), folders, network=False)

    assert now == pytest.approx(time.time(), abs=60)
    assert (spool.root / "claimed").stat().st_mtime == OLD


def test_file_system_time_is_the_current_time_not_the_old_mtime(spool: Spool) -> None:
    os.utime(spool.root / "claimed", (OLD, OLD))

    with spool.folders() as folders:
        now = file_system_time(Disk(), folders.claimed)

    assert now == pytest.approx(time.time(), abs=60)
