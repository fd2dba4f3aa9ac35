"""Parse times as people write them ("10m", "yesterday", "08:30", "2026-11-22T20:00"), and format times and ages. Pure."""

import re
from datetime import UTC, datetime, time, timedelta

from inboxd.logs.text import format_age

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_RELATIVE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)")
TIME_FORMATS = "10m, 2h, 3d, today, yesterday, 08:30, 2026-11-22 or 2026-11-22T20:00:00+01:00"


def parse_time(text: str, now: datetime) -> datetime:
    """Return the time that a text means, relative to ``now``, whose time zone is used if the text has none.

    Raises ValueError for a text in none of the formats.
    """
    normalized = text.strip().lower()
    if ago := _RELATIVE.fullmatch(normalized):
        try:
            return now - timedelta(seconds=float(ago[1]) * _UNITS[ago[2]])
        except OverflowError:
            raise ValueError(f"{text!r} is too long ago") from None
    midnight = datetime.combine(now.date(), time(), now.tzinfo)
    match normalized:
        case "now":
            return now
        case "today":
            return midnight
        case "yesterday":
            return midnight - timedelta(days=1)
    try:
        if re.fullmatch(r"\d\d:\d\d(:\d\d)?", normalized):
            return datetime.combine(now.date(), time.fromisoformat(normalized), now.tzinfo)
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write {TIME_FORMATS}") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=now.tzinfo)


def format_local(at: float) -> str:
    """Return a unix time as local time, for people."""
    return f"{to_local(at):%Y-%m-%d %H:%M:%S}"


def format_iso(at: float) -> str:
    """Return a unix time as ISO 8601 in UTC, for programs."""
    return datetime.fromtimestamp(at, tz=UTC).isoformat()


def to_local(at: float) -> datetime:
    """Return a unix time as a datetime in the local time zone."""
    return datetime.fromtimestamp(at).astimezone()


def format_duration(seconds: float) -> str:
    """Return a duration as text: "0.4 ms", "30 ms", "1.20 s", "3 min 20 s"."""
    if seconds >= _UNITS["m"]:
        return format_age(seconds)
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.0f} ms" if seconds * 1000 >= 1 or seconds == 0 else f"{seconds * 1000:.1f} ms"
