"""Payloads: the round trip through msgpack, and invalid messages."""

import dataclasses
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from inboxd.errors import InvalidMessage
from inboxd.messaging.payload import FILES_MAX, INLINE_BYTES_MAX, FilePart, Parcel, parcel_from_wire, parcel_to_wire
from inboxd.stage.staged_copy import BLOCK_BYTES, StagedCopy

ID = f"{1_700_000_000_000:012x}" + "ab" * 8

INLINE = FilePart(
    b"x/caf\xe9.pdf", "application/pdf", 3, {"id": "i1", "mtime": 1.5, "claimed-at": 2.5, "sha256": "ff"}, b"\0\xffa"
)
BY_REFERENCE = FilePart(b"large.bin", "application/octet-stream", 1 << 40, {"id": "i2", "mtime": 1.5, "claimed-at": 2.5}, None)
STAGED = dataclasses.replace(
    BY_REFERENCE, content_length=1000, staged=StagedCopy("0123456789abcdef", BLOCK_BYTES, b"x" * 32, "ff")
)
PARCEL = Parcel(ID, "drop", "here", b"/srv/\xff", (INLINE, BY_REFERENCE, STAGED))


def wire(**changes: object) -> dict[str, Any]:
    return parcel_to_wire(PARCEL) | changes


def with_part(**changes: object) -> dict[str, Any]:
    return wire(files=[wire()["files"][0] | changes])


def without(table: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != key}


def test_a_parcel_survives_msgpack() -> None:
    received = msgpack.unpackb(msgpack.packb(parcel_to_wire(PARCEL)))

    assert parcel_from_wire(received) == PARCEL


def test_an_empty_file_is_inline_with_no_bytes() -> None:
    empty = dataclasses.replace(INLINE, content_length=0, stream=b"")

    parcel = parcel_from_wire(parcel_to_wire(dataclasses.replace(PARCEL, files=(empty,))))

    assert parcel.files[0].stream == b""
    assert not parcel.by_reference


def test_a_parcel_has_its_inline_bytes_and_whether_a_file_goes_by_reference() -> None:
    inline_only = dataclasses.replace(PARCEL, files=(INLINE, INLINE))

    assert (PARCEL.inline_bytes, PARCEL.by_reference) == (3, True)
    assert (inline_only.inline_bytes, inline_only.by_reference) == (6, False)


def test_a_staged_file_goes_by_reference_no_more() -> None:
    staged_only = dataclasses.replace(PARCEL, files=(INLINE, STAGED))

    assert not staged_only.by_reference


def test_a_message_of_an_earlier_release_has_no_staged_copy() -> None:
    files = [without(file, "staged") for file in wire()["files"]]

    assert all(part.staged is None for part in parcel_from_wire(wire(files=files)).files)


def test_unknown_keys_are_ignored() -> None:
    assert parcel_from_wire(wire(added="later")) == PARCEL


@pytest.mark.parametrize("message", [None, 1, "parcel", b"parcel", [], [1], {}, {"version": None}], ids=repr)
def test_a_value_that_is_not_a_parcel_is_refused(message: object) -> None:
    with pytest.raises(InvalidMessage, match="payload version 1"):
        parcel_from_wire(message)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]], ids=repr)
def test_another_version_is_refused_with_a_remedy(version: object) -> None:
    with pytest.raises(InvalidMessage, match="run one release of inboxd"):
        parcel_from_wire(wire(version=version))


@pytest.mark.parametrize("key", ["parcel", "inbox", "host", "root", "files"])
def test_a_missing_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidMessage, match=f"malformed parcel: key '{key}' is missing"):
        parcel_from_wire(without(wire(), key))


@pytest.mark.parametrize("key", ["filename", "content_type", "content_length", "headers", "stream"])
def test_a_missing_key_of_a_file_is_refused(key: str) -> None:
    with pytest.raises(InvalidMessage, match=f"malformed parcel: key '{key}' is missing"):
        parcel_from_wire(wire(files=[without(wire()["files"][0], key)]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parcel", 5),
        ("parcel", ID.encode()),
        ("inbox", None),
        ("host", b"here"),
        ("root", "/srv"),
        ("root", None),
        ("files", None),
        ("files", {}),
        ("files", (INLINE,)),
        ("files", [None]),
        ("files", [[]]),
        ("files", ["file"]),
    ],
    ids=repr,
)
def test_a_value_of_the_wrong_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidMessage, match=r"malformed parcel: expected .*, got "):
        parcel_from_wire(wire(**{key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("filename", "a.pdf"),
        ("filename", None),
        ("filename", 7),
        ("content_type", b"text/plain"),
        ("content_length", "3"),
        ("content_length", 3.0),
        ("headers", []),
        ("headers", None),
        ("stream", "abc"),
        ("stream", [1, 2, 3]),
    ],
    ids=repr,
)
def test_a_files_value_of_the_wrong_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidMessage, match=r"malformed parcel: expected .*, got "):
        parcel_from_wire(with_part(**{key: value}))


