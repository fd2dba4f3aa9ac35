"""Decisions by name alone: temporary names, patterns, and folders that are not scanned."""

import pytest

from inboxd.config.rules import Rules
from inboxd.intake.readiness import Ignore, decide_by_folder_name, decide_by_name, find_shortcut
from inboxd.intake.temporary_names import FOLDERS, SHORTCUTS, TEMPORARY_NAMES, TemporaryName, name_table
from inboxd.spool.failure import FailureKind

TEMPORARY = [
    b".name.Ab3dE9", b".~tmp~", b".rsync-partial",  # rsync
    b"a.pdf.filepart",  # WinSCP
    b"a.pdf.part", b"a.pdf.crdownload", b"a.pdf.download", b"a.pdf.opdownload", b"a.pdf.aria2",  # browsers
    b"a.partial", b"a.tmp", b"a.temp", b"a.upload", b"a.!ut", b"a.swp", b"a.swx", b".a.swp", b".a.swo", b"4913",
    b"#x#", b".#x", b"x~",  # editors
    b"~$letter.docx", b"~WRD0001.tmp", b".~lock.letter.odt#", b".goutputstream-AB12CD",  # office programs
    b".syncthing.a.tmp", b"~syncthing~a", b".in.a", b".pureftpd-upload.1234", b".sftpgo-upload.1234",  # servers
    b".DS_Store", b"._a", b".TemporaryItems", b".Trashes", b".apdisk", b".localized", b"Icon\r",  # macOS
    b"Thumbs.db", b"desktop.ini", b"@eaDir", b".stfolder", b".stversions", b".nfs0001", b".fuse_hidden1", b".smbdelete1",
    b".inboxd-probe-1", b".inboxd-1.note",  # inboxd's own
]  # fmt: skip

FINAL = [
    b"a.pdf", b"a", b"part", b"tmp", b"a.parts", b"a.tmp.pdf", b"a#", b"#a", b"a b", b"\xff\xfe", b"new\nline", b"14913",
    b"4913.pdf", b"Icon", b"$a", b"a~b", b"\xc3\xa4.pdf", b"a.error.txt", b"sedAbCdEf", b"download", b"thumbs.dbx", b" ",
]  # fmt: skip


@pytest.mark.parametrize("name", TEMPORARY)
def test_a_temporary_name_is_ignored(name: bytes) -> None:
    assert isinstance(decide_by_name(name, Rules()), Ignore)


@pytest.mark.parametrize("name", [b"A.TMP", b"A.Part", b"a.CrDownload", b"THUMBS.DB", b"Desktop.INI"])
def test_a_temporary_name_in_capitals_is_ignored(name: bytes) -> None:
    assert isinstance(decide_by_name(name, Rules()), Ignore)


@pytest.mark.parametrize("name", TEMPORARY)
def test_a_temporary_name_in_a_sub_folder_is_ignored(name: bytes) -> None:
    assert isinstance(decide_by_name(b"sub/" + name, Rules()), Ignore)


def test_a_temporary_name_with_a_line_break_is_ignored() -> None:
    assert isinstance(decide_by_name(b"a\nb.tmp", Rules()), Ignore)


@pytest.mark.parametrize("name", FINAL)
def test_a_final_name_is_accepted(name: bytes) -> None:
    assert decide_by_name(name, Rules()) is None


def test_a_file_in_a_folder_with_a_temporary_name_is_accepted() -> None:
    assert decide_by_name(b"a.tmp/b.pdf", Rules()) is None


@pytest.mark.parametrize("name", [b".git", b".~tmp~", b"@eaDir", b".Trashes"])
def test_a_hidden_folder_is_not_scanned(name: bytes) -> None:
    assert isinstance(decide_by_folder_name(name), Ignore)


@pytest.mark.parametrize("name", [b"sub", b"a.tmp", b"@ea", b"~x", b"\xff"])
def test_any_other_folder_is_scanned(name: bytes) -> None:
    assert decide_by_folder_name(name) is None


@pytest.mark.parametrize(
    ("path", "include", "is_accepted"),
    [
        (b"a.pdf", ("*.pdf",), True),
        (b"a.txt", ("*.pdf",), False),
        (b"a.txt", ("*.pdf", "*.txt"), True),
        (b"sub/a.pdf", ("*.pdf",), True),
        (b"sub/a.pdf", ("sub/*.pdf",), True),
        (b"other/a.pdf", ("sub/*.pdf",), False),
        (b"a.pdf", ("sub/*.pdf",), False),
        (b"new\nline.pdf", ("*.pdf",), True),
        (b"\xff.pdf", ("*.pdf",), True),
        (b"a[1].pdf", ("a[[]1].pdf",), True),
        (b"a.pdf", (), False),
    ],
)
def test_only_included_names_are_accepted(path: bytes, include: tuple[str, ...], is_accepted: bool) -> None:
    assert (decide_by_name(path, Rules(include=include)) is None) is is_accepted


