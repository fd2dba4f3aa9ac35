"""The ways of a file through the spool, each with how a later pass ends what a crash has left; and where to blow them up."""

import errno
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.crash.crash_points import walked
from support.crash.fuse import Blown, Fuse
from support.disk.disks import kind_of
from support.disk.spools import AT_ONCE, RESERVED, Spool

from inboxd.config.settings import Inbox
from inboxd.fs.names import TEMP_PREFIX
from inboxd.fs.syscalls import Disk
from inboxd.intake.packing import pack
from inboxd.intake.pruning import prune_folders
from inboxd.intake.readiness import Ready
from inboxd.intake.scan import ScannedEntry, ScannedFolder, scan
from inboxd.spool.claims import claim, list_files, list_parcels, release_file, remove_if_empty, split_off
from inboxd.spool.error_note import SUFFIX, format_note, note_name
from inboxd.spool.filing import file_done, file_failed
from inboxd.spool.history import KEEP_SECONDS
from inboxd.spool.layout import Folders, new_parcel_id
from inboxd.spool.requeue import find_failed_file, requeue
from inboxd.spool.retention import LEFTOVER_SECONDS, delete_expired

PARCEL, INTO = f"{1:028x}", f"{2:028x}"
P = b"claimed/" + PARCEL.encode() + b"/"
LONG = b"\xc3\xbc" * 125 + b".pdf"
FAR = 1e12

Step = Callable[[Disk, Folders, Inbox], object]


def note(path: bytes, parcel: str) -> bytes:
    """Return the note of a file that has failed."""
    return format_note(path, "no reason", inbox="drop", parcel=parcel, attempts=1, failed_at=0.0)


def take(parcel: str) -> Step:
    """Claim all that is in inbox/ into this parcel, and pack it."""

    def step(disk: Disk, folders: Folders, inbox: Inbox) -> None:
        seen = [entry for entry in scan(Disk(), folders.inbox, inbox, AT_ONCE, lambda: FAR) if isinstance(entry, ScannedEntry)]
        got = claim(disk, folders, parcel, [entry.path for entry in seen if isinstance(entry.decision, Ready)])
        pack(disk, folders, inbox, parcel, got.claimed)

    return step


def away(disk: Disk, folders: Folders, _inbox: Inbox) -> None:
    """File all that is claimed to done/, and tidy up, as the sweep does with parcels whose outcome is stored."""
    for parcel in list_parcels(disk, folders):
        for path in list_files(disk, folders, parcel):
            file_done(disk, folders, parcel, path)
        remove_if_empty(disk, folders, parcel)


def both(disk: Disk, folders: Folders, inbox: Inbox) -> None:
    """File away what is claimed, then take in what is left, and file that away."""
    away(disk, folders, inbox)
    take(new_parcel_id())(disk, folders, inbox)
    away(disk, folders, inbox)


def to_done(path: bytes) -> Step:
    """File one file to done/."""
    return lambda disk, folders, _: (file_done(disk, folders, PARCEL, path), remove_if_empty(disk, folders, PARCEL))


def to_failed(path: bytes) -> Step:
    """File one file to failed/."""
    return lambda disk, folders, _: (
        file_failed(disk, folders, PARCEL, path, note(path, PARCEL)),
        remove_if_empty(disk, folders, PARCEL),
    )


def back(path: bytes) -> Step:
    """Put one failed file back into inbox/, if it is there."""

    def step(disk: Disk, folders: Folders, _inbox: Inbox) -> None:
        if failure := find_failed_file(disk, folders, path):
            requeue(disk, folders, failure)

    return step


def _tidy_failed(disk: Disk, folders: Folders, _inbox: Inbox) -> None:
    list(delete_expired(disk, folders.failed, FAR, 0.0, has_notes=True))


def _prune(disk: Disk, folders: Folders, _inbox: Inbox) -> None:
    prune_folders(
        disk, folders, [ScannedFolder(b"sub/deep", 0.0), ScannedFolder(b"sub", 0.0), ScannedFolder(b"kept", 0.0)], FAR, 1.0
    )


def then(*steps: Step) -> Step:
    """Join steps."""
    return lambda *args: [step(*args) for step in steps]


@dataclass(frozen=True)
class Way:
    """What lies below the root before, the operation, the later pass, and which sub-folders are there besides.

    ``moved`` is what the operation takes out of done/ or failed/, if it does.
    """

    name: str
    before: Mapping[bytes, bytes]
    act: Step
    recover: Step
    empty: tuple[bytes, ...] = field(default=())
    moved: bytes = b""

    @property
    def contents(self) -> set[bytes]:
        """Return what must never be lost."""
        return {data for path, data in self.before.items() if not path.endswith(SUFFIX)}

    @property
    def settled(self) -> dict[bytes, bytes]:
        """Return what must stay as it is."""
        stays = (path for path in self.before if not (self.moved and path.startswith(self.moved)))
        return {path: self.before[path] for path in stays if path.startswith((b"done/", b"failed/"))}

    def arrange(self, root: Path) -> Spool:
        """Make a spool in which this way begins."""
        spool = Spool.make(root)
        for path, data in self.before.items():
            spool.put(path, data)
        for path in self.empty:
            spool.where(path).mkdir(parents=True)
        return spool


