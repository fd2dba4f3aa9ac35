"""The names that a template gives to outputs."""

import pytest

from inboxd.messaging.output_names import name_outputs


class Source:
    filename = "Rechnung 7.tif"
    relative_path = "2026/mai/Rechnung 7.tif"
    id = "42"
    inbox = "drop"
    sha256 = "abc"


CLAIMED_AT = 1_796_063_901.7


def names(template: str, *outputs: bytes, source: Source | None = None) -> dict[bytes, bytes]:
    return name_outputs(template, source or Source(), CLAIMED_AT, outputs)


def test_the_default_leaves_the_names_as_they_are() -> None:
    assert names("{folder}/{output}", b"a.txt") == {}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{stem}.pdf", b"Rechnung 7.pdf"),
        ("{folder}/{stem}{output_suffix}", b"2026/mai/Rechnung 7.png"),
        ("{inbox}/{date}/{name}-{output_stem}", b"drop/2026-11-30/Rechnung 7.tif-1"),
        ("{id}-{sha256}{suffix}", b"42-abc.tif"),
        ("x/{output}", b"x/pages/1.png"),
        ("a{{b}}", b"a{b}"),
    ],
)
def test_the_words_of_a_template(template: str, expected: bytes) -> None:
    assert names(template, b"pages/1.png") == {b"pages/1.png": expected}


def test_outputs_are_counted_in_the_order_of_their_names() -> None:
    assert names("{stem}-{counter}", b"b", b"c/a", b"a") == {
        b"a": b"Rechnung 7-1",
        b"b": b"Rechnung 7-2",
        b"c/a": b"Rechnung 7-3",
    }


class Hostile(Source):
    filename = ".."
    relative_path = "../.."


@pytest.mark.parametrize(
    ("template", "expected"),
    [("{name}", b"_.."), ("{folder}/{name}", b"_../_.."), ("{folder}/{output}x", b"_../.inboxd-x"), ("{output}", b"_.inboxd-")],
)
def test_no_name_leads_out_of_the_folder_or_is_one_of_inboxds_own(template: str, expected: bytes) -> None:
    (found,) = names(template, b".inboxd-", source=Hostile()).values()

    assert found == expected.replace(b"/.inboxd", b"/_.inboxd")


def test_a_template_that_leaves_nothing_leaves_the_outputs_own_name() -> None:
    class Bare(Source):
        filename = relative_path = "noext"

    assert names("{suffix}", b"x/a.txt", source=Bare()) == {b"x/a.txt": b"a.txt"}
    assert names("{folder}", b"a.txt", source=Bare()) == {b"a.txt": b"a.txt"}


def test_a_byte_that_is_not_utf8_stays_the_same() -> None:
    class Source2(Source):
        filename = b"caf\xe9.tif".decode("utf-8", "surrogateescape")

    assert names("{stem}.{output}", b"\xff", source=Source2()) == {b"\xff": b"caf\xe9.\xff"}
