"""Scenarios of moves in the spool, each with the later pass that repairs what a crash left, and functions that crash them."""

import errno
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.crash.crash_points import record_crash_point
from support.crash.fuse import Fuse, ProcessDied
from support.disk.disks import kind_of
from support.disk.spools import NO_WAITS, RESERVED, Spool

from inboxd.config.rules import Inbox
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk
from inboxd.intake.packing import pack
from inboxd.intake.pruning import prune_folders
from inboxd.intake.readiness import Ready
from inboxd.intake.scan import ScannedEntry, ScannedFolder, scan
from inboxd.spool.claims import claim, list_files, list_parcels, release_file, remove_if_empty, split_off
from inboxd.spool.error_note import SUFFIX, format_note, note_name
from inboxd.spool.filing import move_to_done, move_to_failed
from inboxd.spool.history import KEEP_SECONDS
from inboxd.spool.layout import Folders, new_parcel_id
from inboxd.spool.requeue import find_failed_file, requeue
from inboxd.spool.retention import LEFTOVER_SECONDS, delete_expired

PARCEL, OTHER_PARCEL = f"{1:028x}", f"{2:028x}"
P = b"claimed/" + PARCEL.encode() + b"/"
LONG_NAME = b"\xc3\xbc" * 125 + b".pdf"
FAR_FUTURE = 1e12
"""A time at which every file is old enough, in unix seconds."""

Step = Callable[[Disk, Folders, Inbox], object]


def note(path: bytes, parcel: str) -> bytes:
    """Return the error note of a failed file."""
    return format_note(path, "no reason", inbox="drop", parcel=parcel, attempts=1, failed_at=0.0)


def take(parcel: str) -> Step:
    """Return a step that claims every ready file in inbox/ into this parcel and packs it."""

    def step(disk: Disk, folders: Folders, inbox: Inbox) -> None:
        entries = scan(Disk(), folders.inbox, inbox, NO_WAITS, lambda: FAR_FUTURE)
        ready = [entry.path for entry in entries if isinstance(entry, ScannedEntry) and isinstance(entry.decision, Ready)]
        pack(disk, folders, inbox, parcel, claim(disk, folders, parcel, ready).claimed)

    return step


def away(disk: Disk, folders: Folders, _inbox: Inbox) -> None:
    """Move every claimed file to done/ and remove the parcels, as the sweep does with parcels whose outcome is stored."""
    for parcel in list_parcels(disk, folders):
        for path in list_files(disk, folders, parcel):
            move_to_done(disk, folders, parcel, path)
        remove_if_empty(disk, folders, parcel)


def drain(disk: Disk, folders: Folders, inbox: Inbox) -> None:
    """File what is claimed, then claim and file what is left in inbox/."""
    away(disk, folders, inbox)
    take(new_parcel_id())(disk, folders, inbox)
    away(disk, folders, inbox)


def to_done(path: bytes) -> Step:
    """Return a step that moves one file of PARCEL to done/."""
    return lambda disk, folders, _: (move_to_done(disk, folders, PARCEL, path), remove_if_empty(disk, folders, PARCEL))


def to_failed(path: bytes) -> Step:
    """Return a step that moves one file of PARCEL to failed/."""
    return lambda disk, folders, _: (
        move_to_failed(disk, folders, PARCEL, path, note(path, PARCEL)),
        remove_if_empty(disk, folders, PARCEL),
    )


def requeue_file(path: bytes) -> Step:
    """Return a step that requeues one failed file, if failed/ has it."""

    def step(disk: Disk, folders: Folders, _inbox: Inbox) -> None:
        if failure := find_failed_file(disk, folders, path):
            requeue(disk, folders, failure)

    return step


def _delete_leftover_notes(disk: Disk, folders: Folders, _inbox: Inbox) -> None:
    list(delete_expired(disk, folders.failed, FAR_FUTURE, 0.0, has_notes=True))


def _prune(disk: Disk, folders: Folders, _inbox: Inbox) -> None:
    prune_folders(
        disk,
        folders,
        [ScannedFolder(b"sub/deep", 0.0), ScannedFolder(b"sub", 0.0), ScannedFolder(b"kept", 0.0)],
        FAR_FUTURE,
        1.0,
    )