FILING = (
    Way("done", {P + b"a.pdf": b"A"}, to_done(b"a.pdf"), to_done(b"a.pdf")),
    Way("done, its name taken", {P + b"a.pdf": b"A", b"done/a.pdf": b"B"}, to_done(b"a.pdf"), to_done(b"a.pdf")),
    Way("done, in sub-folders", {P + b"x/y/a": b"A", b"done/x/b": b"B"}, to_done(b"x/y/a"), away),
    Way("done, a sub-folder's name taken", {P + b"x/a": b"A", b"done/x": b"B"}, to_done(b"x/a"), to_done(b"x/a")),
    Way("failed", {P + b"a.pdf": b"A"}, to_failed(b"a.pdf"), to_failed(b"a.pdf")),
    Way(
        "failed, its name taken",
        {P + b"a.pdf": b"A", b"failed/a.pdf": b"B", b"failed/a.pdf.error.txt": note(b"a.pdf", INTO)},
        to_failed(b"a.pdf"),
        to_failed(b"a.pdf"),
    ),
    Way("failed, in sub-folders", {P + b"x/a": b"A"}, to_failed(b"x/a"), to_failed(b"x/a")),
    Way("failed, with a name of 254 bytes", {P + LONG: b"A"}, to_failed(LONG), to_failed(LONG)),
)

MOVING: tuple[Way, ...] = (
    Way("claim", {b"inbox/a": b"A", b"inbox/x/y/b": b"B", b"inbox/x/c": b"C" * 99, b"done/a": b"D"}, take(PARCEL), both),
    Way(
        "release",
        {P + b"x/a": b"A", b"inbox/x/a": b"B"},
        lambda disk, folders, _: release_file(disk, folders, PARCEL, b"x/a"),
        then(lambda disk, folders, _: release_file(disk, folders, PARCEL, b"x/a"), both),
    ),
    Way(
        "split",
        {P + b"x/a": b"A", P + b"x/b": b"B"},
        lambda disk, folders, _: split_off(disk, folders, PARCEL, b"x/b", INTO),
        away,
    ),
)

MOVING += (
    Way(
        "put back",
        {b"failed/x/a": b"A", b"failed/x/a.error.txt": note(b"x/a", PARCEL), b"inbox/x/a": b"B"},
        back(b"x/a"),
        then(back(b"x/a"), _tidy_failed, both),
        moved=b"failed/x/a",
    ),
    Way(
        "put back under its first name",
        {
            b"failed/a (2)": b"A",
            b"failed/a (2).error.txt": note(b"y/a", PARCEL),
            b"failed/a": b"B",
            b"failed/a.error.txt": note(b"a", INTO),
        },
        back(b"a (2)"),
        then(back(b"a (2)"), _tidy_failed, both),
        moved=b"failed/a (2)",
    ),
)

TIDYING = (
    Way(
        "discard",
        {b"claimed/" + INTO.encode() + b"/x/a": b"A"},
        lambda disk, folders, _: [remove_if_empty(disk, folders, parcel) for parcel in (PARCEL, INTO)],
        away,
        empty=(P + b"x/y", P + b"z"),
    ),
    Way(
        "prune",
        {b"inbox/kept/a": b"A"},
        _prune,
        then(_prune, both),
        empty=(b"inbox/sub/deep", b"done/sub/deep", b"failed/kept"),
    ),
)


def crash(step: Step, spool: Spool, disk: Disk, point: int, **fuse: object) -> bool:
    """Run a step and blow it at this operation; tells whether it has that many."""
    fused = Fuse(disk, point, **fuse)
    try:
        with spool.folders() as folders:
            step(fused, folders, spool.inbox())
    except (Blown, OSError):
        if not fused.blown:
            raise
    return fused.blown


def crashes(way: Way, root: Path, disk: Disk, **fuse: object) -> Iterator[Spool]:
    """Walk a way in a fresh spool for each of its operations, and blow it there; yield the spool as that leaves it."""
    for point in itertools.count(1):
        spool = way.arrange(root / str(point))
        if not crash(way.act, spool, disk, point, **fuse):
            return
        error = fuse.get("error")
        fault = errno.errorcode[error.errno] if isinstance(error, OSError) else "dies after" if fuse.get("after") else "dies"
        walked(way.name, fault, point, kind_of(disk))
        yield spool


def places(lying: Mapping[bytes, bytes]) -> dict[bytes, list[bytes]]:
    """Return where each content lies; notes, and what we have begun and not ended, are none of it."""
    found: dict[bytes, list[bytes]] = {}
    for path, data in sorted(lying.items()):
        if not _is_note(path, data) and not is_begun(path, data):
            found.setdefault(data, []).append(path)
    return found


def notes_wanted(lying: Mapping[bytes, bytes]) -> set[bytes]:
    """Return the notes that there should be: one beside each failed file."""
    failed = [path for paths in places(lying).values() for path in paths if path.startswith(b"failed/")]
    split = [path.rpartition(b"/") for path in failed]
    return {folder + slash + note_name(name) for folder, slash, name in split}


def notes_found(lying: Mapping[bytes, bytes]) -> set[bytes]:
    """Return the notes that there are."""
    return {path for path, data in lying.items() if _is_note(path, data)}


def is_begun(path: bytes, data: bytes) -> bool:
    """Tell whether something is our own, begun and not ended: an unfinished file, or a name that is only reserved."""
    return path.rpartition(b"/")[2].startswith(TEMP_PREFIX) or data == RESERVED


def _is_note(path: bytes, data: bytes) -> bool:
    return path.startswith(b"failed/") and path.endswith(SUFFIX) and not is_begun(path, data)


def after_retention(spool: Spool, now: float) -> dict[bytes, bytes]:
    """Return what is left in all folders once our leftovers are old enough to be removed."""
    with spool.folders() as folders:
        list(delete_expired(Disk(), folders.done, now + 2 * LEFTOVER_SECONDS, 0.0))
        list(delete_expired(Disk(), folders.failed, now + 2 * max(LEFTOVER_SECONDS, KEEP_SECONDS), 0.0, has_notes=True))
    return spool.files()
