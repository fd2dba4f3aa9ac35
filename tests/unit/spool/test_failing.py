"""Failing a file: the texts of its note, in the languages that come along or from a folder; a wrong text loses nothing."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.disk.spools import Spool
from support.repository import REPOSITORY

from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.spool.error_note import parse_note
from inboxd.spool.failing import fail_file, file_failed_output
from inboxd.spool.failure import Failure, FailureKind
from inboxd.spool.note_files import FILE_BYTES_MAX, find_text_problems

ENGLISH = (REPOSITORY / "inboxd/spool/texts/en/notes.txt").read_text("utf-8")
RAISED = Failure(FailureKind.RAISED, "KeyError: 'Kundennummer'")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.make(tmp_path / "drop")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text(ENGLISH, "utf-8")
    return tmp_path / "notes"


def fail(spool: Spool, failure: Failure = RAISED, path: bytes = b"a.pdf", attempts: int = 4, **rules: object) -> str:
    """Fail a claimed file; return its note."""
    parcel = spool.claimed(path)
    with spool.folders() as folders:
        filed = fail_file(Disk(), folders, spool.inbox(**rules), parcel, path, failure, attempts=attempts)
    assert filed is not None
    return spool.notes()[filed + b".error.txt"].decode()


def edit(folder: Path, old: str, new: str) -> None:
    """Replace a text in a folder's file, as an editor does that writes a new file."""
    text = (folder / "notes.txt").read_text("utf-8")
    assert old in text
    (folder / "new").write_text(text.replace(old, new), "utf-8")
    (folder / "new").rename(folder / "notes.txt")


def test_a_handlers_exception_is_for_the_administrator_only(spool: Spool) -> None:
    person, _, administrator = fail(spool).partition("For the administrator")

    assert person.startswith("a.pdf could not be processed.")
    assert "Kundennummer" not in person
    assert "Reason: KeyError: 'Kundennummer'\n" in administrator


def test_a_rejections_text_is_the_reason_for_the_person(spool: Spool) -> None:
    note = fail(spool, Failure(FailureKind.REJECTED, "the total is missing"), contact="Ms Weber, phone 47")

    assert "Reason: the total is missing\n" in note.partition("For the administrator")[0]
    assert "ask Ms Weber, phone 47." in note


def test_a_note_can_be_in_german(spool: Spool) -> None:
    note = fail(spool, notes="de", contact="Frau Weber, Tel. 47")

    assert note.startswith("a.pdf konnte nicht verarbeitet werden.")
    assert "wenden Sie sich bitte an Frau Weber, Tel. 47:" in note


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("kind", FailureKind)
def test_every_note_is_read_as_it_was_written(kind: FailureKind, language: str, spool: Spool) -> None:
    note = parse_note(fail(spool, Failure(kind, "why"), b"x/\xff\n.pdf", 2, notes=language).encode())

    assert note is not None
    assert (note.path, note.kind, note.reason, note.attempts) == (b"x/\xff\n.pdf", kind, "why", 2)


def test_an_outputs_note_names_the_file_that_failed(spool: Spool) -> None:
    parcel = spool.claimed(b"a.pdf.part")
    with spool.folders() as folders:
        assert file_failed_output(Disk(), folders, spool.inbox(notes="de"), parcel, b"a.pdf.part", b"a.pdf") is not None

    note = spool.notes()[b"a.pdf.part.error.txt"].decode()
    assert note.startswith("a.pdf.part hat kein Mensch hier abgelegt.")
    assert "bei der Arbeit an a.pdf angelegt" in note


def test_a_folders_texts_replace_those_that_come_along_and_a_change_takes_effect_at_the_next_file(
    spool: Spool, folder: Path
) -> None:
    edit(folder, "{file} could not be processed.", "{file} : un problème !")
    first = fail(spool, notes=str(folder))
    edit(folder, "{file} : un problème !", "{file} : une erreur !")

    second = fail(spool, notes=str(folder), path=b"b.pdf")

    assert first.startswith("a.pdf : un problème !")
    assert second.startswith("b.pdf : une erreur !")


def test_a_text_may_be_reached_by_a_link(spool: Spool, folder: Path, tmp_path: Path) -> None:
    edit(folder, "{file} could not be processed.", "linked")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").symlink_to(folder / "notes.txt")

    assert fail(spool, notes=str(tmp_path / "other")).startswith("linked")


def break_word(folder: Path) -> None:
    edit(folder, "[raised]\n{file}", "[raised]\n{filename}")


def remove_section(folder: Path) -> None:
    edit(folder, "[raised]\n", "")


def remove_file(folder: Path) -> None:
    (folder / "notes.txt").unlink()


def write_latin_1(folder: Path) -> None:
    (folder / "notes.txt").write_bytes(ENGLISH.replace("safe", "s\xfcr").encode("latin-1"))


def make_pipe(folder: Path) -> None:
    (folder / "notes.txt").unlink()
    os.mkfifo(folder / "notes.txt")


def make_large(folder: Path) -> None:
    (folder / "notes.txt").write_text(ENGLISH + "#" * FILE_BYTES_MAX, "utf-8")


def make_folder(folder: Path) -> None:
    (folder / "notes.txt").unlink()
    (folder / "notes.txt").mkdir()


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (break_word, "has the unknown word {filename}"),
        (remove_section, "is missing or empty"),
        (remove_file, "can't be read: No such file"),
        (write_latin_1, "is not UTF-8"),
        (make_pipe, "is not a file of at most"),
        (make_large, "is not a file of at most"),
        (make_folder, "is not a file of at most"),
    ],
)
def test_in_the_place_of_an_unusable_text_stands_the_english_one_and_the_log_says_so_once(
    spoil: object, problem: str, spool: Spool, folder: Path
) -> None:
    spoil(folder)

    with capture_logs() as lines:
        notes = [fail(spool, path=path, notes=str(folder)) for path in (b"a", b"b")]

    assert all("could not be processed.\n\nAn error occurred" in note for note in notes)
    (line,) = [line for line in lines if line["event"] == events.NOTE_TEXT_UNUSABLE]
    assert problem in line["error"]
    assert line["texts"] == str(folder / "notes.txt")
    assert any(problem in found.problem for found in find_text_problems(Disk(), str(folder)))


def test_a_missing_section_costs_no_other_section_its_text(spool: Spool, folder: Path) -> None:
    edit(folder, "[crashed]\n", "")
    edit(folder, "[too_large]\n{file} was not accepted.", "[too_large]\nmine")

    assert fail(spool, Failure(FailureKind.TOO_LARGE, "why"), notes=str(folder)).startswith("mine")
