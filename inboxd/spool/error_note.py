"""The error note next to a failed file: the reason, what the user can do, and a signature that identifies the file."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote_from_bytes, unquote_to_bytes

from inboxd.logs.text import count_in_words, escape

SUFFIX = b".error.txt"
NOTE_BYTES_MAX = 65_536
REASON_CHARS_MAX = 4000
EARLIER_MAX = 10
"""Maximum earlier failures in a note; older ones are dropped."""
EARLIER_CHARS_MAX = 500
_NAME_BYTES_MAX = 255
_SIGNATURE = "inboxd note"
_PATH = "inboxd path: "
_REASON = "Reason: "
_EARLIER = "Before it was put back into inbox/:"
_ITEM = "  - "
_CORRECT = "  - Correct the cause named above, then move the file from failed/ back into inbox/, so that it is processed again."
_OUTPUT = "  - Nothing, if you know how the file came about. It is not processed again with the others in failed/."
_TRIED = re.compile(r"It was tried (?:once|([0-9]{1,6}) times)\.")
_FAILED_AT = re.compile(r"For the administrator: inbox \S+, (.+)\.")
_SIGNED = re.compile(_SIGNATURE + r": parcel ([0-9a-f]{28}), file ([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class ParsedNote:
    """The content of a note: the file's path below inbox/, its parcel, and why, when and after how many attempts it failed.

    ``attempts`` is 0 for a refused file; ``earlier`` has a line for each failure before the file was requeued, oldest first.
    ``is_output``: a handler made the file, nobody dropped it.
    """

    path: bytes
    parcel: str
    reason: str
    attempts: int
    failed_at: str
    earlier: tuple[str, ...]
    is_output: bool = False

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
    is_output: bool = False,
) -> bytes:  # fmt: skip
    """Return a note's text in UTF-8.

    ``reason`` is for the person who dropped the file; ``failed_at`` is in Unix seconds; for ``earlier`` and ``is_output`` see
    ParsedNote.
    """
    local_time = datetime.fromtimestamp(failed_at, tz=UTC).astimezone()
    tried = "It was not passed to the handler." if attempts == 0 else f"It was tried {count_in_words(attempts)}."
    lines = [
        f"{escape(path)[:REASON_CHARS_MAX]} could not be processed.",
        "",
        f"{_REASON}{escape(reason)[:REASON_CHARS_MAX]}",
        tried,
        *([_EARLIER, *(_ITEM + line for line in trim_history(earlier))] if earlier else []),
        "",
        "What you can do:",
        *([_OUTPUT] if is_output else [_CORRECT]),
        "  - If you don't need the file, delete it together with this note.",
        "The file itself is unchanged. It is stored next to this note.",
        "",
        f"For the administrator: inbox {inbox}, {local_time:%Y-%m-%d %H:%M:%S %z}.",
        _PATH + quote_from_bytes(path),
    ]
    return "\n".join([*lines, ""]).encode("utf-8", "replace") + signature(path, parcel) + b"\n"


def parse_note(text: bytes) -> ParsedNote | None:
    """Parse a note; return None if it has no signature of inboxd's, or if its signature is for another path."""
    lines = text.decode("utf-8", "replace").splitlines()
    signed_line = next((match for line in lines if (match := _SIGNED.fullmatch(line))), None)
    path = next((unquote_to_bytes(line.removeprefix(_PATH)) for line in lines if line.startswith(_PATH)), b"")
    if signed_line is None or signature(path, signed_line[1]).decode() != signed_line[0]:
        return None
    reason = next((line.removeprefix(_REASON) for line in lines if line.startswith(_REASON)), "")
    tried_line = next((match for line in lines if (match := _TRIED.fullmatch(line))), None)
    failed_at = next((match[1] for line in lines if (match := _FAILED_AT.fullmatch(line))), "")
    attempts = 0 if tried_line is None else int(tried_line[1] or 1)
    return ParsedNote(path, signed_line[1], reason, attempts, failed_at, _parse_earlier(lines), is_output=_OUTPUT in lines)


def _parse_earlier(lines: list[str]) -> tuple[str, ...]:
    if _EARLIER not in lines:
        return ()
    rest = lines[lines.index(_EARLIER) + 1 :]
    return trim_history(line.removeprefix(_ITEM) for line in rest[: rest.index("") if "" in rest else None])


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
