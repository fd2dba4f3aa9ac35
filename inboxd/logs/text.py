"""Escapes text, so that it can neither add a line to a log nor move a terminal's cursor; and phrases counts and ages."""

import re
import signal

TEXT_CHARS_MAX = 70_000
"""Maximum length of one text in the log: the longest escaped path is shorter, an exception's message may be of any length."""

_PARTS = ((86_400, "d"), (3600, "h"), (60, "min"))
_PASSWORD = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*:)[^\s]+(?=@)")
_NAMED_SECRET = re.compile(
    r"((?:password|passwd|pwd|token|secret|sig|signature|api_?key|auth|credential|session)s?=)[^\s&;,'\"<>]+", re.IGNORECASE
)
_AUTHORIZATION = re.compile(
    r"(authorization['\"]?\s*[:=]\s*['\"]?(?:(?:Basic|Bearer|Digest|Token)\s+)?)[^\s'\",]+", re.IGNORECASE
)


def mask_passwords(text: str) -> str:
    """Return text in which what looks like a secret is replaced by asterisks.

    That is the password of a URL, what follows ``password=``, ``token=`` and the like, and an ``Authorization`` header.
    """
    if "://" in text:
        text = _PASSWORD.sub(r"\1***", text)
    if "=" in text:
        text = _NAMED_SECRET.sub(r"\1***", text)
    if "author" in text.lower():  # a search without regard to case takes longer than the rest of a line's value
        text = _AUTHORIZATION.sub(r"\1***", text)
    return text


def shorten(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    """Return text of at most ``chars_max`` characters: of a longer one, its beginning and its end."""
    if len(text) <= chars_max:
        return text
    middle = f" … ({len(text)} characters) … "
    half = (chars_max - len(middle)) // 2
    return text[:half] + middle + text[-half:]


def escape(text: bytes | str) -> str:
    """Return text with all unprintable characters escaped: line ends, control characters, bytes that are not UTF-8."""
    decoded = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    if decoded.isprintable():  # the usual case, 100 times as fast as checking each character here
        return decoded
    return "".join(c if c.isprintable() else _escape_character(c) for c in decoded)


def _escape_character(character: str) -> str:
    """Return one character's escape; a surrogate that stands for an undecodable byte has the byte's escape."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def count_in_words(count: int) -> str:
    """Return "once" or "N times"."""
    return "once" if count == 1 else f"{count} times"


def bytes_in_words(count: int) -> str:
    """Return "1 byte" or "N bytes"."""
    return "1 byte" if count == 1 else f"{count} bytes"


def describe_exit(code: int) -> str:
    """Return a description of an exit code: "exit code 3", or "signal SIGKILL" for -9."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def format_age(seconds: float | None) -> str:
    """Return an age in its two largest units: "45 s", "3 min 20 s", "2 d 4 h"; "-" for None."""
    if seconds is None:
        return "-"
    left = int(seconds)
    parts: list[str] = []
    for size, unit in _PARTS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join([*parts, f"{left} s"][:2])