@pytest.mark.parametrize("parcel", ["", "abc", ID[:-1], ID + "0", ID.upper(), "../" + ID[3:], ID[:-1] + "/"], ids=repr)
def test_an_invalid_parcel_id_is_refused(parcel: str) -> None:
    with pytest.raises(InvalidMessage, match="invalid parcel: id"):
        parcel_from_wire(wire(parcel=parcel))


@pytest.mark.parametrize(
    "filename",
    [b"", b".", b"..", b"/", b"/etc/passwd", b"../a", b"a/../../b", b"a/..", b"./a", b"a//b", b"a/", b"a\0b", b"a\0/b"],
    ids=repr,
)
def test_a_filename_that_leads_outside_the_inbox_is_refused(filename: bytes) -> None:
    with pytest.raises(InvalidMessage, match="not a path below an inbox"):
        parcel_from_wire(with_part(filename=filename))


@pytest.mark.parametrize("length", [0, 2, 4, -3])
def test_a_stream_of_another_length_than_content_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidMessage, match=f"3 bytes, but content_length is {length}"):
        parcel_from_wire(with_part(content_length=length))


def test_a_file_without_an_id_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="id"):
        parcel_from_wire(with_part(headers=without(INLINE.headers, "id")))


def test_a_parcel_without_files_is_refused() -> None:
    with pytest.raises(InvalidMessage, match=f"0 files of at most {FILES_MAX}"):
        parcel_from_wire(wire(files=[]))


@pytest.mark.parametrize(("count", "is_refused"), [(FILES_MAX, False), (FILES_MAX + 1, True)])
def test_a_parcel_with_too_many_files_is_refused(count: int, is_refused: bool) -> None:
    message = wire(files=[wire()["files"][1]] * count)

    assert raises_invalid_message(lambda: parcel_from_wire(message)) is is_refused


@pytest.mark.parametrize(("size", "is_refused"), [(INLINE_BYTES_MAX // 2, False), (INLINE_BYTES_MAX // 2 + 1, True)])
def test_a_parcel_with_too_many_inline_bytes_is_refused(size: int, is_refused: bool) -> None:
    part = wire()["files"][0] | {"stream": bytes(size), "content_length": size}

    assert raises_invalid_message(lambda: parcel_from_wire(wire(files=[part, part]))) is is_refused


def raises_invalid_message(read: Callable[[], object]) -> bool:
    try:
        read()
    except InvalidMessage:
        return True
    return False


ANY_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.binary(max_size=9) | st.just(ID),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "filename": st.binary(max_size=9) | ANY_VALUES,
        "content_type": st.text(max_size=9) | ANY_VALUES,
        "content_length": st.integers(0, 9) | ANY_VALUES,
        "headers": st.just({"id": "i"}) | ANY_VALUES,
        "stream": st.none() | st.binary(max_size=9) | ANY_VALUES,
    },
)
MESSAGES = ANY_VALUES | st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "parcel": st.just(ID) | ANY_VALUES,
        "inbox": st.text(max_size=9) | ANY_VALUES,
        "host": st.text(max_size=9) | ANY_VALUES,
        "root": st.binary(max_size=9) | ANY_VALUES,
        "files": st.lists(PARTS | ANY_VALUES, max_size=3) | ANY_VALUES,
    },
)


@hypothesis_settings(deadline=None, max_examples=400)
@given(MESSAGES)
def test_any_message_is_read_or_raises_invalid_message(message: object) -> None:
    try:
        parcel = parcel_from_wire(message)
    except InvalidMessage:
        return

    assert parcel_from_wire(parcel_to_wire(parcel)) == parcel
    assert parcel.id == ID


@hypothesis_settings(deadline=None)
@given(st.binary(min_size=1, max_size=30), st.binary(max_size=30), st.text(max_size=9), st.floats(allow_nan=False))
def test_any_file_survives_msgpack(name: bytes, content: bytes, content_type: str, mtime: float) -> None:
    path = name.replace(b"/", b"_").replace(b"\0", b"_").replace(b".", b"_")
    part = FilePart(path, content_type, len(content), {"id": "i", "mtime": mtime}, content)
    parcel = dataclasses.replace(PARCEL, files=(part,))

    assert parcel_from_wire(msgpack.unpackb(msgpack.packb(parcel_to_wire(parcel)))) == parcel
