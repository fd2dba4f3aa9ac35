"""The spool against a dict: whatever two claimers, droppers, sweeps and people do, each content is in exactly one place."""

import contextlib
import itertools
import os
import tempfile
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from support.disk.spools import AT_ONCE, Spool

from inboxd.fs.syscalls import Disk
from inboxd.intake.pruning import innermost_first, prune_folders
from inboxd.intake.readiness import Ready
from inboxd.intake.scan import ScannedEntry, ScannedFolder, scan
from inboxd.spool.claims import claim, list_files, list_parcels, release_file, remove_if_empty, split_off
from inboxd.spool.error_note import format_note, is_note, note_name
from inboxd.spool.filing import file_done, file_failed
from inboxd.spool.layout import Folders, is_parcel_id, new_parcel_id, open_folders
from inboxd.spool.retention import delete_expired

DAY = 86_400.0
FAR = 1e12

WORDS = [b"a", b"b (2).pdf", b"\xc3\xa4.txt", b"\xff\xfe", b"new\nline", b" ", b"a.error.txt", b"x" * 255, b"\xe2\x82\xac" * 85]
random_bytes = st.binary(min_size=1, max_size=9).filter(lambda name: not set(name) & set(b"/\0") and name not in (b".", b".."))
paths = st.sampled_from([b"a", b"b.pdf", b"a/a", b"a/b.pdf", b"b.pdf/a"])
"""Few, so that they get into each other's way: files under names of folders, and one name again and again."""
odd_paths = st.lists(st.sampled_from(WORDS) | random_bytes, min_size=1, max_size=3).map(b"/".join)


class SpoolMachine(RuleBasedStateMachine):
    """``lying`` maps each content to the folder that it must be in; contents are unique, so nothing can hide behind another."""

    seen = Bundle("seen")
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
        self.lying: dict[bytes, str] = {}
        self._numbers = itertools.count()

    def teardown(self) -> None:
        self._stack.close()

    @initialize(path=paths)
    def begin(self, path: bytes) -> None:
        self.drop(path)

    @rule(path=paths)
    def drop(self, path: bytes) -> None:
        content = b"content %d" % next(self._numbers)
        place = self.spool.where(b"inbox/" + path)
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:
                file.write(content)
            self.lying[content] = "inbox"

    @rule(path=odd_paths)
    def drop_an_odd_name(self, path: bytes) -> None:
        self.drop(path)

    @rule(target=seen)
    def look(self) -> list[bytes]:
        entries = scan(self.disk, self.folders.inbox, self.rules, AT_ONCE, lambda: FAR)
        return [entry.path for entry in entries if isinstance(entry, ScannedEntry) and isinstance(entry.decision, Ready)]

    @rule(target=claimed, paths=seen)
    def take(self, paths: list[bytes]) -> str:
        """Claim what was seen earlier: another claimer may have been quicker, or its dropper has put a folder in its place."""
        before = self.spool.files("inbox")
        there = [path for path in paths if os.path.lexists(self.spool.where(b"inbox/" + path))]
        parcel = new_parcel_id()

        got = claim(self.disk, self.folders, parcel, paths)

        assert got.denied == []
        assert got.claimed == there
        for path, content in before.items():
            if any(path == won or path.startswith(won + b"/") for won in got.claimed):
                self.lying[content] = "claimed"
        return parcel

    @rule(target=claimed)
    def look_and_take(self) -> str:
        return self.take(self.look())

    @rule(parcel=claimed)
    def succeed_with_all(self, parcel: str) -> None:
        while list_files(self.disk, self.folders, parcel):
            self.succeed(parcel, 0)
        remove_if_empty(self.disk, self.folders, parcel)

        assert parcel not in list_parcels(self.disk, self.folders)

    @rule(parcel=claimed, which=st.integers(0, 9))
    def succeed(self, parcel: str, which: int) -> None:
        for path, content in self._one(parcel, which):
            filed = file_done(self.disk, self.folders, parcel, path)

            assert filed is not None
            assert self.spool.files("done")[filed] == content
            self.lying[content] = "done"

    @rule(target=failed, parcel=claimed, which=st.integers(0, 9))
    def fail(self, parcel: str, which: int) -> object:
        filed = None
        for path, content in self._one(parcel, which):
            text = format_note(path, "a reason", inbox="drop", parcel=parcel, attempts=1, failed_at=0.0)
            filed = file_failed(self.disk, self.folders, parcel, path, text)

            assert filed is not None
            assert self.spool.files("failed")[filed] == content
            self.lying[content] = "failed"
        return multiple() if filed is None else filed

    @rule(parcel=claimed, path=odd_paths)
    def file_away_what_is_not_there(self, parcel: str, path: bytes) -> None:
        if not os.path.lexists(self.spool.where(b"claimed/" + parcel.encode() + b"/" + path)):
            assert file_done(self.disk, self.folders, parcel, path) is None
            assert file_failed(self.disk, self.folders, parcel, path, b"") is None

    @rule(parcel=claimed, which=st.integers(0, 9))
    def give_back(self, parcel: str, which: int) -> None:
        for path, content in self._one(parcel, which):
            assert release_file(self.disk, self.folders, parcel, path)
            self.lying[content] = "inbox"

    @rule(target=claimed, parcel=claimed, which=st.integers(0, 9))
    def split_off(self, parcel: str, which: int) -> object:
        into = new_parcel_id()
        for path, content in self._one(parcel, which):
            assert split_off(self.disk, self.folders, parcel, path, into)
            assert self.spool.files(f"claimed/{into}") == {path: content}
        return into

    @rule(path=consumes(failed))
    def put_back_by_hand(self, path: bytes) -> None:
        source, target = self.spool.where(b"failed/" + path), self.spool.where(b"inbox/" + path)
        if source.is_file() and not target.exists() and target.parent.is_dir():
            self.lying[source.read_bytes()] = "inbox"
            source.rename(target)

    @rule(top=st.sampled_from(["done", "failed"]))
    def expire_all(self, top: str) -> None:
        list(delete_expired(self.disk, getattr(self.folders, top), FAR, DAY))

        assert self.spool.files(top) == {}
        self.lying = {content: where for content, where in self.lying.items() if where != top}

    @rule()
    def prune_all(self) -> None:
        entries = list(scan(self.disk, self.folders.inbox, self.rules, AT_ONCE, lambda: FAR))
        seen = innermost_first(entry for entry in entries if isinstance(entry, ScannedFolder))
        prune_folders(self.disk, self.folders, seen, FAR, 1.0)

    @invariant()
    def each_content_is_in_exactly_one_place(self) -> None:
        found = [
            (content, os.fsdecode(path.split(b"/")[0]))
            for path, content in self.spool.files().items()
            if not (path.startswith(b"failed/") and is_note(content))
        ]
        assert sorted(found) == sorted(self.lying.items())

    @invariant()
    def each_failed_file_has_its_note(self) -> None:
        lying = self.spool.files("failed")
        for path, content in lying.items():
            folder, slash, name = path.rpartition(b"/")
            if not is_note(content):
                assert is_note(lying[folder + slash + note_name(name)])

    @invariant()
    def nothing_but_parcels_is_in_claimed(self) -> None:
        assert all(is_parcel_id(place.name) and place.is_dir() for place in (self.spool.root / "claimed").iterdir())

    def _one(self, parcel: str, which: int) -> list[tuple[bytes, bytes]]:
        """Return one file of a parcel with its content, in a list; [] when it has none left."""
        there = list_files(self.disk, self.folders, parcel)
        if not there:
            return []
        path = there[which % len(there)]
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
