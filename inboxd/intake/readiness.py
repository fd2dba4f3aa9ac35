"""Is this file complete? Decided from one look at it and the clock; pure, and without memory of earlier looks."""

import fnmatch
import re
from dataclasses import dataclass
from functools import lru_cache

from inboxd.fs.syscalls import FileKind, Stat, WriterCheck

BUSY_LOOK_SECONDS = 1.0
"""A busy file is looked at again so soon, should the event of its closing get lost."""

CLOCK_SECONDS = 60.0
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
    sure: bool = True


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
class Patience:
    """How long an inbox waits, in seconds; ``trusted`` says that a lease's answer is worth something on its mount."""

    settle: float
    unsure: float
    empty: float
    trusted: bool = True


def by_name(path: bytes, include: tuple[str, ...], exclude: tuple[str, ...]) -> Ignore | None:
    """Decide what a name alone can decide. ``path`` is relative to inbox/; patterns without a slash mean the last part."""
    if _TEMPORARY.fullmatch(path.rpartition(b"/")[2]):
        return Ignore("a temporary name: it is taken once it has its final name")
    if include != ("*",) and not any(_matches(path, pattern) for pattern in include):
        return Ignore(f"no pattern of include = {list(include)} fits")
    for pattern in exclude:
        if _matches(path, pattern):
            return Ignore(f"exclude = {pattern!r} fits")
    return None


def folder_by_name(name: bytes) -> Ignore | None:
    """Decide whether a sub-folder is looked into: programs keep their own things in dotted and @-folders."""
    if name.startswith(b".") or name == b"@eaDir":
        return Ignore("a hidden folder")
    return None


def partial_names(name: bytes) -> tuple[bytes, ...]:
    """Return the names that say, when they stand beside ``name``, that it is still being downloaded."""
    return tuple(name + suffix for suffix in _PARTIAL_SUFFIXES)


def decide(look: Stat, idle: WriterCheck, now: float, patience: Patience, *, partial: bool = False) -> Decision:
    """Decide about a file whose name is in order.

    ``now`` is unix seconds of the file system's clock. Age counts from ctime, which no dropper can forge. ``idle`` may be
    UNKNOWN while the file is too young to be asked about; ``partial`` tells that a download's other name stands beside it.
    """
    changed = _changed(look, now)
    if now < changed + patience.settle:
        return Wait(changed + patience.settle, f"settling: it changed {_ago(now - changed)}")
    if look.kind is not FileKind.FILE:
        return Refuse(_no_file(look.kind))
    if idle is WriterCheck.BUSY:
        return Wait(now + BUSY_LOOK_SECONDS, "a program has it open for writing", sure=False)
    if partial:
        return Wait(now + BUSY_LOOK_SECONDS, "a browser is still downloading it", sure=False)
    if look.size == 0 and now < changed + patience.empty:
        return Wait(changed + patience.empty, f"empty so far: it was made {_ago(now - changed)}")
    if (idle is WriterCheck.UNKNOWN or not patience.trusted) and now < changed + patience.unsure:
        return Wait(changed + patience.unsure, f"can't tell whether it is open; it changed {_ago(now - changed)}")
    return Ready()


def refusal(look: Stat, size_bytes_max: int) -> str | None:
    """Return why an entry can't be accepted, in words for the person who dropped it; None if it can."""
    if look.kind is not FileKind.FILE:
        return _no_file(look.kind)
    if size_bytes_max and look.size > size_bytes_max:
        return f"it has {look.size} bytes, and this inbox takes files of at most {size_bytes_max} bytes"
    if look.size > _GIB and look.allocated < look.size // 100:
        return f"it claims {look.size} bytes but holds only {look.allocated}: a sparse file with next to nothing in it"
    return None


def settled(look: Stat, now: float, patience: Patience) -> bool:
    """Tell whether it is worth asking who has the file open: it is a file, and old enough."""
    return look.kind is FileKind.FILE and now >= _changed(look, now) + patience.settle


def _changed(look: Stat, now: float) -> float:
    """Return when a file last changed; a time that is yet to come is a clock's that was set back, and says nothing: 0."""
    changed = look.ctime_ns / 1e9
    return changed if changed <= now + CLOCK_SECONDS else 0.0


def _no_file(kind: FileKind) -> str:
    return f"it is a {kind}, not a file: drop the file itself"


def _ago(seconds: float) -> str:
    return f"{max(seconds, 0.0):.1f} s ago"


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern), re.DOTALL)


def _matches(path: bytes, pattern: str) -> bool:
    subject = path if "/" in pattern else path.rpartition(b"/")[2]
    return _compiled(pattern).fullmatch(subject.decode("utf-8", "surrogateescape")) is not None
