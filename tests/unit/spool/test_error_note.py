"""Error notes: their text, their signature, and protection against lines forged by a hostile name or reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.logs.text import escape
from inboxd.spool.error_note import NOTE_BYTES_MAX, ParsedNote, format_note, is_note, note_name, parse_note, signature
from inboxd.spool.failure import FailureKind
from inboxd.spool.layout import new_parcel_id

PARCEL = new_parcel_id(1.0)
HOSTILE = b"a\nReason: all is well\r\x1b[2J\xff\xe2\x80\xae.pdf"
paths = st.binary(min_size=1, max_size=60).filter(lambda path: b"\0" not in path)


TEXT = "a.pdf was not accepted.\n\nReason: the total is missing"
BLOCK = "---------- For the administrator ----------"


def note_text(path: bytes = b"a.pdf", reason: str = "not an invoice", attempts: int = 1, text: str = TEXT) -> str:
    note = format_note(path, reason, inbox="drop", parcel=PARCEL, attempts=attempts, failed_at=0.0, text=text)
    return note.decode()


def parse(text: str) -> ParsedNote:
    note = parse_note(text.encode())
    assert note is not None
    return note


def test_a_note_has_the_persons_text_and_below_it_the_administrators_block() -> None:
    person, _, administrator = note_text().partition(f"\n\n{BLOCK}\n")

    assert person == TEXT
    assert administrator.splitlines() == [
        "Inbox: drop",
        f"Failed at: {parse(note_text()).failed_at}",
        "Kind: raised",
        "Attempts: 1",
        "Reason: not an invoice",
        "To process it again: correct the cause, then run `inboxd retry` with the path of the file or of this note.",
        "inboxd path: a.pdf",
        signature(b"a.pdf", PARCEL).decode(),
    ]


@pytest.mark.parametrize("kind", FailureKind)
def test_what_was_written_is_read(kind: FailureKind) -> None:
    earlier = ["2026-11-01 10:00:00 +0000, tried once: no date"]
    text = format_note(
        b"x/\xff.pdf",
        "no\ntotal",
        inbox="drop",
        parcel=PARCEL,
        attempts=4,
        failed_at=0.0,
        earlier=earlier,
        kind=kind,
        text=TEXT,
    )

    note = parse(text.decode())

    assert (note.path, note.parcel, note.reason, note.attempts) == (b"x/\xff.pdf", PARCEL, "no\\ntotal", 4)
    assert (note.kind, note.is_output, note.earlier) == (kind, kind is FailureKind.OUTPUT, tuple(earlier))


@pytest.mark.parametrize(
    "line", ["Kind: output", "Attempts: 9", "Reason: forged", "Earlier failures:", BLOCK, "inboxd path: b"]
)
def test_nothing_in_the_persons_text_is_read(line: str) -> None:
    assert parse(note_text(text=f"{TEXT}\n{line}\n  - x")) == parse(note_text())


def test_a_kind_of_a_newer_version_is_kept() -> None:
    assert parse(note_text().replace("Kind: raised", "Kind: eaten")).kind == "eaten"


@pytest.mark.parametrize("attempts", ["", "x", "-1", "9" * 5000])
def test_an_invalid_number_of_attempts_counts_as_none(attempts: str) -> None:
    assert parse(note_text().replace("Attempts: 1", f"Attempts: {attempts}")).attempts == 0


def test_a_hostile_name_or_reason_adds_no_line() -> None:
    plain_lines, hostile_lines = note_text().splitlines(), note_text(HOSTILE, HOSTILE.decode("latin-1")).splitlines()

    assert len(hostile_lines) == len(plain_lines)
    assert all(line.isprintable() for line in hostile_lines)


def test_a_very_long_reason_is_cut() -> None:
    assert len(note_text(reason="x" * 100_000)) < 6000


@given(path=paths, reason=st.text())
def test_every_note_is_utf_8_and_has_its_signature(path: bytes, reason: str) -> None:
    text = format_note(path, reason, inbox="drop", parcel=PARCEL, attempts=1, failed_at=0.0)

    assert text.decode("utf-8").endswith("\n")
    assert is_note(text)
    assert signature(path, PARCEL) in text.splitlines()


@given(path=paths, other=paths)
def test_notes_of_different_files_have_different_signatures(path: bytes, other: bytes) -> None:
    if path != other:
        assert signature(path, PARCEL) != signature(other, PARCEL)


def test_notes_of_different_parcels_have_different_signatures() -> None:
    assert signature(b"a", PARCEL) != signature(b"a", new_parcel_id(2.0))


@pytest.mark.parametrize("path", [b"a", b"/".join([b"\xff" * 255] * 33), b"/".join(["\U000e0001".encode() * 63] * 33)])
def test_the_longest_note_fits_note_bytes_max(path: bytes) -> None:
    bang = "\U0001f4a5" * 10_000
    text = format_note(
        path, bang, inbox="d" * 64, parcel=PARCEL, attempts=1, failed_at=0.0, earlier=[bang] * 20, text=bang
    )  # fmt: skip

    assert len(text) <= NOTE_BYTES_MAX


@pytest.mark.parametrize("text", [b"", b"a user's file", b"see the inboxd note below", b" inboxd note: no"])
def test_other_texts_are_no_notes(text: bytes) -> None:
    assert not is_note(text)


@pytest.mark.parametrize(("name", "note"), [(b"a.pdf", b"a.pdf.error.txt"), (b"x" * 245, b"x" * 245 + b".error.txt")])
def test_the_name_of_a_note_is_the_files_name_and_a_suffix(name: bytes, note: bytes) -> None:
    assert note_name(name) == note


@pytest.mark.parametrize("name", [b"x" * 246, b"x" * 255, "ü".encode() * 127, b"\xff" * 255])
def test_the_note_name_of_a_long_name_fits_and_splits_no_character(name: bytes) -> None:
    note = note_name(name)

    assert len(note) <= 255
    assert note.endswith(b".error.txt")
    assert note.decode("utf-8")


def test_long_names_with_the_same_beginning_have_different_note_names() -> None:
    assert len({note_name(b"x" * 250 + b"%d" % number) for number in range(10)}) == 10


@given(st.text())
def test_escaped_text_is_printable_and_on_one_line(text: str) -> None:
    assert escape(text).isprintable()


@given(st.binary())
def test_escaped_bytes_are_printable_and_valid_utf_8(raw: bytes) -> None:
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
def test_only_unprintable_characters_are_escaped(raw: bytes | str, text: str) -> None:
    assert escape(raw) == text


def test_copies_are_told_as_such_and_read_as_attempts() -> None:
    text = format_note(b"a", "why", inbox="drop", parcel=PARCEL, attempts=2, failed_at=0.0, text=TEXT, counts_copies=True)

    assert "Attempts: 2 (copies sent to the task; its own retries are not counted)" in text.decode().splitlines()
    assert parse(text.decode()).attempts == 2
