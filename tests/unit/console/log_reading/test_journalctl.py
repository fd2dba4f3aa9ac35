"""Entries of the journal: which ones are trusted, and which are records."""

import pytest

from inboxd.console.log_reading.journalctl import is_trusted, to_record


@pytest.mark.parametrize(
    ("fields", "is_from_inboxd"),
    [
        ({"_UID": "0"}, True),
        ({"_UID": "987654", "_SYSTEMD_UNIT": "inboxd-worker.service"}, True),
        ({"_UID": "987654", "_SYSTEMD_UNIT": "session-3.scope"}, False),
        ({"_UID": "987654", "_SYSTEMD_UNIT": "user@987654.service"}, False),
        ({"_UID": "987654"}, False),
        ({}, False),
    ],
)
def test_only_entries_of_root_and_of_our_units_are_trusted(fields: dict[str, str], is_from_inboxd: bool) -> None:
    assert is_trusted(fields) is is_from_inboxd


@pytest.mark.parametrize("invalid", [{}, {"MESSAGE": None}, {"MESSAGE": "x", "__REALTIME_TIMESTAMP": "soon"}])
def test_an_entry_without_message_or_valid_time_is_skipped(invalid: dict[str, object]) -> None:
    assert to_record(invalid) is None
