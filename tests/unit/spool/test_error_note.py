"""The note beside a failed file: for its reader, on one line where a hostile name could forge more, and known again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.logs.text import escape
from inboxd.spool.error_note import NOTE_BYTES_MAX, format_note, is_note, note_name, signature
from inboxd.spool.layout import new_parcel_id

PARCEL = new_parcel_id(1.0)
HOSTILE = b"a\nReason: all is well\r\x1b[2J\xff\xe2\x80\xae.pdf"
anything = st.binary(min_size=1, max_size=60).filter(lambda path: b"\0" not in path)


def written(path: bytes = b"a.pdf", reason: str = "not an invoice", attempts: int = 1) -> str:
    return format_note(path, reason, inbox="drop", parcel=PARCEL, attempts=attempts, failed_at=0.0).decode()


def test_a_note_says_what_went_wrong_and_what_to_do() -> None:
    lines = written().splitlines()

    assert lines[0] == "a.pdf could not be processed."
    assert "Reason: not an invoice" in lines
    assert "It was tried once." in lines
    assert "What you can do:" in lines
    assert "inbox drop" in lines[-3]


@pytest.mark.parametrize(
    ("attempts", "line"), [(0, "It was not passed to the handler."), (1, "It was tried once."), (2, "It was tried 2 times.")]
)
def test_a_note_says_how_often_the_file_was_tried(attempts: int, line: str) -> None:
    assert line in written(attempts=attempts).splitlines()


def test_a_hostile_name_or_reason_forges_no_line() -> None:
    plain, hostile = written().splitlines(), written(HOSTILE, HOSTILE.decode("latin-1")).splitlines()

    assert len(hostile) == len(plain)
    assert all(line.isprintable() for line in hostile)


def test_a_very_long_reason_is_cut() -> None:
    assert len(written(reason="x" * 100_000)) < 6000


@given(path=anything, reason=st.text())
def test_every_note_is_utf_8_and_known_again_by_its_signature(path: bytes, reason: str) -> None:
    text = format_note(path, reason, inbox="drop", parcel=PARCEL, attempts=1, failed_at=0.0)

    assert text.decode("utf-8").endswith("\n")
    assert is_note(text)
    assert signature(path, PARCEL) in text.splitlines()


@given(path=anything, other=anything)
def test_notes_of_different_files_have_different_signatures(path: bytes, other: bytes) -> None:
    if path != other:
        assert signature(path, PARCEL) != signature(other, PARCEL)


def test_notes_of_different_parcels_have_different_signatures() -> None:
    assert signature(b"a", PARCEL) != signature(b"a", new_parcel_id(2.0))


@pytest.mark.parametrize("path", [b"a", b"/".join([b"\xff" * 255] * 33), b"/".join(["\U000e0001".encode() * 63] * 33)])
def test_a_note_is_short_enough_to_be_read_at_one_go(path: bytes) -> None:
    text = format_note(path, "\U0001f4a5" * 5000, inbox="d" * 64, parcel=PARCEL, attempts=1, failed_at=0.0)

    assert len(text) <= NOTE_BYTES_MAX


@pytest.mark.parametrize("text", [b"", b"a user's own", b"see the inboxd note below", b" inboxd note: no"])
def test_other_texts_are_not_ours(text: bytes) -> None:
    assert not is_note(text)


@pytest.mark.parametrize(("name", "note"), [(b"a.pdf", b"a.pdf.error.txt"), (b"x" * 245, b"x" * 245 + b".error.txt")])
def test_a_note_has_the_files_name_and_a_suffix(name: bytes, note: bytes) -> None:
    assert note_name(name) == note


@pytest.mark.parametrize("name", [b"x" * 246, b"x" * 255, "ü".encode() * 127, b"\xff" * 255])
def test_the_note_of_a_long_name_fits_and_tears_no_character(name: bytes) -> None:
    note = note_name(name)

    assert len(note) <= 255
    assert note.endswith(b".error.txt")
    assert note.decode("utf-8")


def test_long_names_that_begin_alike_have_notes_of_their_own() -> None:
    assert len({note_name(b"x" * 250 + b"%d" % number) for number in range(10)}) == 10


@given(st.text())
def test_plain_text_is_printable_and_on_one_line(text: str) -> None:
    assert escape(text).isprintable()


@given(st.binary())
def test_plain_bytes_are_printable_and_can_be_written_as_utf_8(raw: bytes) -> None:
    text = escape(raw)

    assert text.isprintable()
    assert text.encode("utf-8").decode("utf-8") == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\xc3\xa4 b.pdf", "ä b.pdf"),
        (b"a\nb", "a\\nb"),
        (b"\xff", "\\xff"),
        (b"\x1b[2J", "\\x1b[2J"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_is_printable_stays_and_the_rest_is_escaped(raw: bytes | str, text: str) -> None:
    assert escape(raw) == text
