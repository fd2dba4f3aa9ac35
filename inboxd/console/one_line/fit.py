"""Fit text into columns of a terminal: wide characters take two cells. Pure.

Terminals don't agree on the width of flags, and of characters with a variation selector: the largest width counts here, so
that a line is never wrapped.
"""

from rich.cells import get_character_cell_size

CUT = "…"
_UNITS = ("kB", "MB", "GB", "TB", "PB")
_EMOJI_SELECTOR = "\ufe0f"
_FLAG_LETTERS = ("\U0001f1e6", "\U0001f1ff")


def count_cells(text: str) -> int:
    """Return the number of cells that a printable text takes at most."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def cut_end(text: str, width: int) -> str:
    """Return text of at most ``width`` cells; of a longer one the beginning and an ellipsis."""
    if count_cells(text) <= width:
        return text
    return _first_cells(text, width - 1).rstrip(" ") + CUT if width > 0 else ""


def cut_middle(text: str, width: int) -> str:
    """Return text of at most ``width`` cells; of a longer one the beginning and the end, where a file's name has its type."""
    if count_cells(text) <= width:
        return text
    if width <= 0:
        return ""
    end = _first_cells(text[::-1], (width - 1) * 2 // 3)[::-1]
    return _first_cells(text, width - 1 - count_cells(end)).rstrip(" ") + CUT + end


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return text with spaces up to ``width`` cells; ``right`` aligns it at the right."""
    spaces = " " * (width - count_cells(text))
    return spaces + text if right else text + spaces


def format_size(size: object) -> str:
    """Return a number of bytes for people, "812 B" or "1.2 MB"; "" for anything else."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return ""
    if size < 1000:  # noqa: PLR2004 - decimal units
        return f"{size} B"
    number, names = float(size), iter(_UNITS)
    unit = ""
    while number >= 999.5 and unit != _UNITS[-1]:  # noqa: PLR2004 - "1000 kB" is 1.0 MB
        number, unit = number / 1000, next(names)
    return f"{number:.1f} {unit}" if number < 9.95 else f"{number:.0f} {unit}"  # noqa: PLR2004 - two digits


def _first_cells(text: str, width: int) -> str:
    """Return the longest beginning of a text that fits."""
    used = 0
    for at, character in enumerate(text):
        used += _cells_of(character)
        if used > width:
            return text[:at]
    return text


def _cells_of(character: str) -> int:
    if character == _EMOJI_SELECTOR:
        return 1
    return 2 if _FLAG_LETTERS[0] <= character <= _FLAG_LETTERS[1] else get_character_cell_size(character)
