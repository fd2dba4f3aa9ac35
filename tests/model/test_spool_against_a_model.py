"""The spool compared with a dict: after any sequence of operations, each content is in exactly one folder."""

import contextlib
import itertools
import os
import tempfile
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from support.disk.spools import NO_WAITS, Spool

from inboxd.fs.syscalls import Disk
from inboxd.intake.pruning import innermost_first, prune_folders
from inboxd.intake.readiness import Ready
from inboxd.intake.scan import ScannedEntry, ScannedFolder, scan
from inboxd.spool.claims import claim, list_files, list_parcels, release_file, remove_if_empty, split_off
from inboxd.spool.error_note import format_note, is_note, note_name
from inboxd.spool.filing import move_to_done, move_to_failed
from inboxd.spool.layout import Folders, is_parcel_id, new_parcel_id, open_folders
from inboxd.spool.retention import delete_expired

DAY_SECONDS = 86_400.0
FAR_FUTURE = 1e12

NAMES = [b"a", b"b (2).pdf", b"\xc3\xa4.txt", b"\xff\xfe", b"new\nline", b" ", b"a.error.txt", b"x" * 255, b"\xe2\x82\xac" * 85]
random_names = st.binary(min_size=1, max_size=9).filter(lambda name: not set(name) & set(b"/\0") and name not in (b".", b".."))
paths = st.sampled_from([b"a", b"b.pdf", b"a/a", b"a/b.pdf", b"b.pdf/a"])
"""Few paths, so that they conflict: files with the names of folders, and the same name several times."""
odd_paths = st.lists(st.sampled_from(NAMES) | random_names, min_size=1, max_size=3).map(b"/".join)


