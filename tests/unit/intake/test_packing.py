"""From a claimed parcel to its payload: what travels inside, what by its path, what not at all."""

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

import pytest
from support.disk.disks import LinkingDisk, RacingDisk
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk, Fd, FileKind, Stat, closing
from inboxd.intake.clock import file_system_time, scan_time
from inboxd.intake.inspection import file_version
from inboxd.intake.packing import Packed, build_parcel, file_id, pack
from inboxd.messaging.payload import parcel_from_wire, parcel_to_wire
from inboxd.spool.claims import claim, split_off
from inboxd.spool.layout import created_at, new_parcel_id

GIB = 1024**3
NOBODY = 65534
OLD = 1_000_000_000


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


def packed(spool: Spool, parcel: str, *paths: bytes, disk: Disk | None = None, **rules: object) -> Packed:
    with spool.folders() as folders:
        return pack(disk or Disk(), folders, spool.inbox(**rules), parcel, paths)


def place(spool: Spool, parcel: str, path: bytes) -> Path:
    return spool.where(b"claimed/%s/%s" % (parcel.encode(), path))


def look(spool: Spool, path: bytes) -> Stat:
    folder, _, name = path.rpartition(b"/")
    with closing(Disk(), Disk().open_root(PurePath(spool.where(folder)))) as at:
        return Disk().stat(at, name)


def nothing_but(packed: Packed) -> str:
    """Return which one of its lists has something in it."""
    (name,) = [name for name in ("parts", "refused", "busy") if getattr(packed, name)]
    return name


class DeviceDisk(Disk):
    """Says of every entry that it is a device: only root can make one."""

    def stat(self, at: Fd, name: bytes) -> Stat:
        return super().stat(at, name)._replace(kind=FileKind.DEVICE)


# what travels


def test_a_small_file_travels_inside_with_all_that_is_known_of_it(spool: Spool) -> None:
    parcel = spool.claimed(b"x/a.pdf", data=b"content")
    os.utime(place(spool, parcel, b"x/a.pdf"), (1, OLD))

    (part,) = packed(spool, parcel, b"x/a.pdf").parts

    assert (part.filename, part.content_type, part.content_length, part.stream) == (
        b"x/a.pdf",
        "application/pdf",
        7,
        b"content",
    )
    assert part.headers["sha256"] == hashlib.sha256(b"content").hexdigest()
    assert (part.headers["mtime"], part.headers["claimed-at"]) == (OLD, created_at(parcel))


def test_a_larger_file_travels_by_its_path_and_is_not_read(spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"x" * 65)

    (part,) = packed(spool, parcel, b"a").parts

    assert (part.stream, part.content_length) == (None, 65)
    assert set(part.headers) == {"id", "mtime", "claimed-at"}


@pytest.mark.parametrize(("size", "inline"), [(0, True), (63, True), (64, True), (65, False)])
def test_the_limit_itself_still_travels_inside(size: int, inline: bool, spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"x" * size)

    (part,) = packed(spool, parcel, b"a", inline_bytes_max=64).parts

    assert part.stream == (b"x" * size if inline else None)


def test_with_a_limit_of_nothing_only_empty_files_travel_inside(spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"")
    spool.put(b"claimed/%s/b" % parcel.encode(), b"x")

    parts = packed(spool, parcel, b"a", b"b", inline_bytes_max=0).parts

    assert [part.stream for part in parts] == [b"", None]


def test_what_has_no_room_left_in_the_parcel_travels_by_its_path_and_smaller_ones_still_fit(spool: Spool) -> None:
    parcel = new_parcel_id()
    sizes = {b"a": 600, b"b": 600, b"c": 424, b"d": 1, b"e": 0}
    for path, size in sizes.items():
        spool.put(b"claimed/%s/%s" % (parcel.encode(), path), b"x" * size)

    parts = packed(spool, parcel, *sizes, inline_bytes_max=600, parcel_bytes_max=1024).parts

    assert {part.filename: part.stream is not None for part in parts} == {
        b"a": True,
        b"b": False,
        b"c": True,
        b"d": False,
        b"e": True,
    }


