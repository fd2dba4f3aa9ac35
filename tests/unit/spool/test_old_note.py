"""The notes of older versions are read as before: failed/ may keep them for years."""

import pytest

from inboxd.spool.error_note import ParsedNote, is_note, parse_note, signature

PARCEL = f"{7:028x}"
NOTE = """\
{path} could not be processed.

Reason: not an invoice
{tried}
{earlier}
What you can do:
  - {option}
  - If you don't need the file, delete it together with this note.
The file itself is unchanged. It is stored next to this note.

For the administrator: inbox drop, 2026-11-02 10:00:00 +0000.
inboxd path: {path}
{signature}
"""
CORRECT = "Correct the cause named above, then move the file from failed/ back into inbox/, so that it is processed again."
NOTHING = "Nothing, if you know how the file came about. It is not processed again with the others in failed/."
EARLIER = """\
Before it was put back into inbox/:
  - 2026-11-01 10:00:00 +0000, tried once: no total
  - 2026-11-01 11:00:00 +0000, tried 4 times: no date
"""


def parse(tried: str = "It was tried once.", earlier: str = "", option: str = CORRECT) -> ParsedNote:
    signed = signature(b"x/a.pdf", PARCEL).decode()
    text = NOTE.format(path="x/a.pdf", tried=tried, earlier=earlier, option=option, signature=signed).encode()
    assert is_note(text)
    note = parse_note(text)
    assert note is not None
    return note


def test_a_note_is_read() -> None:
    note = parse()

    assert (note.path, note.parcel, note.reason) == (b"x/a.pdf", PARCEL, "not an invoice")
    assert (note.failed_at, note.kind, note.earlier) == ("2026-11-02 10:00:00 +0000", "", ())


@pytest.mark.parametrize(
    ("tried", "attempts"),
    [("It was not passed to the handler.", 0), ("It was tried once.", 1), ("It was tried 12 times.", 12)],
)
def test_the_number_of_attempts_is_read(tried: str, attempts: int) -> None:
    assert parse(tried).attempts == attempts


def test_earlier_failures_are_read_and_continued_in_the_next_note() -> None:
    note = parse(earlier=EARLIER)

    assert [line.partition(": ")[2] for line in note.earlier] == ["no total", "no date"]
    assert note.history[-1] == "2026-11-02 10:00:00 +0000, tried once: not an invoice"


@pytest.mark.parametrize(("option", "is_output"), [(CORRECT, False), (NOTHING, True)])
def test_a_handlers_output_is_recognized(option: str, is_output: bool) -> None:
    assert parse(option=option).is_output is is_output
