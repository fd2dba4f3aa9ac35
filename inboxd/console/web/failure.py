"""What the page knows of one failed file, and the selection of failed files by inbox and reason. Pure."""

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

COMMON_REASONS = 20
"""Number of reasons that the page offers as filters, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or refused folder in failed/: its path there, why and when it failed, in Unix seconds; "" without a valid note.

    ``identity`` is inode and mtime in ns of its note, or of the file if it has none.
    """

    inbox: str
    path: bytes
    reason: str
    failed_at: float
    attempts: int
    identity: tuple[int, int]
    is_folder: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Failures:
    """The failed files at one time, the latest first. ``is_complete``: all notes have been read at least once.

    ``is_truncated``: there are more files than the index keeps. ``problems`` has, by inbox, why its files can't be read.
    """

    files: Sequence[Failure] = ()
    version: int = 0
    is_complete: bool = False
    is_truncated: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    reasons: Sequence[tuple[str, int]] = ()
    problems: Mapping[str, str] = field(default_factory=dict)


def collect(
    files: Iterable[Failure], version: int, problems: Mapping[str, str], *, is_complete: bool, is_truncated: bool
) -> Failures:
    """Sort and count failed files."""
    latest_first = sorted(files, key=lambda failure: failure.failed_at, reverse=True)
    counts = Counter(failure.inbox for failure in latest_first)
    reasons = Counter(failure.reason for failure in latest_first if failure.reason).most_common(COMMON_REASONS)
    return Failures(latest_first, version, is_complete, is_truncated, counts, reasons, dict(problems))


@dataclass(frozen=True, slots=True)
class FailureFilter:
    """Which failed files to show: in ``inbox`` ("": all), with the text ``reason`` in the reason and ``name`` in the path.

    A text with * or ? is a pattern for the whole, as in `inboxd retry --error`. ``until``: those that failed by then.
    """

    inbox: str = ""
    reason: str = ""
    name: str = ""
    until: float | None = None

    @property
    def is_all(self) -> bool:
        """Whether every failed file is selected."""
        return not (self.inbox or self.reason or self.name)


def select(files: Iterable[Failure], wanted: FailureFilter) -> list[Failure]:
    """Return the files that a filter selects by inbox, reason and name, in their order."""
    has_reason, has_name = _matcher(wanted.reason), _matcher(wanted.name)
    verdicts: dict[str, bool] = {}
    selected = []
    for failure in files:
        if wanted.inbox and failure.inbox != wanted.inbox:
            continue
        if has_reason:
            verdict = verdicts.get(failure.reason)
            if verdict is None:
                verdict = verdicts[failure.reason] = has_reason(failure.reason)
            if not verdict:
                continue
        if not has_name or has_name(failure.path.decode("utf-8", "surrogateescape")):
            selected.append(failure)
    return selected


def _matcher(wanted: str) -> Callable[[str], bool] | None:
    if not wanted:
        return None
    lower = wanted.lower()
    if "*" in wanted or "?" in wanted:
        pattern = re.compile(fnmatch.translate(lower))
        return lambda text: pattern.match(text.lower()) is not None
    return lambda text: lower in text.lower()
