"""The texts for people: complete and short in each language, and nothing in a file's name or a reason changes their form."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.repository import REPOSITORY

from inboxd.config.values import NOTE_LANGUAGES
from inboxd.spool.failure import FailureKind
from inboxd.spool.note_files import own_texts
from inboxd.spool.note_text import VALUES, build_texts, read_sections, size_in_words

LINES_MAX = 12
SAMPLE = {
    "file": "invoices/2026-11.pdf", "reason": "the total is missing", "contact": "Ms Weber, phone 47", "inbox": "drop",
    "size": "12 MB", "size_max": "10 MB", "seconds": "300", "depth_max": "32", "times": "4", "beside": "invoices/a.pdf",
}  # fmt: skip
TECHNICAL = re.compile(
    r"exception|traceback|handler|worker|parcel|process\b|symlink|symbolic|socket|device|daemon|server|retry|"
    r"inboxd|sparse|directory|byte|permission denied|Prozess\b|Verzeichnis|Ausnahme|Symlink",
    re.IGNORECASE,
)
every_text = pytest.mark.parametrize(("language", "kind"), [(a, b) for a in NOTE_LANGUAGES for b in FailureKind])


def sections(language: str = "en") -> dict[str, str]:
    return read_sections((REPOSITORY / "inboxd/spool/texts" / language / "notes.txt").read_text("utf-8"))


def problems(changes: dict[str, str]) -> list[tuple[str, str]]:
    return [(problem.section, problem.problem) for problem in build_texts(sections() | changes)[1]]


@every_text
def test_each_kind_has_a_short_text_without_technical_terms(language: str, kind: FailureKind) -> None:
    text = own_texts(language)[kind].fill_in(SAMPLE)

    assert len(text.splitlines()) <= LINES_MAX
    assert max(map(len, text.splitlines())) <= 128
    assert "invoices/2026-11.pdf" in text.splitlines()[0]
    assert TECHNICAL.search(text) is None
    assert "{" not in text


@every_text
def test_each_text_says_whom_to_ask(language: str, kind: FailureKind) -> None:
    text = own_texts(language)[kind]

    assert "Ms Weber, phone 47" in text.fill_in(SAMPLE)
    assert sections(language)["contact"] in text.fill_in(SAMPLE | {"contact": ""})


@every_text
def test_only_the_handlers_own_text_is_told_as_the_reason(language: str, kind: FailureKind) -> None:
    assert ("the total is missing" in own_texts(language)[kind].fill_in(SAMPLE)) is (kind is FailureKind.REJECTED)


@every_text
def test_a_text_says_how_to_go_on_with_the_file(language: str, kind: FailureKind) -> None:
    text = own_texts(language)[kind].fill_in(SAMPLE)

    assert ("inbox" in text) is (kind is not FailureKind.OUTPUT)
    assert any(word in text for word in ("safe", "Nothing was changed", "need not do", "sicher", "nichts"))


@given(value=st.text())
def test_a_value_adds_no_line_and_no_word(value: str) -> None:
    text = own_texts("en")[FailureKind.REJECTED]
    plain = text.fill_in(SAMPLE)

    filled = text.fill_in(SAMPLE | {"file": value, "reason": value, "contact": value})

    assert len(filled.splitlines()) == len(plain.splitlines())
    assert all(line.isprintable() for line in filled.splitlines())


def test_braces_in_a_value_are_no_words() -> None:
    filled = own_texts("en")[FailureKind.REJECTED].fill_in(SAMPLE | {"file": "{reason}{safe}"})

    assert filled.splitlines()[0] == "{reason}{safe} was not accepted."


def test_a_long_value_is_cut_in_its_middle() -> None:
    assert len(own_texts("en")[FailureKind.REJECTED].fill_in(SAMPLE | {"reason": "x" * 100_000})) < 2000


def test_the_texts_that_come_along_have_no_problem() -> None:
    for language in NOTE_LANGUAGES:
        texts, found = build_texts(sections(language))
        assert found == []
        assert texts.keys() == set(FailureKind)


def test_both_languages_have_the_same_sections_and_words() -> None:
    english, german = sections("en"), sections("de")

    assert english.keys() == german.keys()
    for name, text in english.items():
        assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", german[name])), name


@pytest.mark.parametrize(
    ("changes", "section", "problem"),
    [
        ({"rejected": ""}, "rejected", "is missing or empty"),
        ({"contact": ""}, "contact", "is missing or empty"),
        ({"rejected": "{file} {filename}"}, "rejected", "has the unknown word {filename}"),
        ({"contact": "{file}"}, "contact", "has the unknown word {file}"),
        ({"safe": "{nothing}"}, "safe", "has the unknown word {nothing}"),
        ({"safe": "{nothing}"}, "crashed", "uses {safe}, whose section has an unknown word"),
        ({"rejectd": "x"}, "rejectd", "is no kind of failure, and no other section uses it"),
        ({"": "x"}, "", "has text before its first section"),
        ({"rejected": "x" * 5000}, "rejected", "has more than 4000 characters"),
    ],
)
def test_a_problem_is_told_with_its_section(changes: dict[str, str], section: str, problem: str) -> None:
    assert any(found[0] == section and problem in found[1] for found in problems(changes))


def test_a_kind_with_a_problem_has_no_text_and_the_others_have() -> None:
    texts, _ = build_texts(sections() | {"rejected": "{filename}"})

    assert texts.keys() == set(FailureKind) - {FailureKind.REJECTED}


def test_comments_a_byte_order_mark_and_windows_line_ends_are_no_text() -> None:
    raw = "\ufeff# a comment\r\n[safe]\r\nIt is safe.\r\n# another one\r\n\r\n[ask]\r\nAsk.\r\n"

    assert read_sections(raw) == {"safe": "It is safe.", "ask": "Ask."}


def test_a_text_can_have_own_pieces_and_braces_that_are_no_words() -> None:
    texts, found = build_texts(sections() | {"greeting": "Dear colleague, {file}", "raised": "{greeting}: { x } {}"})

    assert found == []
    assert texts[FailureKind.RAISED].fill_in(SAMPLE) == "Dear colleague, invoices/2026-11.pdf: { x } {}"


@pytest.mark.parametrize(
    ("size", "file", "limit"),
    [(0, "0 B", "0 B"), (9999, "9999 B", "9999 B"), (10_001, "11 KB", "10 KB"), (10_000_001, "11 MB", "10 MB")],
)
def test_a_files_size_is_rounded_up_and_a_limit_down(size: int, file: str, limit: str) -> None:
    assert (size_in_words(size), size_in_words(size, is_limit=True)) == (file, limit)


def test_every_word_is_explained_in_the_files() -> None:
    for language in NOTE_LANGUAGES:
        head = (REPOSITORY / "inboxd/spool/texts" / language / "notes.txt").read_text("utf-8").partition("\n[")[0]
        assert {word for word in VALUES if f"{{{word}}}" in head} == VALUES
