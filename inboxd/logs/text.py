"""Text for one line of a log or a terminal: nothing in it can forge a line or move a cursor."""


def escape(text: bytes | str) -> str:
    """Return text on one line, with everything that could move a cursor or forge a line escaped."""
    decoded = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    if decoded.isprintable():  # almost always: a hundred times as quick as looking at each character
        return decoded
    return "".join(c if c.isprintable() else _escape_character(c) for c in decoded)


def _escape_character(character: str) -> str:
    """Return one character's escape; a byte that is no UTF-8 has the same, whether it came as bytes or within a text."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def count_in_words(count: int) -> str:
    """Return how often something was done, in words."""
    return "once" if count == 1 else f"{count} times"
