"""The note beside a failed file: what went wrong, in plain words, and what to do; signed, so that it is known again."""

import hashlib
from datetime import UTC, datetime

SUFFIX = b".error.txt"
NOTE_BYTES_MAX = 65_536
TEXT_CHARS_MAX = 4000
_NAME_BYTES_MAX = 255
_SIGN = "inboxd note"


def name_for(file: bytes) -> bytes:
    """Return the note's name for a file's name; one too long for the suffix is cut, and told apart by a digest."""
    if len(file) + len(SUFFIX) <= _NAME_BYTES_MAX:
        return file + SUFFIX
    digest = b"~" + hashlib.sha256(file).hexdigest()[:8].encode()
    cut = file[: _NAME_BYTES_MAX - len(SUFFIX) - len(digest)]
    return cut.decode("utf-8", "ignore").encode() + digest + SUFFIX


def write(path: bytes, reason: str, *, inbox: str, parcel: str, attempts: int, at: float) -> bytes:
    """Return a note's text, UTF-8. ``reason`` is for the person who dropped the file; ``at`` is unix seconds."""
    when = datetime.fromtimestamp(at, tz=UTC).astimezone()
    tried = "It was not worked on." if attempts == 0 else f"It was tried {_times(attempts)}."
    lines = [
        f"{plain(path)[:TEXT_CHARS_MAX]} could not be processed.",
        "",
        f"Reason: {plain(reason)[:TEXT_CHARS_MAX]}",
        tried,
        "",
        "What you can do:",
        "  - put right what the reason says, then move the file from failed/ back into inbox/: it is processed again;",
        "  - or, if it is not needed, delete it together with this note.",
        "The file itself is unchanged, and lies beside this note.",
        "",
        f"For the administrator: inbox {inbox}, {when:%Y-%m-%d %H:%M:%S %z}.",
    ]
    return "\n".join([*lines, ""]).encode("utf-8", "replace") + signature(path, parcel) + b"\n"


def is_ours(text: bytes) -> bool:
    """Tell whether a text is a note of inboxd's."""
    return any(line.startswith(_SIGN.encode()) for line in text.splitlines())


def signature(path: bytes, parcel: str) -> bytes:
    """Return the line that says which file, of which parcel, a note belongs to."""
    digest = hashlib.sha256(path).hexdigest()[:32]
    return f"{_SIGN}: parcel {parcel}, file {digest}".encode()


def plain(text: bytes | str) -> str:
    """Return text on one line, with everything that could move a cursor or forge a line escaped."""
    decoded = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in decoded)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
