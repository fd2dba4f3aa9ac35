"""The alternative names of a file whose name is taken: limited in bytes, without split characters."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.fs.names import candidate_names, free_names

file_names = st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & set(b"/\0") and name not in (b".", b".."))


def take(names: Iterator[bytes], count: int) -> list[bytes]:
    return list(itertools.islice(names, count))


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        (b"a.pdf", [b"a.pdf", b"a (2).pdf", b"a (3).pdf"]),
        (b"a", [b"a", b"a (2)", b"a (3)"]),
        (b".a", [b".a", b".a (2)", b".a (3)"]),
        (b"a.tar.gz", [b"a.tar.gz", b"a.tar (2).gz", b"a.tar (3).gz"]),
        (b"a.", [b"a.", b"a (2).", b"a (3)."]),
        (b"a (2).pdf", [b"a (2).pdf", b"a (2) (2).pdf", b"a (2) (3).pdf"]),
        (b"Mr. Smith and Co writes again", [b"Mr. Smith and Co writes again", b"Mr. Smith and Co writes again (2)"]),
    ],
)
def test_the_counter_comes_before_the_extension(name: bytes, candidates: list[bytes]) -> None:
    assert take(candidate_names(name), len(candidates)) == candidates


def test_a_name_of_255_bytes_is_cut_to_make_room_for_the_counter() -> None:
    candidates = take(candidate_names(b"x" * 251 + b".pdf"), 10)

    assert candidates[1] == b"x" * 247 + b" (2).pdf"
    assert candidates[9] == b"x" * 246 + b" (10).pdf"


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255))
def test_no_candidate_splits_a_character(text: str) -> None:
    name = text.encode()[:255].decode("utf-8", "ignore").encode() or b"x"

    for candidate in take(candidate_names(name), 12):
        assert candidate.decode("utf-8", "strict") is not None
        assert len(candidate) <= 255


@given(file_names)
def test_candidates_of_any_name_are_valid_and_distinct(name: bytes) -> None:
    candidates = take(candidate_names(name), 12)

    assert candidates[0] == name
    assert len(set(candidates) - {b".", b".."}) == 12
    assert all(1 <= len(candidate) <= 255 and b"/" not in candidate for candidate in candidates)


@given(st.sets(st.integers(1, 300)), st.integers(0, 400))
def test_a_free_name_is_found_past_any_taken_ones(gaps: set[int], taken_max: int) -> None:
    names = take(candidate_names(b"a.pdf"), 1000)
    taken = {name for number, name in enumerate(names, 1) if number <= taken_max and number not in gaps}
    asked: list[bytes] = []

    def is_taken(name: bytes) -> bool:
        asked.append(name)
        return name in taken

    found = next(name for name in free_names(b"a.pdf", is_taken) if name not in taken)

    assert found == b"a.pdf" or names[names.index(found) - 1] in taken
    assert len(asked) < 20