def in_order(*steps: Step) -> Step:
    """Return a step that runs these steps one after the other."""
    return lambda *args: [step(*args) for step in steps]


@dataclass(frozen=True)
class SpoolScenario:
    """One scenario: the files before, the operation ``act``, the later pass ``recover``, and ``empty`` sub-folders.

    ``moved`` is the path that the operation moves out of done/ or failed/, if it does so.
    """

    name: str
    before: Mapping[bytes, bytes]
    act: Step
    recover: Step
    empty: tuple[bytes, ...] = field(default=())
    moved: bytes = b""

    @property
    def contents(self) -> set[bytes]:
        """Return the contents that must not be lost."""
        return {data for path, data in self.before.items() if not path.endswith(SUFFIX)}

    @property
    def settled(self) -> dict[bytes, bytes]:
        """Return the files in done/ and failed/ that must not change."""
        unmoved = (path for path in self.before if not (self.moved and path.startswith(self.moved)))
        return {path: self.before[path] for path in unmoved if path.startswith((b"done/", b"failed/"))}

    def arrange(self, root: Path) -> Spool:
        """Return a spool in the state before ``act``."""
        spool = Spool.make(root)
        for path, data in self.before.items():
            spool.put(path, data)
        for path in self.empty:
            spool.where(path).mkdir(parents=True)
        return spool


FILING = (
    SpoolScenario("done", {P + b"a.pdf": b"A"}, to_done(b"a.pdf"), to_done(b"a.pdf")),
    SpoolScenario("done, its name taken", {P + b"a.pdf": b"A", b"done/a.pdf": b"B"}, to_done(b"a.pdf"), to_done(b"a.pdf")),
    SpoolScenario("done, in sub-folders", {P + b"x/y/a": b"A", b"done/x/b": b"B"}, to_done(b"x/y/a"), away),
    SpoolScenario("done, a sub-folder's name taken", {P + b"x/a": b"A", b"done/x": b"B"}, to_done(b"x/a"), to_done(b"x/a")),
    SpoolScenario("failed", {P + b"a.pdf": b"A"}, to_failed(b"a.pdf"), to_failed(b"a.pdf")),
    SpoolScenario(
        "failed, its name taken",
        {P + b"a.pdf": b"A", b"failed/a.pdf": b"B", b"failed/a.pdf.error.txt": note(b"a.pdf", OTHER_PARCEL)},
        to_failed(b"a.pdf"),
        to_failed(b"a.pdf"),
    ),
    SpoolScenario("failed, in sub-folders", {P + b"x/a": b"A"}, to_failed(b"x/a"), to_failed(b"x/a")),
    SpoolScenario("failed, with a name of 254 bytes", {P + LONG_NAME: b"A"}, to_failed(LONG_NAME), to_failed(LONG_NAME)),
)

DROPPED = {b"inbox/a": b"A", b"inbox/x/y/b": b"B", b"inbox/x/c": b"C" * 99, b"done/a": b"D"}
MOVING: tuple[SpoolScenario, ...] = (
    SpoolScenario("claim", DROPPED, take(PARCEL), drain),
    SpoolScenario(
        "release",
        {P + b"x/a": b"A", b"inbox/x/a": b"B"},
        lambda disk, folders, _: release_file(disk, folders, PARCEL, b"x/a"),
        in_order(lambda disk, folders, _: release_file(disk, folders, PARCEL, b"x/a"), drain),
    ),
    SpoolScenario(
        "split",
        {P + b"x/a": b"A", P + b"x/b": b"B"},
        lambda disk, folders, _: split_off(disk, folders, PARCEL, b"x/b", OTHER_PARCEL),
        away,
    ),
)

