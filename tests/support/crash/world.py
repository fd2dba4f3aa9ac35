"""A whole inboxd over one inbox, with a clock that a test moves on: programs come, meet their faults, and others come after."""

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path

from support.crash import handler as handling
from support.crash.fake_server import FakeRedis, Mail, Results
from support.crash.faults import Fault
from support.crash.fuse import Blown
from support.crash.handler import calls, fails
from support.crash.programs import NEVER, Program
from support.crash.spool_scenarios import notes_found, notes_wanted, places
from support.disk.disks import TwoDisks
from support.disk.spools import Spool
from support.parts.fake_context import HOST, settings
from support.parts.fakes import FakeCounters, FakeLeases, FakeProgress
from support.processes import dead_token

from inboxd.errors import TransientError
from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import Verdict
from inboxd.spool.layout import new_parcel_id
from inboxd.tasks.worker.process_identity import process_token

RULES = {"handler": f"{handling.__name__}:{handling.handle.__name__}", "retries": 1, "retry_backoff_seconds": 0.01}
AT_ONCE = {"settle_seconds": 0.0, "unsure_seconds": 0.0, "empty_file_seconds": 0.0}

dead = cache(dead_token)


class World:
    """One inbox, its disk, one Redis; and what must be found again, whatever happens."""

    def __init__(self, root: Path, disk: Disk | None = None, **rules: object) -> None:
        calls.clear()
        self.spool, self.disk = Spool.make(root), disk or Disk()
        self.inbox = self.spool.inbox(**{**RULES, **AT_ONCE, **rules})
        self.settings = settings(self.inbox)
        self.mail, self.results = Mail(), Results()
        self.leases = FakeLeases(outcomes=self.results.stored)
        self.progress = FakeProgress()
        self.counters = FakeCounters()
        self.redis = FakeRedis(self.mail, lambda: self.leases.now)
        self.contents: set[bytes] = set()
        self.settled: dict[bytes, bytes] = {}
        self.answered: set[bytes] = set()

    @property
    def in_flight(self) -> bool:
        """Whether anything is left to be done."""
        return bool(self.mail.queue or any((self.spool.root / "claimed").iterdir()) or self.spool.files("inbox"))

    def program(self, fault: Fault | None = None, point: int = NEVER) -> Program:
        """Start a program, which meets this fault."""
        return Program(self, fault, point)

    def claim(self, files: dict[bytes, bytes]) -> str:
        """Put files into a new parcel."""
        parcel = new_parcel_id()
        for path, content in files.items():
            self.spool.put(b"claimed/%s/%s" % (parcel.encode(), path), content)
        return parcel

    def publish(self, files: dict[bytes, bytes]) -> str:
        """Put files into a new parcel, and send it."""
        parcel = self.claim(files)
        self.program().publish(parcel)
        return parcel

    def begin(self) -> None:
        """Remember what there is: from here on, nothing may get lost, nor be handled again if its outcome is known."""
        lying = self.spool.files()
        self.contents = set(places(lying))
        self.settled = {path: data for path, data in lying.items() if path.startswith((b"done/", b"failed/"))}
        self.answered = {content for content in calls if not content.startswith(b"raise")}

    def bury(self) -> None:
        """Let the programs so far be dead: the tokens that they have left behind name a process that has ended."""
        mine, gone = process_token(HOST).rpartition("/")[0], dead(HOST)
        for record in self.leases.records.values():
            if record.token.startswith(mine):
                record.token = gone
        for key, (value, until) in list(self.redis.values.items()):
            if value.startswith(mine.encode()):
                self.redis.values[key] = gone.encode(), until

    def meet(self, act: Callable[[Program], object], fault: Fault, point: int) -> bool:
        """Let a program act until it meets its fault; tells whether it has so many operations."""
        program = self.program(fault, point)
        try:
            act(program)
        except (Blown, TransientError, OSError):
            if not program.fuse.blown:
                raise
        if fault.kills and program.fuse.blown:
            self.bury()
            self._believe_notes()
        return program.fuse.blown

    def _believe_notes(self) -> None:
        """What a dead worker has left word of, no handler may see again."""
        for parcel, noted in self.progress.noted.items():
            lying = self.spool.files(f"claimed/{parcel}")
            final = [path for path, file in noted.items() if file.verdict in (Verdict.DONE, Verdict.REJECTED)]
            self.answered |= {lying[path] for path in final if path in lying}

    def assert_nothing_is_lost(self) -> None:
        """Every content lies in one place, nothing was overwritten, and no file failed without a note."""
        lying = self.spool.files()
        found = places(lying)
        assert found.keys() == self.contents
        if not isinstance(self.disk, TwoDisks):  # between two disks a whole copy is named before its source goes
            assert {content: len(paths) for content, paths in found.items()} == dict.fromkeys(self.contents, 1)
        assert self.settled.items() <= lying.items()
        assert notes_wanted(lying) <= notes_found(lying)

    def assert_all_is_filed(self) -> None:
        """Every content lies where its outcome wants it, once, and nothing else is left."""
        self.assert_nothing_is_lost()
        lying = self.spool.files()
        tops = {content: [path.split(b"/")[0] for path in paths] for content, paths in places(lying).items()}
        new = self.contents - set(self.settled.values())
        assert {content: tops[content] for content in new} == {c: [b"failed" if fails(c) else b"done"] for c in new}
        assert not self.in_flight
        assert {content: calls[content] for content in self.answered} == dict.fromkeys(self.answered, 1)

    def assert_copies_change_nothing(self) -> None:
        """Every message that was ever sent may come once more: from those that dead workers had, or as a late copy."""
        before = self.spool.files()
        self.mail.queue, self.mail.unacked = [dataclasses.replace(message) for message in self.mail.sent], []
        self.program().settle()
        assert self.spool.files() == before