def test_what_is_not_to_be_carried_travels_by_its_path_with_its_hash(spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"hello")
    spool.put(b"claimed/%s/b" % parcel.encode(), b"x" * 65)

    with spool.folders() as folders:
        parts = pack(Disk(), folders, spool.inbox(inline_bytes_max=64), parcel, [b"a", b"b"], inline=False).parts

    assert [part.stream for part in parts] == [None, None]
    assert parts[0].headers["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert "sha256" not in parts[1].headers


def test_what_is_gone_by_now_is_left_out(spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    result = packed(spool, parcel, b"gone", b"x/gone", b"a")

    assert [part.filename for part in result.parts] == [b"a"]
    assert (result.refused, result.busy) == ([], [])


def test_a_parcel_that_is_gone_holds_nothing(spool: Spool) -> None:
    assert packed(spool, new_parcel_id(), b"a") == Packed()


@pytest.mark.parametrize(
    ("name", "kind"),
    [(b"a.txt", "text/plain"), (b"a", "application/octet-stream"), (b"x.pdf/a", "application/octet-stream"),
     (b"caf\xe9.png", "image/png"), (b"a.nothing-known", "application/octet-stream")],
)  # fmt: skip
def test_the_content_type_is_told_by_the_name(name: bytes, kind: str, spool: Spool) -> None:
    parcel = spool.claimed(name)

    (part,) = packed(spool, parcel, name).parts

    assert part.content_type == kind


def test_what_was_packed_is_a_parcel_that_can_travel(spool: Spool) -> None:
    parcel = spool.claimed(b"caf\xe9", b"x/b")

    made = build_parcel(packed(spool, parcel, b"caf\xe9", b"x/b"), parcel, spool.inbox(), "here")

    assert parcel_from_wire(parcel_to_wire(made)) == made
    assert (made.id, made.inbox, made.host, made.root) == (parcel, "drop", "here", os.fsencode(spool.root))


# what is not complete after all


@pytest.mark.parametrize(
    "rival",
    [
        lambda file: file.write_bytes(b"more than that"),
        lambda file: os.truncate(file, 2),
        lambda file: file.write_bytes(b"CONTENT"),
    ],
    ids=["grows", "shrinks", "is written anew"],
)
def test_a_file_that_changes_while_it_is_read_is_not_complete(rival: Callable[[Path], object], spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"content")
    file = place(spool, parcel, b"a")
    os.utime(file, (OLD, OLD))

    result = packed(spool, parcel, b"a", disk=RacingDisk(Disk(), lambda: rival(file), only="read"))

    assert nothing_but(result) == "busy"
    assert result.busy == [b"a"]


@pytest.mark.parametrize("size", [7, 100])
def test_a_file_that_a_program_has_open_for_writing_is_not_complete(size: int, spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"x" * size)

    with place(spool, parcel, b"a").open("ab"):
        result = packed(spool, parcel, b"a")

    assert nothing_but(result) == "busy"
    assert result.busy == [b"a"]


class LeasedDisk(Disk):
    """Another program holds a lease of its own on every file: who opens it is asked to come again."""

    def open_file(self, *_: object) -> Fd:
        raise BlockingIOError(errno.EAGAIN, "come again")


def test_a_file_that_another_program_holds_a_lease_on_is_not_complete(spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    result = packed(spool, parcel, b"a", disk=LeasedDisk())

    assert nothing_but(result) == "busy"
    assert result.busy == [b"a"]


@pytest.mark.parametrize("size", [7, 100])
def test_a_file_that_is_not_the_one_that_was_found_complete_is_not_complete(size: int, spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"b", data=b"x" * size)
    file = place(spool, parcel, b"a")
    found = {name: file_version(look(spool, b"claimed/%s/%s" % (parcel.encode(), name))) for name in (b"a", b"b")}
    os.utime(file, (OLD, OLD))

    with spool.folders() as folders:
        result = pack(Disk(), folders, spool.inbox(), parcel, [b"a", b"b"], found)

    assert ([part.filename for part in result.parts], result.busy) == ([b"b"], [b"a"])


def test_a_file_that_a_program_has_open_for_reading_is_complete(spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    with place(spool, parcel, b"a").open("rb"):
        result = packed(spool, parcel, b"a")

    assert nothing_but(result) == "parts"


def test_a_file_that_is_not_complete_takes_no_room(spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"b", data=b"x" * 1024)

    with place(spool, parcel, b"a").open("ab"):
        result = packed(spool, parcel, b"a", b"b", inline_bytes_max=1024, parcel_bytes_max=1024)

    assert [part.stream for part in result.parts] == [b"x" * 1024]


# what is refused


def the_reason(result: Packed) -> str:
    assert nothing_but(result) == "refused"
    ((path, reason),) = result.refused
    assert path == b"a"
    return reason


def test_a_link_is_refused_and_its_target_left_alone(spool: Spool, tmp_path: Path) -> None:
    parcel = spool.claimed(b"a")
    (tmp_path / "secret").write_bytes(b"secret")
    place(spool, parcel, b"a").unlink()
    place(spool, parcel, b"a").symlink_to(tmp_path / "secret")

    assert the_reason(packed(spool, parcel, b"a")) == "it is a symbolic link, not a file: drop the file itself"


def test_a_named_pipe_is_refused_and_nobody_waits_for_its_other_end(spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    place(spool, parcel, b"a").unlink()
    os.mkfifo(place(spool, parcel, b"a"))

    assert the_reason(packed(spool, parcel, b"a")) == "it is a named pipe, not a file: drop the file itself"


def test_what_was_seen_to_be_a_file_is_not_taken_at_its_word(spool: Spool) -> None:
    parcel = spool.claimed(b"pipe", b"link", b"grown", b"good")
    for name in (b"pipe", b"link"):
        place(spool, parcel, name).unlink()
    os.mkfifo(place(spool, parcel, b"pipe"))
    place(spool, parcel, b"link").symlink_to("/etc/passwd")
    place(spool, parcel, b"grown").write_bytes(b"too much")

    with spool.folders() as folders:
        inbox = spool.inbox(size_bytes_max=7)
        names = [b"pipe", b"link", b"grown", b"good"]
        packed = pack(Disk(), folders, inbox, parcel, names, dict.fromkeys(names, (0, 0)))

    assert packed.busy == [b"good"]  # it is another version
    assert [(path, reason.partition(",")[0]) for path, reason in packed.refused] == [
        (b"pipe", "it is a named pipe"),
        (b"link", "it is a symbolic link"),
        (b"grown", "it has 8 bytes"),
    ]


def test_a_folder_is_refused(spool: Spool) -> None:
    parcel = spool.claimed(b"a/b")

    assert the_reason(packed(spool, parcel, b"a")) == "it is a folder, not a file: drop the file itself"


def test_a_device_is_refused(spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    assert the_reason(packed(spool, parcel, b"a", disk=DeviceDisk())) == "it is a device, not a file: drop the file itself"


def test_a_sparse_file_with_nothing_in_it_is_refused(spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"")
    os.truncate(place(spool, parcel, b"a"), 2 * GIB)

    reason = the_reason(packed(spool, parcel, b"a"))

    assert reason.startswith(f"it claims {2 * GIB} bytes but holds only ")


@pytest.mark.parametrize(("size", "kept"), [(10, "parts"), (11, "refused")])
def test_a_file_that_is_larger_than_the_inbox_takes_is_refused(size: int, kept: str, spool: Spool) -> None:
    parcel = spool.claimed(b"a", data=b"x" * size)

    result = packed(spool, parcel, b"a", size_bytes_max=10)

    assert nothing_but(result) == kept
    assert kept == "parts" or the_reason(result) == "it has 11 bytes, and this inbox takes files of at most 10 bytes"


def test_a_file_that_we_may_not_read_is_refused(spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"b")
    place(spool, parcel, b"a").chmod(0o000)

    with spool.folders() as folders, as_a_user(spool.root / "claimed", spool.root / "claimed" / parcel):
        result = pack(Disk(), folders, spool.inbox(), parcel, [b"a", b"b"])

    assert [part.filename for part in result.parts] == [b"b"]
    assert result.refused == [(b"a", "inboxd is not permitted to read it: its owner must make it readable for the service")]


@contextlib.contextmanager
def as_a_user(*folders: Path) -> Iterator[None]:
    """Be somebody whom permissions stop, but not at these folders; root is nobody meanwhile."""
    before = os.geteuid()
    if before == 0:
        for folder in folders:
            os.chown(folder, NOBODY, -1)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_is_refused_does_not_keep_the_others_from_leaving(spool: Spool) -> None:
    parcel = spool.claimed(b"a", b"b", b"c")
    place(spool, parcel, b"b").unlink()
    place(spool, parcel, b"b").symlink_to("/")

    result = packed(spool, parcel, b"a", b"b", b"c")

    assert [part.filename for part in result.parts] == [b"a", b"c"]
    assert [path for path, _ in result.refused] == [b"b"]


def test_packing_leaves_no_descriptor_behind(spool: Spool) -> None:
    parcel = spool.claimed(b"x/a", b"b")
    place(spool, parcel, b"b").unlink()
    place(spool, parcel, b"b").symlink_to("/")
    open_before = len(list(Path("/proc/self/fd").iterdir()))

    packed(spool, parcel, b"x/a", b"b", b"gone", b"x/gone")

    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


# what a handler can be idempotent by


def an_id(spool: Spool, path: bytes) -> str:
    return file_id("drop", b"x/a", look(spool, path))


@pytest.mark.parametrize("disk", [Disk(), LinkingDisk()], ids=["renames", "links"])
def test_a_file_keeps_its_id_when_it_is_claimed_and_when_it_is_split_off(disk: Disk, spool: Spool) -> None:
    spool.put(b"inbox/x/a")
    before = an_id(spool, b"inbox/x/a")
    parcel, alone = new_parcel_id(), new_parcel_id()

    with spool.folders() as folders:
        claim(disk, folders, parcel, [b"x/a"])
    (claimed,) = packed(spool, parcel, b"x/a").parts
    with spool.folders() as folders:
        split_off(disk, folders, parcel, b"x/a", alone)
    (alone_again,) = packed(spool, alone, b"x/a", inline_bytes_max=0).parts

    assert claimed.headers["id"] == alone_again.headers["id"] == before
    assert claimed.headers["claimed-at"] == created_at(parcel)


def test_another_file_of_the_same_name_has_another_id(spool: Spool) -> None:
    first = spool.put(b"inbox/x/a")
    before = an_id(spool, b"inbox/x/a")

    first.rename(spool.root / "kept")
    spool.put(b"inbox/x/a")

    assert an_id(spool, b"inbox/x/a") != before


def test_a_file_that_was_written_to_has_another_id(spool: Spool) -> None:
    file = spool.put(b"inbox/x/a")
    before = an_id(spool, b"inbox/x/a")

    file.write_bytes(b"other content")

    assert an_id(spool, b"inbox/x/a") != before


def test_the_same_file_in_another_inbox_or_under_another_path_has_another_id(spool: Spool) -> None:
    spool.put(b"inbox/x/a")
    the_file = look(spool, b"inbox/x/a")

    ids = {file_id(inbox, path, the_file) for inbox, path in (("drop", b"a"), ("other", b"a"), ("drop", b"b"))}

    assert len(ids) == 3


# whose clock


class LateDisk(Disk):
    """A server whose clock is a day behind."""

    def touch(self, fd: Fd) -> None:
        os.utime(fd, (time.time() - 86_400,) * 2)


def test_on_a_network_mount_the_servers_clock_counts(spool: Spool) -> None:
    with spool.folders() as folders:
        now = scan_time(LateDisk(), folders, network=True)

    assert now == pytest.approx(time.time() - 86_400, abs=60)


def test_on_a_local_disk_our_own_clock_counts_and_nothing_is_touched(spool: Spool) -> None:
    os.utime(spool.root / "claimed", (OLD, OLD))

    with spool.folders() as folders:
        now = scan_time(LateDisk(), folders, network=False)

    assert now == pytest.approx(time.time(), abs=60)
    assert (spool.root / "claimed").stat().st_mtime == OLD


def test_the_time_of_a_disk_is_not_what_lay_there_before(spool: Spool) -> None:
    os.utime(spool.root / "claimed", (OLD, OLD))

    with spool.folders() as folders:
        now = file_system_time(Disk(), folders.claimed)

    assert now == pytest.approx(time.time(), abs=60)
