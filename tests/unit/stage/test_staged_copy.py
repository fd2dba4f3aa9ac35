"""What a message says of a copy in the store."""

import os
from hashlib import sha256

import pytest

from inboxd.stage.staged_copy import BLOCK_BYTES, BLOCKS_MAX, StagedCopy, block_bytes_of, copy_from_wire, copy_to_wire

SIZE = BLOCK_BYTES + 1
COPY = StagedCopy("0123456789abcdef", BLOCK_BYTES, os.urandom(64), "0" * 64)


def test_a_copy_is_the_same_after_its_message() -> None:
    assert copy_from_wire(copy_to_wire(COPY), SIZE) == COPY
    assert copy_from_wire(copy_to_wire(None), SIZE) is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("token", "../../../etc/abc"), ("token", "0123456789abcde/"), ("token", "0123456789ABCDEF"), ("token", ""),
        ("token", 1), ("block_bytes", 0), ("block_bytes", -1), ("block_bytes", 1 << 60), ("block_bytes", "8"),
        ("block_bytes", BLOCK_BYTES + 1),
        ("digests", b""), ("digests", b"x" * 65), ("digests", "x" * 64), ("sha256", 1),
    ],
)  # fmt: skip
def test_a_malformed_copy_is_refused(key: str, value: object) -> None:
    wire = copy_to_wire(COPY)
    assert wire is not None

    with pytest.raises((TypeError, ValueError)):
        copy_from_wire({**wire, key: value}, SIZE)


@pytest.mark.parametrize("wire", [[], "x", 1, {}, {"token": "0123456789abcdef"}])
def test_what_is_no_copy_is_refused(wire: object) -> None:
    with pytest.raises((TypeError, ValueError, KeyError)):
        copy_from_wire(wire, SIZE)


def test_a_huge_file_has_larger_blocks_so_that_its_digests_fit_a_message() -> None:
    assert block_bytes_of(0) == block_bytes_of(BLOCK_BYTES * BLOCKS_MAX) == BLOCK_BYTES
    for size in (BLOCK_BYTES * BLOCKS_MAX + 1, 10**14):
        assert -(-size // block_bytes_of(size)) <= BLOCKS_MAX


def test_a_block_is_known_by_its_own_digest() -> None:
    first, second = os.urandom(100), os.urandom(10)
    copy = StagedCopy("0" * 16, 100, sha256(first).digest() + sha256(second).digest(), "")

    assert copy.matches(0, first)
    assert copy.matches(1, second)
    assert not copy.matches(1, first)
    assert not copy.matches(2, b"")
