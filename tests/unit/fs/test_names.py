"""The free names that a file gets when its own is taken: in bytes, and no character torn."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inboxd.fs.names import candidate_names

file_names = st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & set(b"/\0") and name not in (b".", b".."))


def first(names: Iterator[bytes], count: int) -> list[bytes]:
    return list(itertools.islice(names, count))


@pytest.mark.parametrize(
    ("wanted", "names"),
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
def test_the_counter_comes_before_the_extension(wanted: bytes, names: list[bytes]) -> None:
    assert first(candidate_names(wanted), len(names)) == names


def test_a_name_of_255_bytes_is_cut_to_make_room_for_the_counter() -> None:
    names = first(candidate_names(b"x" * 251 + b".pdf"), 10)

    assert names[1] == b"x" * 247 + b" (2).pdf"
    assert names[9] == b"x" * 246 + b" (10).pdf"


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255))
def test_no_character_is_ever_torn(text: str) -> None:
    wanted = text.encode()[:255].decode("utf-8", "ignore").encode() or b"x"

    for name in first(candidate_names(wanted), 12):
        assert name.decode("utf-8", "strict") is not None
        assert len(name) <= 255


@given(file_names)
def test_the_names_of_any_bytes_fit_and_differ(wanted: bytes) -> None:
    names = first(candidate_names(wanted), 12)

    assert names[0] == wanted
    assert len(set(names)) == 12
    assert all(1 <= len(name) <= 255 and b"/" not in name and name not in (b".", b"..") for name in names)
