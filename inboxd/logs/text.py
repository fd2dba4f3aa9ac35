"""Escapes text, so that it can neither add a line to a log nor move a terminal's cursor; and phrases counts."""


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
