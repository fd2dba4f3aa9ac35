"""Values as people write them: "5m" for seconds, "30d" for days, "10MB" for bytes, "~" for a home, "*.pdf" for a list."""

import re
from pathlib import Path, PurePath

from pydantic import ByteSize, TypeAdapter, ValidationError

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
"""The units of a duration, in seconds."""

_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*")
_BYTES: TypeAdapter[ByteSize] = TypeAdapter(ByteSize)


def to_seconds(value: object) -> object:
    """Return the seconds of a text such as "5m", and every other value unchanged. Raises ValueError for another text."""
    if not isinstance(value, str) or _is_number(value):
        return value
    match = _DURATION.fullmatch(value.lower())
    if match is None or match[2] not in SECONDS:
        raise ValueError('a time is a number of seconds, or a text such as "30s", "5m", "2h" or "1d"')
    return float(match[1]) * SECONDS[match[2]]


def to_days(value: object) -> object:
    """Return the days of a text such as "30d" or "12h", and every other value unchanged. Raises ValueError for another text."""
    if not isinstance(value, str) or _is_number(value):
        return value
    try:
        seconds = to_seconds(value)
    except ValueError:
        raise ValueError('a number of days, or a text such as "30d" or "12h"') from None
    assert isinstance(seconds, float)
    return seconds / SECONDS["d"]


def to_bytes(value: object) -> object:
    """Return the bytes of a text such as "10MB" or "64KiB", and every other value unchanged. Raises ValueError."""
    if not isinstance(value, str) or _is_number(value):
        return value
    try:
        return int(_BYTES.validate_python(value))
    except ValidationError:
        raise ValueError('a size is a number of bytes, or a text such as "10MB" or "64KiB"') from None


def to_list(value: object) -> object:
    """Return a list of one for a single text, and every other value unchanged."""
    return [value] if isinstance(value, str) else value


def to_texts(value: object) -> object:
    """Return a list of one for a single text that is no pattern, and every other value unchanged."""
    return to_list(value)


def expand_home(path: PurePath) -> PurePath:
    """Return a path whose first ``~`` or ``~user`` is replaced by the home. Raises ValueError if that is not known."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{error}: write ./~ for a folder of that name") from None


def expand_home_text(path: str) -> str:
    """Return a path as ``expand_home`` does; "" stays empty. Raises ValueError."""
    return str(expand_home(PurePath(path))) if path else ""


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"\s*[0-9.]+\s*", text))
