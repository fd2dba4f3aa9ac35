"""Is this file complete? Decided from one look at it and the clock; pure, and without memory of earlier looks."""

import fnmatch
import re
from dataclasses import dataclass
from functools import lru_cache

from inboxd.fs.syscalls import FileKind, Stat, WriterCheck

BUSY_RECHECK_SECONDS = 1.0
"""A busy file is looked at again so soon, should the event of its closing get lost."""

CLOCK_SKEW_SECONDS = 60.0
"""So far may a file system's clock be ahead of the time that files are judged by."""

_GIB = 1024**3

_PARTIAL_SUFFIXES = (
    b".part", b".partial", b".filepart", b".crdownload", b".download", b".opdownload", b".aria2", b".upload", b".!ut",
)  # fmt: skip
"""What a name ends in while its bytes are on their way: browsers and WinSCP put it beside the final name."""

_TEMPORARY = re.compile(
    rb"\..*"                                  # a leading dot: rsync, editors, our own probes
    rb"|~.*|.*~|\#.*\#"                       # office programs' locks, editors' backups
    rb"|.*\.(?:tmp|temp|swp|swx|part|partial|filepart|crdownload|download|opdownload|aria2|upload|!ut)"
    rb"|4913|Thumbs\.db|desktop\.ini|Icon\r|@eaDir",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ready:
    """Take it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again at ``until`` (unix seconds of the file system's clock), or when an event says so.

    ``sure`` says that it is complete by then, if nothing happens to it; else it is only worth another look.
    """

    until: float
    why: str
    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class Ignore:
    """Leave it where it is."""

    why: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Take it, and file it under failed/ with this reason."""

    why: str


Decision = Ready | Wait | Ignore | Refuse


@dataclass(frozen=True, slots=True)
class WaitTimes:
    """How many seconds a file must be unchanged to count as complete; and whether its mount answers lease requests."""

    settle_seconds: float
    unsure_seconds: float
    empty_seconds: float
    trusts_leases: bool = True

    def plus(self, seconds: float) -> "WaitTimes":
        """Return times that are longer by ``seconds``."""
        return WaitTimes(
            self.settle_seconds + seconds, self.unsure_seconds + seconds, self.empty_seconds + seconds, self.trusts_leases
        )


def decide_by_name(path: bytes, include: tuple[str, ...], exclude: tuple[str, ...]) -> Ignore | None:
    """Decide what a name alone can decide. ``path`` is relative to inbox/; patterns without a slash mean the last part."""
    if _TEMPORARY.fullmatch(path.rpartition(b"/")[2]):
        return Ignore("a temporary name: it is taken once it has its final name")
    if include != ("*",) and not any(_matches(path, pattern) for pattern in include):
        return Ignore(f"no pattern of include = {list(include)} fits")
    for pattern in exclude:
        if _matches(path, pattern):
            return Ignore(f"exclude = {pattern!r} fits")
    return None


def decide_by_folder_name(name: bytes) -> Ignore | None:
    """Decide whether a sub-folder is looked into: programs keep their own things in dotted and @-folders."""
    if name.startswith(b".") or name == b"@eaDir":
        return Ignore("a hidden folder")
    return None


def partial_download_names(name: bytes) -> tuple[bytes, ...]:
    """Return the names that say, when they stand beside ``name``, that it is still being downloaded."""
    return tuple(name + suffix for suffix in _PARTIAL_SUFFIXES)


def decide(stat: Stat, writers: WriterCheck, now: float, waits: WaitTimes, *, is_downloading: bool = False) -> Decision:
    """Decide about a file whose name is in order.

    ``now`` is unix seconds of the file system's clock. Age counts from ctime, which no dropper can forge. ``idle`` may be
    UNKNOWN while the file is too young to be asked about; ``partial`` tells that a download's other name stands beside it.
    """
    changed = _changed_at(stat, now)
    if now < changed + waits.settle_seconds:
        return Wait(changed + waits.settle_seconds, f"settling: it changed {_format_age(now - changed)}")
    if stat.kind is not FileKind.FILE:
        return Refuse(_not_a_file(stat.kind))
    if writers is WriterCheck.BUSY:
        return Wait(now + BUSY_RECHECK_SECONDS, "a program has it open for writing", is_certain=False)
    if is_downloading:
        return Wait(now + BUSY_RECHECK_SECONDS, "a browser is still downloading it", is_certain=False)
    if stat.size == 0 and now < changed + waits.empty_seconds:
        return Wait(changed + waits.empty_seconds, f"empty so far: it was made {_format_age(now - changed)}")
    if (writers is WriterCheck.UNKNOWN or not waits.trusts_leases) and now < changed + waits.unsure_seconds:
        return Wait(changed + waits.unsure_seconds, f"can't tell whether it is open; it changed {_format_age(now - changed)}")
    return Ready()


def refusal_reason(stat: Stat, size_bytes_max: int) -> str | None:
    """Return why an entry can't be accepted, in words for the person who dropped it; None if it can."""
    if stat.kind is not FileKind.FILE:
        return _not_a_file(stat.kind)
    if size_bytes_max and stat.size > size_bytes_max:
        return f"it has {stat.size} bytes, and this inbox takes files of at most {size_bytes_max} bytes"
    if stat.size > _GIB and stat.allocated < stat.size // 100:
        return f"it claims {stat.size} bytes but holds only {stat.allocated}: a sparse file with next to nothing in it"
    return None


def is_settled(stat: Stat, now: float, waits: WaitTimes) -> bool:
    """Tell whether it is worth asking who has the file open: it is a file, and old enough."""
    return stat.kind is FileKind.FILE and now >= _changed_at(stat, now) + waits.settle_seconds


def _changed_at(stat: Stat, now: float) -> float:
    """Return when a file last changed; a time that is yet to come is a clock's that was set back, and says nothing: 0."""
    changed = stat.ctime_ns / 1e9
    return changed if changed <= now + CLOCK_SKEW_SECONDS else 0.0


def _not_a_file(kind: FileKind) -> str:
    return f"it is a {kind}, not a file: drop the file itself"


def _format_age(seconds: float) -> str:
    return f"{max(seconds, 0.0):.1f} s ago"


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern), re.DOTALL)


def _matches(path: bytes, pattern: str) -> bool:
    subject = path if "/" in pattern else path.rpartition(b"/")[2]
    return _compiled(pattern).fullmatch(subject.decode("utf-8", "surrogateescape")) is not None
