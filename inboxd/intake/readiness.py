"""Decide from one stat, one check for writers and the time whether a file is complete. Pure and stateless."""

import fnmatch
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from inboxd.config.rules import Rules
from inboxd.fs.syscalls import FileKind, Stat, WriterCheck
from inboxd.intake.temporary_names import SHORTCUTS, Meaning, folder_meaning, name_table
from inboxd.spool.failure import Failure, FailureKind

BUSY_RECHECK_SECONDS = 1.0
"""Seconds until a busy file is checked again, in case the event of its closing is lost."""

CLOCK_SKEW_SECONDS = 60.0
"""How many seconds a file's ctime may be in the future before it counts as written by a clock that was set back."""

_PARTIAL_MTIME_NS = 10**9
"""`rsync --partial` gives a file that it did not complete an mtime in the first second of 1970, with nanoseconds."""

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Ready:
    """The file is complete, and can be claimed."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The file must be checked again at ``until`` (unix seconds of the file system's clock), or at the next event.

    ``is_certain`` says that it is complete then unless it changes; otherwise ``until`` is only the time of the next check.
    """

    until: float
    reason: str
    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class Ignore:
    """The entry stays where it is."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The entry can't be accepted: it is moved to failed/, and its error note says why."""

    failure: Failure


Decision = Ready | Wait | Ignore | Refuse


@dataclass(frozen=True, slots=True)
class WaitTimes:
    """How many seconds a file must be unchanged to be complete, and whether its mount's kernel leases detect all writers."""

    settle_seconds: float
    unsure_seconds: float
    empty_seconds: float
    trusts_leases: bool = True

    def plus(self, seconds: float) -> "WaitTimes":
        """Return wait times that are longer by ``seconds``."""
        return WaitTimes(
            self.settle_seconds + seconds, self.unsure_seconds + seconds, self.empty_seconds + seconds, self.trusts_leases
        )


def decide_by_name(path: bytes, rules: Rules, *, is_final: bool = False) -> Ignore | None:
    """Return why a name is ignored, or None. ``path`` is relative to inbox/; patterns without a slash match its last part.

    With ``is_final`` the name is known not to be temporary, whatever it looks like.
    """
    if not is_final and (meaning := name_table(rules.temporary_names).meaning(path.rpartition(b"/")[2])):
        return Ignore(meaning.value)
    if rules.include != ("*",) and not any(_matches(path, pattern, rules.case_sensitive) for pattern in rules.include):
        return Ignore(f"no pattern of include = {list(rules.include)} matches")
    for pattern in rules.exclude:
        if _matches(path, pattern, rules.case_sensitive):
            return Ignore(f"exclude = {pattern!r} matches")
    return None


def decide_by_folder_name(name: bytes) -> Ignore | None:
    """Return why a sub-folder is not scanned, or None: programs store their own data in folders such as .git and @eaDir."""
    match folder_meaning(name):
        case None:
            return None
        case Meaning.IN_PROGRESS:
            return Ignore("a folder with a temporary name: it is scanned once it has its final name")
        case _:
            return Ignore("a folder that programs store for themselves")


def decide(stat: Stat, writers: WriterCheck, now: float, waits: WaitTimes, *, is_incomplete: bool = False) -> Decision:
    """Decide about an entry whose name is accepted.

    ``now`` is unix seconds of the file system's clock. The age counts from ctime, which a dropper can't set. ``writers`` may be
    UNKNOWN for a file that has not settled; ``is_incomplete`` says that a name next to the file marks it as such, or that rsync
    has left it half transferred.
    """
    changed = _changed_at(stat, now)
    if now < changed + waits.settle_seconds:
        return Wait(changed + waits.settle_seconds, f"settling: changed {_format_age(now - changed)}")
    if stat.kind is not FileKind.FILE:
        return Refuse(_not_a_file(stat.kind))
    if writers is WriterCheck.BUSY:
        return Wait(now + BUSY_RECHECK_SECONDS, "a program has the file open for writing", is_certain=False)
    if is_incomplete or 0 < stat.mtime_ns < _PARTIAL_MTIME_NS:
        return Wait(now + BUSY_RECHECK_SECONDS, "a transfer of the file is in progress", is_certain=False)
    if stat.size == 0 and now < changed + waits.empty_seconds:
        return Wait(changed + waits.empty_seconds, f"empty so far: changed {_format_age(now - changed)}")
    if (writers is WriterCheck.UNKNOWN or not waits.trusts_leases) and now < changed + waits.unsure_seconds:
        return Wait(changed + waits.unsure_seconds, f"a writer may be undetected: changed {_format_age(now - changed)}")
    return Ready()


def find_shortcut(path: bytes) -> Failure | None:
    """Return why a file that only refers to another one is refused; None if it does not."""
    suffix = path[path.rfind(b".") :].lower() if b"." in path else b""
    if suffix not in SHORTCUTS:
        return None
    return Failure(FailureKind.SHORTCUT, f"a shortcut ({SHORTCUTS[suffix]}): drop the file itself")


def find_refusal(stat: Stat, size_bytes_max: int) -> Failure | None:
    """Return why an entry can't be accepted; None if it can be."""
    if stat.kind is not FileKind.FILE:
        return _not_a_file(stat.kind)
    if size_bytes_max and stat.size > size_bytes_max:
        reason = f"the file has {stat.size} bytes: this inbox accepts at most {size_bytes_max} bytes"
        return Failure(FailureKind.TOO_LARGE, reason)
    return None


def looks_sparse(stat: Stat) -> bool:
    """Return whether a file is large and has few blocks; some FUSE file systems report none for any file."""
    return stat.size > _GIB and stat.allocated < stat.size // 100


def is_settled(stat: Stat, now: float, waits: WaitTimes) -> bool:
    """Return whether this is a regular file that has been unchanged for ``settle_seconds``, so that a writer check is due."""
    return stat.kind is FileKind.FILE and now >= _changed_at(stat, now) + waits.settle_seconds


def _changed_at(stat: Stat, now: float) -> float:
    """Return the ctime in unix seconds; 0 if it is in the future, which means that the clock was set back since."""
    changed = stat.ctime_ns / 1e9
    return changed if changed <= now + CLOCK_SKEW_SECONDS else 0.0


def _not_a_file(kind: FileKind) -> Failure:
    failure_kind = FailureKind.LINK if kind is FileKind.LINK else FailureKind.NOT_A_FILE
    return Failure(failure_kind, f"not a regular file but a {kind}: drop the file itself")


def _format_age(seconds: float) -> str:
    return f"{max(seconds, 0.0):.1f} s ago"


@lru_cache(maxsize=1024)
def _compile(pattern: str, case_sensitive: bool) -> re.Pattern[str]:
    flags = re.DOTALL if case_sensitive else re.DOTALL | re.IGNORECASE
    return re.compile(fnmatch.translate(unicodedata.normalize("NFC", pattern)), flags)


def _matches(path: bytes, pattern: str, case_sensitive: bool) -> bool:
    """Return whether a path matches a pattern in Unicode's composed form (NFC): macOS stores names decomposed."""
    name = (path if "/" in pattern else path.rpartition(b"/")[2]).decode("utf-8", "surrogateescape")
    return _compile(pattern, case_sensitive).fullmatch(unicodedata.normalize("NFC", name)) is not None
