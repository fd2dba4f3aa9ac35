"""An in-memory inboxd over one inbox, with a clock that tests advance: programs meet faults, and later ones recover."""

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path

from support.crash import handler as handling
from support.crash.fake_server import FakeQueue, FakeRedis, FakeResults
from support.crash.faults import Fault
from support.crash.fuse import ProcessDied
from support.crash.handler import calls, fails
from support.crash.programs import NEVER, Program
from support.crash.spool_scenarios import existing_notes, expected_notes, places
from support.disk.disks import TwoDisks
from support.disk.spools import Spool
from support.parts.fake_context import HOST, settings
from support.parts.fakes import FakeChanges, FakeCounters, FakeLeases, FakeProgress
from support.processes import dead_token

from inboxd.errors import TransientError
from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import Verdict
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.process_state.process_identity import process_token

INBOX_RULES = {"handler": f"{handling.__name__}:{handling.handle.__name__}", "retries": 1, "retry_backoff_seconds": 0.01}
NO_WAITS = {"settle_seconds": 0.0, "unsure_seconds": 0.0, "empty_file_seconds": 0.0}

dead_process_token = cache(dead_token)


class World:
    """One inbox, its disk and a fake Redis, with assertions on what must hold after any fault."""

    def __init__(self, root: Path, disk: Disk | None = None, **rules: object) -> None:
        calls.clear()
        self.spool, self.disk = Spool.make(root), disk or Disk()
        self.inbox = self.spool.inbox(**{**INBOX_RULES, **NO_WAITS, **rules})
        self.settings = settings(self.inbox)
        self.queue, self.results = FakeQueue(), FakeResults()
        self.leases = FakeLeases(outcomes=self.results.stored)
        self.changes = FakeChanges()
        self.progress = FakeProgress()
        self.counters = FakeCounters()
        self.redis = FakeRedis(self.queue, lambda: self.leases.now)
        self.contents: set[bytes] = set()
        self.filed_before: dict[bytes, bytes] = {}
        self.handled_finally: set[bytes] = set()

    @property
    def in_flight(self) -> bool:
        """Whether a message is queued or a file is in inbox/ or claimed/."""
        return bool(self.queue.messages or any((self.spool.root / "claimed").iterdir()) or self.spool.files("inbox"))

    def program(self, fault: Fault | None = None, point: int = NEVER) -> Program:
        """Return a program, which meets the fault at operation number ``point``."""
        return Program(self, fault, point)

    def claim(self, files: dict[bytes, bytes]) -> str:
        """Write files into a new parcel; return its id."""
        parcel = new_parcel_id()
        for path, content in files.items():
            self.spool.put(b"claimed/%s/%s" % (parcel.encode(), path), content)
        return parcel

    def publish(self, files: dict[bytes, bytes]) -> str:
        """Write files into a new parcel and publish it; return its id."""
        parcel = self.claim(files)
        self.program().publish(parcel)
        return parcel

    def remember_state(self) -> None:
        """Record the current files: from now on none may be lost, and none handled again whose outcome is final."""
        files = self.spool.files()
        self.contents = set(places(files))
        changed = {b"done/" + file.filed for file in self.changes.files}
        filed = {path: data for path, data in files.items() if path.startswith((b"done/", b"failed/"))}
        self.filed_before = {path: data for path, data in filed.items() if path not in changed}
        self.handled_finally = {content for content in calls if not content.startswith(b"raise")}

    def mark_programs_dead(self) -> None:
        """Replace this process's tokens in leases and locks with a dead process's, as if all programs so far had died."""
        own_prefix, dead_owner = process_token(HOST).rpartition("/")[0], dead_process_token(HOST)
        for record in self.leases.records.values():
            if record.token.startswith(own_prefix):
                record.token = dead_owner
        for key, (value, expires_at) in list(self.redis.values.items()):
            if value.startswith(own_prefix.encode()):
                self.redis.values[key] = dead_owner.encode(), expires_at

    def run_with_fault(self, act: Callable[[Program], object], fault: Fault, point: int) -> bool:
        """Run ``act`` with a fault at operation ``point``; return whether it has so many operations."""
        program = self.program(fault, point)
        try:
            act(program)
        except (ProcessDied, TransientError, OSError):
            if not program.fuse.blown:
                raise
        if fault.kills and program.fuse.blown:
            self.mark_programs_dead()
            self._expect_no_second_call()
        return program.fuse.blown

    def _expect_no_second_call(self) -> None:
        """Expect that no handler is called again for files whose final outcome a dead worker has recorded."""
        for parcel, recorded in self.progress.noted.items():
            files = self.spool.files(f"claimed/{parcel}")
            final = [path for path, file in recorded.items() if file.verdict in (Verdict.DONE, Verdict.REJECTED)]
            self.handled_finally |= {files[path] for path in final if path in files}

    def assert_nothing_is_lost(self) -> None:
        """Assert that each content is in one place, no file was overwritten, and each failed file has an error note."""
        files = self.spool.files()
        paths_by_content = places(files)
        assert paths_by_content.keys() == self.contents
        if not isinstance(self.disk, TwoDisks):  # a move between two disks names the copy before it deletes the source
            assert {content: len(paths) for content, paths in paths_by_content.items()} == dict.fromkeys(self.contents, 1)
        assert self.filed_before.items() <= files.items()
        assert expected_notes(files) <= existing_notes(files)

    def assert_all_is_filed(self) -> None:
        """Assert that each content is once in the folder of its outcome, and that nothing is in flight."""
        self.assert_nothing_is_lost()
        paths_by_content = places(self.spool.files())
        tops = {content: [path.split(b"/")[0] for path in paths] for content, paths in paths_by_content.items()}
        new = self.contents - set(self.filed_before.values())
        assert {content: tops[content] for content in new} == {c: [b"failed" if fails(c) else b"done"] for c in new}
        assert not self.in_flight
        assert {content: calls[content] for content in self.handled_finally} == dict.fromkeys(self.handled_finally, 1)

    def assert_copies_change_nothing(self) -> None:
        """Assert that redelivery of every message ever sent is a no-op."""
        before = self.spool.files()
        self.queue.messages, self.queue.unacked = [dataclasses.replace(message) for message in self.queue.sent], []
        self.program().settle()
        assert self.spool.files() == before
