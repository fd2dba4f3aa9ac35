"""The words in braces in the texts of settings, which stand for what differs from file to file."""

import re
from collections.abc import Callable, Iterator

_BRACES = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")


def placeholders(text: str) -> Iterator[str]:
    """Yield the words in single braces."""
    return (single for _, single in _BRACES.findall(text) if single)


def fill_in(text: str, value_of: Callable[[str], str]) -> str:
    """Return a text with the value of each placeholder, and single braces for double ones."""
    return _BRACES.sub(lambda match: f"{{{match[1]}}}" if match[1] else value_of(match[2]), text)
