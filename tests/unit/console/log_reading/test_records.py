"""Parsing log lines and filtering records."""

import json
from datetime import datetime

import pytest
from support.live.log_lines import NOON, line, parcel, table

from inboxd.console.log_reading import render
from inboxd.console.log_reading.records import LogFilter, Record, oldest_line_start, parse

P = parcel(1, NOON)


def record(event: str, **keys: object) -> Record:
    found = parse(line(event, NOON, **keys))
    assert found is not None
    return found


def test_a_line_is_read_with_its_time() -> None:
    found = record("file_done", file="a.pdf", parcel=P)

    assert found.at == NOON
    assert (found.event, found.text("file"), found.parcels, found.is_from_inboxd) == ("file_done", "a.pdf", {P}, True)


@pytest.mark.parametrize(
    "foreign",
    [
        b"", b"Traceback (most recent call last):",
        b'  File "x.py", line 1', b" -------------- celery@vm v5.7.0", b"{", b"{}", b"[1]",
        b'{"timestamp": "2026-11-22T12:00:00Z"}', b'{"event": "file_done"}', b'{"timestamp": "soon", "event": "file_done"}',
        b'{"timestamp": "2026-11-22T12:00:00Z", "event": 1}', b'{"timestamp": 12, "event": "file_done"}',
        b'{"timestamp": "2026-11-22T12:00:00Z", "event": "e", "file": ["a"]}', b'{"a": ' * 100_000, b"\xff\xfe{",
        b'{"timestamp": "0001-01-01T00:00:00+23:00", "event": "e"',
    ],
    ids=lambda text: repr(text[:30]),
)  # fmt: skip
def test_a_foreign_line_is_skipped(foreign: bytes) -> None:
    assert parse(foreign) is None


def test_the_line_that_follows_a_torn_one_is_parsed() -> None:
    torn = line("file_claimed", NOON, file="a.pdf")[:90]

    found = parse(torn + line("file_done", NOON + 1, file="b.pdf"))

    assert found is not None
    assert (found.event, found.text("file")) == ("file_done", "b.pdf")


def test_a_file_name_that_looks_like_a_line_is_not_parsed_as_one_when_its_line_is_torn() -> None:
    name = '{"timestamp": "2026-11-22T12:00:00Z", "event": "file_done", "module": "inboxd.tasks.outcomes.apply", "file": "b"}'
    whole = line("file_claimed", NOON, file=name, found_by="event")

    found = [parse(whole[:cut]) for cut in range(len(whole) - 1)]

    assert [record for record in found[:-1] if record is not None] == []


def test_a_library_s_message_is_not_mistaken_for_an_event_of_inboxd() -> None:
    fields = {key: value for key, value in table("file_done", NOON).items() if key != "module"}

    found = parse(json.dumps(fields).encode())

    assert found is not None
    assert not found.is_from_inboxd
    assert not LogFilter(outcomes=("done",)).matches(found)


@pytest.mark.parametrize(
    ("log_filter", "matches"),
    [
        (LogFilter(), True),
        (LogFilter(since=NOON), True),
        (LogFilter(since=NOON + 0.001), False),
        (LogFilter(inbox="drop"), True),
        (LogFilter(inbox="dro"), False),
        (LogFilter(file="*.pdf"), True),
        (LogFilter(file="a.pdf"), True),
        (LogFilter(file="x/a.pdf"), True),
        (LogFilter(file="x/*"), True),
        (LogFilter(file="y/*"), False),
        (LogFilter(file="*.PDF"), False),
        (LogFilter(file="x*"), False),
        (LogFilter(parcel=P), True),
        (LogFilter(parcel=P[:-1]), False),
        (LogFilter(outcomes=("done",)), True),
        (LogFilter(outcomes=("failed", "done")), True),
        (LogFilter(outcomes=("failed",)), False),
        (LogFilter(inbox="drop", file="b*"), False),
    ],
)
def test_a_record_matches_if_it_meets_every_criterion(log_filter: LogFilter, matches: bool) -> None:
    assert log_filter.matches(record("file_done", file="x/a.pdf", parcel=P)) is matches


def test_a_name_with_glob_characters_matches_itself() -> None:
    assert LogFilter(file="scan [1].pdf").matches(record("file_done", file="scan [1].pdf"))


def test_a_parcel_filter_matches_records_of_parcels_split_out_of_it() -> None:
    assert LogFilter(parcel=P).matches(record("parcel_split", file="a", parcel=parcel(2, NOON), out_of=P))


@pytest.mark.parametrize(("why", "retried"), [("ValueError: bad", True), (None, False)])
def test_a_file_that_was_split_off_counts_as_retried_if_it_raised(why: str | None, retried: bool) -> None:
    split = record("parcel_split", file="a", parcel=parcel(2, NOON), out_of=P, why=why)

    assert LogFilter(outcomes=("retried",)).matches(split) is retried


@pytest.mark.parametrize(("since", "is_too_old"), [(10.0, True), (0.0, False), (-10.0, False), (1.0, False)])
def test_a_line_s_first_bytes_show_whether_the_line_is_too_old(since: float, is_too_old: bool) -> None:
    assert (line("file_done", NOON) < oldest_line_start(NOON + since)) is is_too_old


def test_without_a_since_no_line_is_too_old() -> None:
    assert not line("file_done", 0.0) < oldest_line_start(None)


@pytest.mark.parametrize("key", ["level", "program", "module", "inbox", "file", "exception"])
def test_a_line_with_a_null_value_is_rendered(key: str) -> None:
    found = record("file_done", **{"file": "a.pdf", "parcel": P, key: None})

    assert "file_done" in render.render_line(found)


@pytest.mark.parametrize("at", [NOON + 0.038, NOON + 0.999999, NOON + 0.0005, NOON - 0.001])
def test_a_time_is_rendered_in_milliseconds(at: float) -> None:
    local = datetime.fromtimestamp(at).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]

    assert render.render_line(Record(at, {"event": "e"})).startswith(local)