MOVING += (
    SpoolScenario(
        "requeue",
        {b"failed/x/a": b"A", b"failed/x/a.error.txt": note(b"x/a", PARCEL), b"inbox/x/a": b"B"},
        requeue_file(b"x/a"),
        in_order(requeue_file(b"x/a"), _delete_leftover_notes, drain),
        moved=b"failed/x/a",
    ),
    SpoolScenario(
        "requeue under the original name",
        {
            b"failed/a (2)": b"A",
            b"failed/a (2).error.txt": note(b"y/a", PARCEL),
            b"failed/a": b"B",
            b"failed/a.error.txt": note(b"a", OTHER_PARCEL),
        },
        requeue_file(b"a (2)"),
        in_order(requeue_file(b"a (2)"), _delete_leftover_notes, drain),
        moved=b"failed/a (2)",
    ),
)

TIDYING = (
    SpoolScenario(
        "remove empty parcels",
        {b"claimed/" + OTHER_PARCEL.encode() + b"/x/a": b"A"},
        lambda disk, folders, _: [remove_if_empty(disk, folders, parcel) for parcel in (PARCEL, OTHER_PARCEL)],
        away,
        empty=(P + b"x/y", P + b"z"),
    ),
    SpoolScenario(
        "prune",
        {b"inbox/kept/a": b"A"},
        _prune,
        in_order(_prune, drain),
        empty=(b"inbox/sub/deep", b"done/sub/deep", b"failed/kept"),
    ),
)


def crash(step: Step, spool: Spool, disk: Disk, point: int, **options: object) -> bool:
    """Run a step with a fault at operation ``point``; return whether the step has so many operations."""
    fuse = Fuse(disk, point, **options)
    try:
        with spool.folders() as folders:
            step(fuse, folders, spool.inbox())
    except (ProcessDied, OSError):
        if not fuse.blown:
            raise
    return fuse.blown


def crashes(way: SpoolScenario, root: Path, disk: Disk, **options: object) -> Iterator[Spool]:
    """Run a scenario with a fault at operation 1, 2, 3 …, each in a new spool; yield the spool after the fault."""
    for point in itertools.count(1):
        spool = way.arrange(root / str(point))
        if not crash(way.act, spool, disk, point, **options):
            return
        error = options.get("error")
        fault = errno.errorcode[error.errno] if isinstance(error, OSError) else "dies after" if options.get("after") else "dies"
        record_crash_point(way.name, fault, point, kind_of(disk))
        yield spool


def places(files: Mapping[bytes, bytes]) -> dict[bytes, list[bytes]]:
    """Return content -> paths; error notes and our own unfinished files are left out."""
    paths: dict[bytes, list[bytes]] = {}
    for path, data in sorted(files.items()):
        if not _is_note(path, data) and not is_begun(path, data):
            paths.setdefault(data, []).append(path)
    return paths


def expected_notes(files: Mapping[bytes, bytes]) -> set[bytes]:
    """Return the paths of the expected error notes: one per failed file."""
    failed = [path for paths in places(files).values() for path in paths if path.startswith(b"failed/")]
    split = [path.rpartition(b"/") for path in failed]
    return {folder + slash + note_name(name) for folder, slash, name in split}


def existing_notes(files: Mapping[bytes, bytes]) -> set[bytes]:
    """Return the paths of the existing error notes."""
    return {path for path, data in files.items() if _is_note(path, data)}


def is_begun(path: bytes, data: bytes) -> bool:
    """Return whether a file is one of our own, unfinished: a temporary file, or a reserved name."""
    return path.rpartition(b"/")[2].startswith(TEMP_PREFIX) or data == RESERVED


def _is_note(path: bytes, data: bytes) -> bool:
    return path.startswith(b"failed/") and path.endswith(SUFFIX) and not is_begun(path, data)


def after_retention(spool: Spool, now: float) -> dict[bytes, bytes]:
    """Run retention when our leftovers are old enough; return the files that remain."""
    with spool.folders() as folders:
        list(delete_expired(Disk(), folders.done, now + 2 * LEFTOVER_SECONDS, 0.0))
        list(delete_expired(Disk(), folders.failed, now + 2 * max(LEFTOVER_SECONDS, KEEP_SECONDS), 0.0, has_notes=True))
    return spool.files()