@pytest.mark.parametrize(
    ("path", "exclude", "is_accepted"),
    [
        (b"a.pdf", ("*.txt",), True),
        (b"a.txt", ("*.txt",), False),
        (b"sub/a.txt", ("*.txt",), False),
        (b"sub/a.txt", ("other/*",), True),
        (b"other/a.txt", ("other/*",), False),
    ],
)
def test_excluded_names_are_ignored(path: bytes, exclude: tuple[str, ...], is_accepted: bool) -> None:
    assert (decide_by_name(path, Rules(exclude=exclude)) is None) is is_accepted


def test_exclude_wins_over_include_and_the_reason_names_the_pattern() -> None:
    decision = decide_by_name(b"a.pdf", Rules(include=("*.pdf",), exclude=("a*",)))

    assert decision == Ignore("exclude = 'a*' matches")


@pytest.mark.parametrize("name", ["SCAN.PDF", "Pru\u0308fung 1.pdf", "PRÜFUNG.Pdf"])
def test_patterns_match_in_any_case_and_in_any_unicode_form(name: str) -> None:
    """Scanners write upper case, and macOS stores an accent as a character of its own."""
    assert decide_by_name(name.encode(), Rules(include=("scan.pdf", "Pr\u00fcfung*.pdf"))) is None
    assert isinstance(decide_by_name(name.encode(), Rules(exclude=("scan.pdf", "Pru\u0308fung*.pdf"))), Ignore)


@pytest.mark.parametrize(("name", "is_accepted"), [("a.pdf", True), ("a.PDF", False), ("A.pdf", True)])
def test_case_sensitive_patterns_match_in_their_own_case_only(name: str, is_accepted: bool) -> None:
    assert (decide_by_name(name.encode(), Rules(include=("*.pdf",), case_sensitive=True)) is None) is is_accepted


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("ä.pdf", "?.pdf"), ("äöü", "???"), ("ä.pdf", "[äöü].pdf"), ("b.pdf", "[!ä].pdf"), ("€", "[!a]"), ("Ärger.txt", "Ä*")],
)
def test_a_pattern_matches_characters_not_bytes(name: str, pattern: str) -> None:
    assert decide_by_name(name.encode(), Rules(include=(pattern,))) is None


@pytest.mark.parametrize("row", [row for row in TEMPORARY_NAMES if row.marks_incomplete], ids=lambda row: row.programs)
def test_a_marker_is_itself_ignored_and_marks_the_file_before_its_suffix(row: TemporaryName) -> None:
    marker = b"a.pdf" + row.pattern.removeprefix("*").encode()

    assert isinstance(decide_by_name(marker, Rules()), Ignore)
    assert name_table(()).incomplete_name(marker) == name_table(()).incomplete_name(marker.upper())[:5].lower() == b"a.pdf"


def test_every_row_of_the_table_names_the_programs_that_use_it() -> None:
    assert all(row.programs and row.pattern for row in (*TEMPORARY_NAMES, *FOLDERS))


@pytest.mark.parametrize(
    "name", [b"#recycle", b"@Recycle", b"$RECYCLE.BIN", b".Trash-1000", b"lost+found", b"__MACOSX", b"x.pdf.download"]
)
def test_folders_that_programs_store_for_themselves_are_not_scanned(name: bytes) -> None:
    assert isinstance(decide_by_folder_name(name), Ignore)


def test_the_settings_add_temporary_names_and_remove_them() -> None:
    rules = Rules(temporary_names=("*.busy", "!*.lock"))

    assert isinstance(decide_by_name(b"a.pdf.busy", rules), Ignore)
    assert decide_by_name(b"poetry.lock", rules) is None
    assert name_table(rules.temporary_names).incomplete_name(b"poetry.lock") is None


@pytest.mark.parametrize("suffix", SHORTCUTS)
def test_a_shortcut_is_refused_once_it_has_settled(suffix: bytes) -> None:
    shortcut = find_shortcut(b"x/Invoice.PDF" + suffix.upper())

    assert shortcut is not None
    assert shortcut.kind is FailureKind.SHORTCUT
    assert find_shortcut(b"x/Invoice" + suffix + b".pdf") is None
