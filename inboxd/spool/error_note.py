"""The error note next to a failed file: a text for the person who dropped it, then a block for administrators and programs.

The block is the same in every language. It ends with a signature, which identifies the file.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from urllib.parse import quote_from_bytes, unquote_to_bytes

from inboxd.logs.text import count_in_words, escape
from inboxd.spool.failure import FailureKind
from inboxd.spool.old_note import parse_old_block

SUFFIX = b".error.txt"
NOTE_BYTES_MAX = 131_072
REASON_CHARS_MAX = 4000
TEXT_CHARS_MAX = 8000
"""Maximum length of the part for the person who dropped the file."""
EARLIER_MAX = 10
"""Maximum earlier failures in a note; older ones are dropped."""
EARLIER_CHARS_MAX = 500
_NAME_BYTES_MAX = 255
_SIGNATURE = "inboxd note"
_PATH = "inboxd path: "
_BLOCK = "---------- For the administrator ----------"
_INBOX, _FAILED_AT, _KIND, _ATTEMPTS, _REASON = "Inbox: ", "Failed at: ", "Kind: ", "Attempts: ", "Reason: "
_COPIES = " (copies sent to the task; its own retries are not counted)"
_EARLIER = "Earlier failures:"
_RETRY = "To process it again: correct the cause, then run `inboxd retry` with the path of the file or of this note."
_ITEM = "  - "
_SIGNED = re.compile(_SIGNATURE + r": parcel ([0-9a-f]{28}), file ([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class ParsedNote:
    """The content of a note: the file's path below inbox/, its parcel, and why, when and after how many attempts it failed.

    ``attempts`` is 0 for a refused file; ``earlier`` has a line for each failure before the file was requeued, oldest first.
    ``kind`` is a FailureKind, or the word of a newer version; "" in a note of an older one.
    """

    path: bytes
    parcel: str
    reason: str
    attempts: int
    failed_at: str
    earlier: tuple[str, ...]
    kind: str = ""

    @property
    def is_output(self) -> bool:
        """Whether a handler made the file, and nobody dropped it."""
        return self.kind == FailureKind.OUTPUT

    @property
    def history(self) -> tuple[str, ...]:
        """The ``earlier`` lines of the file's next note: its earlier failures and this one."""
        tried = f", tried {count_in_words(self.attempts)}" if self.attempts else ""
        return trim_history((*self.earlier, f"{self.failed_at}{tried}: {self.reason}"))


def note_name(file: bytes) -> bytes:
    """Return the name of a file's note; a name too long for the suffix is cut and made unique by a digest."""
    if len(file) + len(SUFFIX) <= _NAME_BYTES_MAX:
        return file + SUFFIX
    digest = b"~" + hashlib.sha256(file).hexdigest()[:8].encode()
    cut = file[: _NAME_BYTES_MAX - len(SUFFIX) - len(digest)]
    return cut.decode("utf-8", "ignore").encode() + digest + SUFFIX


def format_note(
    path: bytes, reason: str, *, inbox: str, parcel: str, attempts: int, failed_at: float, earlier: Sequence[str] = (),
    kind: FailureKind = FailureKind.RAISED, text: str = "", counts_copies: bool = False,
) -> bytes:  # fmt: skip
    """Return a note's text in UTF-8.

    ``text`` is for the person who dropped the file, ``reason`` one line for the administrator; ``failed_at`` is in Unix
    seconds; for ``earlier`` see ParsedNote. ``counts_copies``: attempts are what was sent to a task of another app.
    """
    local_time = datetime.fromtimestamp(failed_at, tz=UTC).astimezone()
    lines = [
        text[:TEXT_CHARS_MAX],
        "",
        _BLOCK,
        f"{_INBOX}{inbox}",
        f"{_FAILED_AT}{local_time:%Y-%m-%d %H:%M:%S %z}",
        f"{_KIND}{kind}",
        f"{_ATTEMPTS}{attempts}{_COPIES if attempts and counts_copies else ''}",
        f"{_REASON}{escape(reason)[:REASON_CHARS_MAX]}",
        *([_EARLIER, *(_ITEM + line for line in trim_history(earlier))] if earlier else []),
        *([] if kind is FailureKind.OUTPUT else [_RETRY]),
        _PATH + quote_from_bytes(path),
    ]
    return "\n".join([*lines, ""]).encode("utf-8", "replace") + signature(path, parcel) + b"\n"


def parse_note(text: bytes) -> ParsedNote | None:
    """Parse a note; return None if it has no signature of inboxd's, or if its signature is for another path.

    In a note with a block for administrators, nothing above it counts.
    """
    lines = text.decode("utf-8", "replace").splitlines()
    if _BLOCK in lines:
        lines = lines[len(lines) - lines[::-1].index(_BLOCK) :]
        parse = _parse_block
    else:
        parse = parse_old_block
    signed_line = next((match for line in lines if (match := _SIGNED.fullmatch(line))), None)
    path = unquote_to_bytes(_find(lines, _PATH))
    if signed_line is None or signature(path, signed_line[1]).decode() != signed_line[0]:
        return None
    reason, attempts, failed_at, earlier, kind = parse(lines)
    return ParsedNote(path, signed_line[1], reason, attempts, failed_at, trim_history(earlier), kind)


def _parse_block(lines: list[str]) -> tuple[str, int, str, list[str], str]:
    """Return reason, attempts, time, earlier failures and kind."""
    attempts = _find(lines, _ATTEMPTS).removesuffix(_COPIES)
    earlier = []
    if _EARLIER in lines:
        rest = lines[lines.index(_EARLIER) + 1 :]
        earlier = [line.removeprefix(_ITEM) for line in takewhile(lambda line: line.startswith(_ITEM), rest)]
    count = int(attempts) if re.fullmatch(r"[0-9]{1,6}", attempts) else 0
    return _find(lines, _REASON), count, _find(lines, _FAILED_AT), earlier, _find(lines, _KIND)


def _find(lines: list[str], key: str) -> str:
    return next((line.removeprefix(key) for line in lines if line.startswith(key)), "")


def trim_history(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the latest lines of a history: at most EARLIER_MAX, each cut to EARLIER_CHARS_MAX characters."""
    return tuple(escape(line)[:EARLIER_CHARS_MAX] for line in lines)[-EARLIER_MAX:]


def is_note(text: bytes) -> bool:
    """Return whether a text has the signature line of an error note; the signature itself is not checked."""
    return any(line.startswith(_SIGNATURE.encode()) for line in text.splitlines())


def signature(path: bytes, parcel: str) -> bytes:
    """Return a note's signature line, which identifies the parcel and the file's path."""
    digest = hashlib.sha256(path).hexdigest()[:32]
    return f"{_SIGNATURE}: parcel {parcel}, file {digest}".encode()
