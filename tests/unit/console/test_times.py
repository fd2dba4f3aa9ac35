"""Times as people write them."""

from datetime import datetime, timedelta, timezone

import pytest

from inboxd.console.times import parse_time

CET = timezone(timedelta(hours=1))
NOW = datetime(2026, 11, 22, 21, 30, 15, tzinfo=CET)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", datetime(2026, 11, 22, 21, 20, 15, tzinfo=CET)),
        ("90 s", datetime(2026, 11, 22, 21, 28, 45, tzinfo=CET)),
        ("2H", datetime(2026, 11, 22, 19, 30, 15, tzinfo=CET)),
        ("1.5h", datetime(2026, 11, 22, 20, 0, 15, tzinfo=CET)),
        ("3d", datetime(2026, 11, 19, 21, 30, 15, tzinfo=CET)),
        ("1w", datetime(2026, 11, 15, 21, 30, 15, tzinfo=CET)),
        ("now", NOW),
        ("today", datetime(2026, 11, 22, tzinfo=CET)),
        (" Yesterday ", datetime(2026, 11, 21, tzinfo=CET)),
        ("08:30", datetime(2026, 11, 22, 8, 30, tzinfo=CET)),
        ("08:30:05", datetime(2026, 11, 22, 8, 30, 5, tzinfo=CET)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=CET)),
        ("2026-11-20 20:00", datetime(2026, 11, 20, 20, tzinfo=CET)),
        ("2026-11-20T20:00:00Z", datetime(2026, 11, 20, 21, tzinfo=CET)),
        ("2026-11-20T20:00:00-05:00", datetime(2026, 11, 21, 2, tzinfo=CET)),
    ],
)
def test_a_time_is_parsed(text: str, expected: datetime) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "soon", "10", "10 parsecs", "-5m", "25:00", "2026-13-01", "9999999999d", "\x1b[2J"])
def test_text_that_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|is too long ago"):
        parse_time(text, NOW)
