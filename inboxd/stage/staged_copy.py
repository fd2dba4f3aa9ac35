"""What a message says about the copy of a file in the store: its name there, and a SHA-256 for each block of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

BLOCK_BYTES, BLOCKS_MAX = 8 * 1024 * 1024, 4096
"""Size of a block, which is read and checked as a whole, and their maximum number: the blocks of larger files are larger."""
DIGEST_BYTES = 32

_TOKEN = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class StagedCopy:
    """A copy of a file in the store.

    ``token`` is its name in the parcel's folder, ``block_bytes`` the size of a block but the last one, ``digests`` the SHA-256
    of each block, one after the other, and ``sha256`` that of the whole file, in hex.
    """

    token: str
    block_bytes: int
    digests: bytes
    sha256: str

    def digest_of(self, block: int) -> bytes:
        """Return the SHA-256 of a block, by its number from 0."""
        return self.digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]

    def matches(self, block: int, content: bytes) -> bool:
        """Return whether the content of a block is what was uploaded."""
        return sha256(content).digest() == self.digest_of(block)


def block_bytes_of(size: int) -> int:
    """Return the size of the blocks of a file of ``size`` bytes: so large that they are few enough for a message."""
    return max(BLOCK_BYTES, -(-size // BLOCKS_MAX))


def copy_to_wire(copy: StagedCopy | None) -> dict[str, Any] | None:
    """Return a copy as a map for msgpack."""
    if copy is None:
        return None
    return {"token": copy.token, "block_bytes": copy.block_bytes, "digests": copy.digests, "sha256": copy.sha256}


def copy_from_wire(wire: object, size: int) -> StagedCopy | None:
    """Return the copy of a file of ``size`` bytes from a message. Raises TypeError, ValueError or KeyError if it is bad."""
    if wire is None:
        return None
    if not isinstance(wire, Mapping):
        raise TypeError("a staged copy is a map")
    token, block_bytes, digests, whole = (wire[key] for key in ("token", "block_bytes", "digests", "sha256"))
    if not (isinstance(token, str) and _TOKEN.fullmatch(token) and isinstance(whole, str)):
        raise ValueError("the token or the SHA-256 of a staged copy is malformed")
    if not isinstance(block_bytes, int) or block_bytes != block_bytes_of(size):
        raise ValueError("the blocks of a staged copy do not fit its size")
    if not isinstance(digests, bytes) or len(digests) != -(-size // block_bytes) * DIGEST_BYTES:
        raise ValueError("the digests of a staged copy do not fit its size")
    return StagedCopy(token, block_bytes, digests, whole)
