"""The note beside a failed file: what went wrong, in plain words, and what to do; signed, so that it is known again."""

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
"""So many earlier failures are told of, the latest; each is cut to so many characters."""
EARLIER_CHARS_MAX = 500
_NAME_BYTES_MAX = 255
_SIGNATURE = "inboxd note"
_PATH = "inboxd path: "
_REASON = "Reason: "
_EARLIER = "Before it was put back into inbox/:"
_ITEM = "  - "
_TRIED = re.compile(r"It was tried (?:once|([0-9]+) times)\.")
_WHEN = re.compile(r"For the administrator: inbox \S+, (.+)\.")
_SIGNED = re.compile(_SIGNATURE + r": parcel ([0-9a-f]{28}), file ([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class ParsedNote:
    """What a note says: the file's path below inbox/, its parcel, why and when it failed, and how often it was tried.

    ``attempts`` is 0 for what was refused; ``earlier`` has a line for each failure that it was put back after.
    """

    path: bytes
    parcel: str
    reason: str
    attempts: int
    failed_at: str
    earlier: tuple[str, ...]

    @property
    def history(self) -> tuple[str, ...]:
        """The lines that a later note has to tell of: the earlier failures, and this one."""
        tried = f", tried {count_in_words(self.attempts)}" if self.attempts else ""
        return trim_history((*self.earlier, f"{self.failed_at}{tried}: {self.reason}"))


def note_name(file: bytes) -> bytes:
    """Return the note's name for a file's name; one too long for the suffix is cut, and told apart by a digest."""
    if len(file) + len(SUFFIX) <= _NAME_BYTES_MAX:
        return file + SUFFIX
    digest = b"~" + hashlib.sha256(file).hexdigest()[:8].encode()
    cut = file[: _NAME_BYTES_MAX - len(SUFFIX) - len(digest)]
    return cut.decode("utf-8", "ignore").encode() + digest + SUFFIX


def format_note(
    path: bytes, reason: str, *, inbox: str, parcel: str, attempts: int, at: float, earlier: Sequence[str] = ()
) -> bytes:
    """Return a note's text, UTF-8.

    ``reason`` is for the person who dropped the file; ``at`` is unix seconds; ``earlier`` has a line for each failure before.
    """
    when = datetime.fromtimestamp(at, tz=UTC).astimezone()
    tried = "It was not worked on." if attempts == 0 else f"It was tried {count_in_words(attempts)}."
    lines = [
        f"{escape(path)[:REASON_CHARS_MAX]} could not be processed.",
        "",
        f"{_REASON}{escape(reason)[:REASON_CHARS_MAX]}",
        tried,
        *([_EARLIER, *(_ITEM + line for line in trim_history(earlier))] if earlier else []),
        "",
        "What you can do:",
        "  - put right what the reason says, then move the file from failed/ back into inbox/: it is processed again;",
        "  - or, if it is not needed, delete it together with this note.",
        "The file itself is unchanged, and lies beside this note.",
        "",
        f"For the administrator: inbox {inbox}, {when:%Y-%m-%d %H:%M:%S %z}.",
        _PATH + quote_from_bytes(path),
    ]
    return "\n".join([*lines, ""]).encode("utf-8", "replace") + signature(path, parcel) + b"\n"


def parse_note(text: bytes) -> ParsedNote | None:
    """Read a note back; None if it is none of ours, or if its path is not the one that it was signed for."""
    lines = text.decode("utf-8", "replace").splitlines()
    signed = next((found for line in lines if (found := _SIGNED.fullmatch(line))), None)
    path = next((unquote_to_bytes(line.removeprefix(_PATH)) for line in lines if line.startswith(_PATH)), b"")
    if signed is None or signature(path, signed[1]).decode() != signed[0]:
        return None
    reason = next((line.removeprefix(_REASON) for line in lines if line.startswith(_REASON)), "")
    tried = next((found for line in lines if (found := _TRIED.fullmatch(line))), None)
    when = next((found[1] for line in lines if (found := _WHEN.fullmatch(line))), "")
    attempts = 0 if tried is None else int(tried[1] or 1)
    return ParsedNote(path, signed[1], reason, attempts, when, _parse_earlier(lines))


def _parse_earlier(lines: list[str]) -> tuple[str, ...]:
    if _EARLIER not in lines:
        return ()
    below = lines[lines.index(_EARLIER) + 1 :]
    return trim_history(line.removeprefix(_ITEM) for line in below[: below.index("") if "" in below else None])


def trim_history(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the latest lines of a history, as many and as much of each as a note has room for."""
    return tuple(escape(line)[:EARLIER_CHARS_MAX] for line in lines)[-EARLIER_MAX:]


def is_note(text: bytes) -> bool:
    """Tell whether a text is a note of inboxd's."""
    return any(line.startswith(_SIGNATURE.encode()) for line in text.splitlines())


def signature(path: bytes, parcel: str) -> bytes:
    """Return the line that says which file, of which parcel, a note belongs to."""
    digest = hashlib.sha256(path).hexdigest()[:32]
    return f"{_SIGNATURE}: parcel {parcel}, file {digest}".encode()