class SpoolMachine(RuleBasedStateMachine):
    """The operations on one spool. ``expected`` maps each content, which is unique, to the folder that it must be in."""

    scanned = Bundle("scanned")
    claimed = Bundle("claimed")
    failed = Bundle("failed")

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()
        root = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="inboxd-model-"))
        self.spool = Spool.make(Path(root) / "drop")
        self.folders: Folders = self._stack.enter_context(open_folders(Disk(), self.spool.root))
        self.disk = Disk()
        self.rules = self.spool.inbox()
        self.expected: dict[bytes, str] = {}
        self._numbers = itertools.count()

    def teardown(self) -> None:
        self._stack.close()

    @initialize(path=paths)
    def begin(self, path: bytes) -> None:
        self.drop(path)

    @rule(path=paths)
    def drop(self, path: bytes) -> None:
        content = b"content %d" % next(self._numbers)
        target = self.spool.where(b"inbox/" + path)
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.write(content)
            self.expected[content] = "inbox"

    @rule(path=odd_paths)
    def drop_an_odd_name(self, path: bytes) -> None:
        self.drop(path)

    @rule(target=scanned)
    def scan_inbox(self) -> list[bytes]:
        entries = scan(self.disk, self.folders.inbox, self.rules, NO_WAITS, lambda: FAR_FUTURE)
        return [entry.path for entry in entries if isinstance(entry, ScannedEntry) and isinstance(entry.decision, Ready)]

    @rule(target=claimed, paths=scanned)
    def claim_scanned(self, paths: list[bytes]) -> str:
        """Claim files of an earlier scan: they may have been claimed since, or replaced by a folder of the same name."""
        before = self.spool.files("inbox")
        existing = [path for path in paths if os.path.lexists(self.spool.where(b"inbox/" + path))]
        parcel = new_parcel_id()

        result = claim(self.disk, self.folders, parcel, paths)

        assert result.denied == []
        assert result.claimed == existing
        for path, content in before.items():
            if any(path == claimed or path.startswith(claimed + b"/") for claimed in result.claimed):
                self.expected[content] = "claimed"
        return parcel

    @rule(target=claimed)
    def scan_and_claim(self) -> str:
        return self.claim_scanned(self.scan_inbox())

    @rule(parcel=claimed)
    def succeed_with_all(self, parcel: str) -> None:
        while list_files(self.disk, self.folders, parcel):
            self.succeed(parcel, 0)
        remove_if_empty(self.disk, self.folders, parcel)

        assert parcel not in list_parcels(self.disk, self.folders)

    @rule(parcel=claimed, index=st.integers(0, 9))
    def succeed(self, parcel: str, index: int) -> None:
        for path, content in self._pick_file(parcel, index):
            filed_path = move_to_done(self.disk, self.folders, parcel, path)

            assert filed_path is not None
            assert self.spool.files("done")[filed_path] == content
            self.expected[content] = "done"

    @rule(target=failed, parcel=claimed, index=st.integers(0, 9))
    def fail(self, parcel: str, index: int) -> object:
        filed_path = None
        for path, content in self._pick_file(parcel, index):
            note = format_note(path, "a reason", inbox="drop", parcel=parcel, attempts=1, failed_at=0.0)
            filed_path = move_to_failed(self.disk, self.folders, parcel, path, note)

            assert filed_path is not None
            assert self.spool.files("failed")[filed_path] == content
            self.expected[content] = "failed"
        return multiple() if filed_path is None else filed_path

    @rule(parcel=claimed, path=odd_paths)
    def file_a_missing_file(self, parcel: str, path: bytes) -> None:
        if not os.path.lexists(self.spool.where(b"claimed/" + parcel.encode() + b"/" + path)):
            assert move_to_done(self.disk, self.folders, parcel, path) is None
            assert move_to_failed(self.disk, self.folders, parcel, path, b"") is None

    @rule(parcel=claimed, index=st.integers(0, 9))
    def release(self, parcel: str, index: int) -> None:
        for path, content in self._pick_file(parcel, index):
            assert release_file(self.disk, self.folders, parcel, path)
            self.expected[content] = "inbox"

    @rule(target=claimed, parcel=claimed, index=st.integers(0, 9))
    def split_off(self, parcel: str, index: int) -> object:
        new_parcel = new_parcel_id()
        for path, content in self._pick_file(parcel, index):
            assert split_off(self.disk, self.folders, parcel, path, new_parcel)
            assert self.spool.files(f"claimed/{new_parcel}") == {path: content}
        return new_parcel

    @rule(path=consumes(failed))
    def move_back_by_hand(self, path: bytes) -> None:
        source, target = self.spool.where(b"failed/" + path), self.spool.where(b"inbox/" + path)
        if source.is_file() and not target.exists() and target.parent.is_dir():
            self.expected[source.read_bytes()] = "inbox"
            source.rename(target)

    @rule(top=st.sampled_from(["done", "failed"]))
    def expire_all(self, top: str) -> None:
        list(delete_expired(self.disk, getattr(self.folders, top), FAR_FUTURE, DAY_SECONDS))

        assert self.spool.files(top) == {}
        self.expected = {content: folder for content, folder in self.expected.items() if folder != top}

    @rule()
    def prune_all(self) -> None:
        entries = list(scan(self.disk, self.folders.inbox, self.rules, NO_WAITS, lambda: FAR_FUTURE))
        subfolders = innermost_first(entry for entry in entries if isinstance(entry, ScannedFolder))
        prune_folders(self.disk, self.folders, subfolders, FAR_FUTURE, 1.0)

    @invariant()
    def each_content_is_in_exactly_one_folder(self) -> None:
        found = [
            (content, os.fsdecode(path.split(b"/")[0]))
            for path, content in self.spool.files().items()
            if not (path.startswith(b"failed/") and is_note(content))
        ]
        assert sorted(found) == sorted(self.expected.items())

    @invariant()
    def each_failed_file_has_its_note(self) -> None:
        files = self.spool.files("failed")
        for path, content in files.items():
            folder, slash, name = path.rpartition(b"/")
            if not is_note(content):
                assert is_note(files[folder + slash + note_name(name)])

    @invariant()
    def nothing_but_parcels_is_in_claimed(self) -> None:
        assert all(is_parcel_id(path.name) and path.is_dir() for path in (self.spool.root / "claimed").iterdir())

    def _pick_file(self, parcel: str, index: int) -> list[tuple[bytes, bytes]]:
        """Return one file of a parcel and its content, in a list; [] if the parcel has no file."""
        paths = list_files(self.disk, self.folders, parcel)
        if not paths:
            return []
        path = paths[index % len(paths)]
        return [(path, self.spool.files(f"claimed/{parcel}")[path])]


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(
    max_examples=250,
    stateful_step_count=40,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
)
